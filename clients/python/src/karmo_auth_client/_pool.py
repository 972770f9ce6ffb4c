"""Descriptor pool of the generated code, apart from the default pool of the process.

The default pool refuses a second version of a file or message name. The process may have one
already: from the wheel of the server, or from code that its owner generated. `make generate`
makes the generated code import this module in place of `google.protobuf.descriptor_pool`.
"""

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto


class _OwnPool:
    """A pool that takes files of Google, when one is imported, from the default pool."""

    def __init__(self) -> None:
        self._pool = descriptor_pool.DescriptorPool()

    def AddSerializedFile(self, data: bytes) -> FileDescriptor:  # noqa: N802 as generated code calls it
        """Add the file whose serialized FileDescriptorProto is `data`, after its imports."""
        for name in FileDescriptorProto.FromString(data).dependency:
            self._add_import(name)
        self._pool.AddSerializedFile(data)
        return self._pool.FindFileByName(FileDescriptorProto.FromString(data).name)

    def _add_import(self, name: str) -> None:
        try:
            self._pool.FindFileByName(name)
        except KeyError:
            # Generated code imports the Python modules of its imports first, and our own files
            # are in this pool then. So this one is not ours.
            self.AddSerializedFile(descriptor_pool.Default().FindFileByName(name).serialized_pb)


_POOL = _OwnPool()


def Default() -> _OwnPool:  # noqa: N802 as generated code calls it
    """Return the pool."""
    return _POOL
