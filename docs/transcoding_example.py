"""Serves over HTTP what a descriptor set describes and a gRPC server somewhere implements."""

from pathlib import Path

import grpc
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool

from sidecar.transcoding import Options, Transcoder


def app() -> Transcoder:
    """Make the application; called where an event loop runs."""
    pool, image = DescriptorPool(), Path("generated/karmo/descriptors.binpb")
    for file in FileDescriptorSet.FromString(image.read_bytes()).file:
        pool.AddSerializedFile(file.SerializeToString())
    service = pool.FindServiceByName("karmo.auth.v1.TokenService")
    channel = grpc.aio.insecure_channel("127.0.0.1:50051")
    options = Options(metadata_headers=frozenset({"authorization"}))
    return Transcoder([service], channel, options=options)
