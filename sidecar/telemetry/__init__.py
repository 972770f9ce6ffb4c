"""Telemetry: the counts of all parts at `GET /state`, metrics at `GET /metrics`, and traces."""
