"""The schema that reflection describes: its files, and the file of each symbol.

Everything is indexed at start, so that a look-up costs the same whatever a client asks.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from importlib.resources import files
from itertools import chain
from types import MappingProxyType
from typing import Any

from google.protobuf.descriptor import FileDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)

# The published schema. It also has the messages in the details of errors, which no method names.
_PUBLISHED = files("karmo") / "descriptors.binpb"


def read_published() -> FileDescriptorSet:
    """Return the published schema."""
    return FileDescriptorSet.FromString(_PUBLISHED.read_bytes())


class Schema:
    """The files of `published`, then those of `services` that are not among them.

    * `services`: the full names of the services, sorted.
    * `files`: the files by name, each a serialized FileDescriptorProto.
    * `symbols`: the name of the file that defines each symbol, by its full name. Symbols are
      messages, enums, services, methods, fields, oneofs, enum values and extensions.
    * `extensions`: the name of the file that defines each extension, by the full name of the
      extended message and by number. Every message has an entry.
    """

    def __init__(
        self, services: Collection[ServiceDescriptor], published: FileDescriptorSet
    ) -> None:
        self.services = tuple(sorted(service.full_name for service in services))
        protos = _merge(services, published)
        self.files: Mapping[str, bytes] = MappingProxyType(
            {name: proto.SerializeToString() for name, proto in protos.items()}
        )
        self._imports = {name: tuple(proto.dependency) for name, proto in protos.items()}
        symbols: dict[str, str] = {}
        extensions: dict[str, dict[int, str]] = {}
        for symbol, element, name in _elements(protos):
            symbols[symbol] = name
            if isinstance(element, DescriptorProto):
                extensions.setdefault(symbol, {})
            elif isinstance(element, FieldDescriptorProto) and element.extendee:
                extended = extensions.setdefault(element.extendee.removeprefix("."), {})
                extended[element.number] = name
        self.symbols: Mapping[str, str] = MappingProxyType(symbols)
        self.extensions: Mapping[str, Mapping[int, str]] = MappingProxyType(extensions)

    def files_for(self, name: str, sent: set[str]) -> list[bytes]:
        """Return the named file, serialized, and its imports that are not in `sent`.

        Imports of imports are included. Adds the names of the returned files to `sent`. Raises
        KeyError for an unknown file.
        """
        answer = [self.files[name]]
        sent.add(name)
        needed = list(self._imports[name])
        while needed:
            name = needed.pop()
            if name not in sent:
                sent.add(name)
                answer.append(self.files[name])
                needed += self._imports[name]
        return answer


def _merge(
    services: Iterable[ServiceDescriptor], published: FileDescriptorSet
) -> Mapping[str, FileDescriptorProto]:
    """Return the published files, and those of `services` with their imports, by name."""
    protos = {proto.name: proto for proto in published.file}
    needed: list[FileDescriptor] = [service.file for service in services]
    while needed:
        file = needed.pop()
        if file.name not in protos:
            protos[file.name] = FileDescriptorProto.FromString(file.serialized_pb)
            needed += file.dependencies
    return protos


def _elements(protos: Mapping[str, FileDescriptorProto]) -> Iterator[tuple[str, Any, str]]:
    """Yield the full name of each element, the element, and the name of its file."""
    for name, proto in protos.items():
        elements = chain(proto.message_type, proto.enum_type, proto.service, proto.extension)
        for symbol, element in _walk(proto.package, elements):
            yield symbol, element, name


def _walk(scope: str, elements: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """Yield each element and all elements inside it, with their full names."""
    for element in elements:
        name = f"{scope}.{element.name}" if scope else element.name
        yield name, element
        match element:
            case DescriptorProto():
                inner = (element.field, element.oneof_decl, element.nested_type)
                yield from _walk(name, chain(*inner, element.enum_type, element.extension))
            case EnumDescriptorProto():
                # Values are symbols beside their enum. Tools also ask for <enum>.<value>.
                yield from _walk(scope, element.value)
                yield from _walk(name, element.value)
            case ServiceDescriptorProto():
                yield from _walk(name, element.method)
