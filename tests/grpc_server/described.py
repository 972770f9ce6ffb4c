"""The schema in described.proto, compiled, and where each of its symbols is."""

from collections.abc import Iterable
from pathlib import Path

import grpc_tools  # type: ignore[import-untyped] # has none
from google.protobuf.descriptor_database import DescriptorDatabase
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_tools import protoc

FILE, DURATION = "described.proto", "google/protobuf/duration.proto"
_FOLDER = Path(__file__).parent
_INCLUDED = Path(str(grpc_tools.__file__)).parent / "_proto"
# Every symbol of described.proto, by its kind.
SYMBOLS = {
    "message": "described.v1.Outer",
    "nested message": "described.v1.Outer.Inner",
    "message of a map": "described.v1.Outer.ByNameEntry",
    "field": "described.v1.Outer.plain",
    "field of a nested message": "described.v1.Outer.ByNameEntry.key",
    "field of a oneof": "described.v1.Outer.one",
    "oneof": "described.v1.Outer.choice",
    "enum": "described.v1.Level",
    "enum value": "described.v1.LEVEL_NONE",
    "enum value as in grpcurl": "described.v1.Level.LEVEL_NONE",
    "nested enum": "described.v1.Outer.Nested",
    "nested enum value": "described.v1.Outer.NESTED_NONE",
    "extension": "described.v1.level",
    "nested extension": "described.v1.Outer.Inner.inside",
    "service": "described.v1.Describer",
    "method": "described.v1.Describer.Describe",
}


def compiled(folder: Path) -> FileDescriptorSet:
    """Compile the schema with its imports and its comments; `folder` is for the output."""
    image = folder / "described.binpb"
    flags = ("--include_imports", "--include_source_info", f"--descriptor_set_out={image}")
    assert protoc.main(("", f"-I{_FOLDER}", f"-I{_INCLUDED}", *flags, FILE)) == 0
    return FileDescriptorSet.FromString(image.read_bytes())


def pool_of(files: Iterable[bytes]) -> DescriptorPool:
    """Return a pool of serialized files, which loads each when it is needed."""
    database = DescriptorDatabase()
    for file in files:
        database.Add(FileDescriptorProto.FromString(file))
    return DescriptorPool(database)
