"""Tests of the alerts and the dashboard in `deploy/`, with promtool and Prometheus."""
