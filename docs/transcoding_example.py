"""Serve the methods of a descriptor set over HTTP, and call a gRPC server for them."""

from pathlib import Path

import grpc
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool

from sidecar.transcoding import Options, Transcoder


def app() -> Transcoder:
    """Return the application. Must be called while an event loop runs."""
    pool, image = DescriptorPool(), Path("generated/karmo/descriptors.binpb")
    for file in FileDescriptorSet.FromString(image.read_bytes()).file:
        pool.AddSerializedFile(file.SerializeToString())
    service = pool.FindServiceByName("karmo.auth.v1.TokenService")
    channel = grpc.aio.insecure_channel(
        "127.0.0.1:50051", options=[("grpc.max_reconnect_backoff_ms", 1000)]
    )
    options = Options(metadata_headers=frozenset({"authorization"}))
    return Transcoder([service], channel, options=options)
