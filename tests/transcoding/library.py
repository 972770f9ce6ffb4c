"""A neutral schema: a library whose methods each test chooses, in a descriptor pool of its own.

The messages are in library.proto. What a test makes of them belongs to the test.
"""

import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from google.api import annotations_pb2
from google.api.http_pb2 import HttpRule
from google.protobuf.descriptor import Descriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet, MethodDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

PACKAGE, SERVICE = "library.v1", "Library"
_HTTP: Any = annotations_pb2.http  # its stub types the extension as a plain FieldDescriptor
_HERE = Path(__file__).parent


@cache
def compiled(source: str = "library.proto") -> bytes:
    """Return `source`, and all that it imports, as a serialized FileDescriptorSet."""
    googleapis = Path(annotations_pb2.__file__).parents[2]
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "library.binpb"
        protoc = (sys.executable, "-m", "grpc_tools.protoc", f"-I{_HERE}", f"-I{googleapis}")
        written = ("--include_imports", f"--descriptor_set_out={image}", source)
        subprocess.run([*protoc, *written], check=True)
        return image.read_bytes()


def image(*methods: MethodDescriptorProto) -> FileDescriptorSet:
    """Return the schema with a service library.v1.Library of `methods`."""
    files = FileDescriptorSet.FromString(compiled())
    files.file[-1].service.add(name=SERVICE, method=methods)
    return files


def service(*methods: MethodDescriptorProto) -> ServiceDescriptor:
    """Return the service library.v1.Library of `methods`."""
    (only,) = services_in(image(*methods))
    return only


def services_in(files: FileDescriptorSet) -> list[ServiceDescriptor]:
    """Return the services of the last of `files`, in a pool of their own."""
    pool = DescriptorPool()
    for file in files.file:
        pool.AddSerializedFile(file.SerializeToString())
    return [pool.FindServiceByName(f"{PACKAGE}.{each.name}") for each in files.file[-1].service]


def method(
    name: str,
    rule: HttpRule | None = None,
    *,
    takes: str = "Shelf",
    gives: str = "Receipt",
    streams: str = "",
) -> MethodDescriptorProto:
    """Return a method; `streams` names the sides that stream: "client", "server" or both.

    `takes` and `gives` are messages of ours, or full names such as google.api.HttpBody.
    """
    made = MethodDescriptorProto(
        name=name,
        input_type=_type(takes),
        output_type=_type(gives),
        client_streaming="client" in streams,
        server_streaming="server" in streams,
    )
    if rule is not None:
        made.options.Extensions[_HTTP].CopyFrom(rule)
    return made


def _type(name: str) -> str:
    return f".{name}" if "." in name else f".{PACKAGE}.{name}"


def post(path: str) -> HttpRule:
    """Return the rule that there is most: POST, the whole message as the body."""
    return HttpRule(post=path, body="*")


def descriptor(name: str, of: ServiceDescriptor | None = None) -> Descriptor:
    """Return the descriptor of a message, in the pool of the service that it is `of`."""
    found: Descriptor = (of or service()).file.message_types_by_name[name]
    return found


def make(name: str, /, **members: object) -> Message:
    """Return a message by its name, in a pool of its own."""
    return GetMessageClass(descriptor(name))(**members)
