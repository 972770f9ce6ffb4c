"""Transcoding of HTTP requests to gRPC methods by their ``google.api.http`` rules."""

from sidecar.transcoding.errors import RequestError, SchemaError, Violation
from sidecar.transcoding.options import Options
from sidecar.transcoding.protojson.json_format import JsonFormat
from sidecar.transcoding.transcoder import RenderError, Transcoder

__all__ = [
    "JsonFormat",
    "Options",
    "RenderError",
    "RequestError",
    "SchemaError",
    "Transcoder",
    "Violation",
]
