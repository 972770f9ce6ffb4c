"""Serves unary gRPC methods over HTTP by their ``google.api.http`` rules."""

from sidecar.transcoding.errors import Fault, RequestError, SchemaError
from sidecar.transcoding.options import Options
from sidecar.transcoding.transcoder import RenderError, Transcoder

__all__ = ["Fault", "Options", "RenderError", "RequestError", "SchemaError", "Transcoder"]
