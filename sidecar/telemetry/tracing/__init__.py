"""Traces by OpenTelemetry, in the extra `otel`; the only users of its packages."""
