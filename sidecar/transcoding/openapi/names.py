"""Names in a document: component schemas, tags and operations."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from itertools import count
from typing import NamedTuple, TypeAlias

from google.protobuf.descriptor import (
    Descriptor,
    EnumDescriptor,
    MethodDescriptor,
    ServiceDescriptor,
)

from sidecar.transcoding.errors import SchemaError


class Use(Enum):
    """The use of a type, which decides on its schema.

    A `RESPONSE` has every field without presence. An `ERROR` has only the fields that are not
    empty. The value is the suffix of the name of a type that has another use as well: no name in
    a schema has a hyphen.
    """

    RESPONSE = ""
    ERROR = "-Error"
    REQUEST = "-Input"
    ENUM = "-Enum"  # the same in requests and responses


class Key(NamedTuple):
    """A component schema: a type, and its use."""

    type: Descriptor | EnumDescriptor
    use: Use


# Component schemas and their names.
Names: TypeAlias = Mapping[Key, str]


def choose(keys: Iterable[Key]) -> Names:
    """Return the name of each schema.

    It is the name of the type inside its package, or the full name where types share that name.
    Raises SchemaError if types of two descriptor pools share a full name.
    """
    order = list(Use)
    sorted_keys = sorted(keys, key=lambda key: (order.index(key.use), key.type.full_name))
    types = {key.type for key in sorted_keys}
    full_names = Counter(type_.full_name for type_ in types)
    doubles = [name for name, number in full_names.items() if number > 1]
    if doubles:
        raise SchemaError([f"{name}: two types have this name" for name in sorted(doubles)])
    short_names = Counter(map(_short_name, types))
    named: set[str] = set()
    names: dict[Key, str] = {}
    for key in sorted_keys:
        short = _short_name(key.type)
        name = short if short_names[short] == 1 else key.type.full_name
        names[key] = name if name not in named else name + key.use.value
        named.add(name)
    return names


def _short_name(type_: Descriptor | EnumDescriptor) -> str:
    """Return the name without the package; a nested type keeps the names around its own."""
    package = type_.file.package
    return type_.full_name.removeprefix(f"{package}.") if package else type_.full_name


def tags(services: Iterable[ServiceDescriptor]) -> Mapping[ServiceDescriptor, str]:
    """Return the tag of each service: its name, or the full name where services share that name."""
    services = list(services)
    shared = Counter(service.name for service in services)
    return {
        service: service.name if shared[service.name] == 1 else service.full_name
        for service in services
    }


def operation_ids(
    methods: Sequence[MethodDescriptor], tags: Mapping[ServiceDescriptor, str]
) -> Sequence[str]:
    """Return the operationId of each operation. `methods` are the methods of the operations.

    It is the name of the method, after its tag if methods of other services have that name. The
    second operation of a method and all further ones have a number. No two ids are the same.
    """
    shared = Counter(method.name for method in dict.fromkeys(methods))
    chosen: dict[int, str] = {}
    taken: set[str] = set()
    firsts = {method: at for at, method in reversed(list(enumerate(methods)))}
    # The first operations choose first, so that a number takes no name from another method.
    for at in sorted(range(len(methods)), key=lambda at: firsts[methods[at]] != at):
        name = _operation_name(methods[at], tags, is_shared=shared[methods[at].name] > 1)
        numbered = (f"{name}_{number}" for number in count(2))
        is_free = name not in taken
        chosen[at] = name if is_free else next(each for each in numbered if each not in taken)
        taken.add(chosen[at])
    return [chosen[at] for at in range(len(methods))]


def _operation_name(
    method: MethodDescriptor, tags: Mapping[ServiceDescriptor, str], *, is_shared: bool
) -> str:
    name: str = method.name[:1].lower() + method.name[1:]
    tag = tags[method.containing_service].replace(".", "_")
    return f"{tag}_{name}" if is_shared else name
