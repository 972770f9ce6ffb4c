"""Services of schemas that a test writes as text."""

import subprocess
import sys
import tempfile
from pathlib import Path

from google.api import annotations_pb2
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool

_HEAD = """
import "google/api/annotations.proto";
import "google/api/field_behavior.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/wrappers.proto";
"""


def services_of(*sources: str) -> list[ServiceDescriptor]:
    """Return the services of `sources`, each the text of a file after its imports.

    A source begins with its package; its syntax is proto3, and the files are in one pool.
    """
    googleapis = Path(annotations_pb2.__file__).parents[2]
    with tempfile.TemporaryDirectory() as folder:
        names = [f"source{index}.proto" for index in range(len(sources))]
        for name, source in zip(names, sources, strict=True):
            text = f'syntax = "proto3";\n{_HEAD}\n{source}'
            (Path(folder) / name).write_text(text, "utf-8")
        image = Path(folder) / "image.binpb"
        protoc = (sys.executable, "-m", "grpc_tools.protoc", f"-I{folder}", f"-I{googleapis}")
        written = ("--include_imports", f"--descriptor_set_out={image}", *names)
        subprocess.run([*protoc, *written], check=True, stderr=subprocess.DEVNULL)
        files = FileDescriptorSet.FromString(image.read_bytes())
    pool = DescriptorPool()
    for file in files.file:
        pool.AddSerializedFile(file.SerializeToString())
    return [
        pool.FindServiceByName(f"{file.package}.{service.name}")
        for file in files.file
        if file.name in names
        for service in file.service
    ]
