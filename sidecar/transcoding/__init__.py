"""Serves unary gRPC methods over HTTP by their ``google.api.http`` rules."""
