"""Metrics for Prometheus at `GET /metrics`: what is observed, what is read, and their page."""
