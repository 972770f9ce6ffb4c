"""Metrics of the sidecar, for Prometheus: what is observed, what is read, and their page."""
