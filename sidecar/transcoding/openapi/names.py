"""Names in a document: component schemas, tags and operations."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple
from enum import Enum
from itertools import chain, count
from typing import Any, NamedTuple, TypeAlias

from google.protobuf.descriptor import (
    Descriptor,
    EnumDescriptor,
    MethodDescriptor,
    ServiceDescriptor,
)

from sidecar.transcoding.errors import SchemaError
from sidecar.transcoding.openapi.value_schemas import Schema
from sidecar.transcoding.protojson.json_format import JsonFormat
from sidecar.transcoding.strict_json import JsonTree


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
    """A component schema: a type, its use, and the format of its JSON."""

    type: Descriptor | EnumDescriptor
    use: Use
    json_format: JsonFormat


# Component schemas and their names.
Names: TypeAlias = Mapping[Key, str]


class Components:
    """The component schemas of a document.

    Until `resolve`, a reference holds the key of a schema instead of its name, because names can be
    chosen only when all schemas are known.
    """

    def __init__(self) -> None:
        self._schemas: dict[Key, Schema] = {}
        self._incomplete: list[tuple[Key, Callable[[Key], Schema]]] = []

    def reference(self, key: Key, build: Callable[[Key], Schema]) -> Schema:
        """Return a reference to the schema of `key`, which `build` makes later."""
        if key not in self._schemas:
            self._schemas[key] = {}
            self._incomplete.append((key, build))
        return {"$ref": _placeholder(key)}

    def complete(self) -> None:
        """Build all schemas that have a reference."""
        while self._incomplete:  # a loop, because the types may form a long chain
            key, build = self._incomplete.pop()
            self._schemas[key] = build(key)

    def resolve(self, tree: Schema) -> tuple[Schema, Schema]:
        """Return `tree` and the component schemas, which must be complete, with their names."""
        chosen = choose(self._schemas)
        references = {_placeholder(key): f"#/components/schemas/{chosen[key]}" for key in chosen}
        named = {chosen[key]: schema for key, schema in self._schemas.items()}
        ordered: Schema = {name: named[name] for name in sorted(named)}
        return _rename(tree, references), _rename(ordered, references)


def _placeholder(key: Key) -> str:
    return f"{key.type.full_name} {key.use.name} {key.json_format}"


def _rename(tree: JsonTree, references: Mapping[str, str]) -> Any:
    """Return a copy of `tree` with the references that have names."""
    if isinstance(tree, list):
        return [_rename(item, references) for item in tree]
    if not isinstance(tree, dict):
        return tree
    return {
        name: references.get(member, member)
        if name == "$ref" and isinstance(member, str)
        else _rename(member, references)
        for name, member in tree.items()
    }


def choose(keys: Iterable[Key]) -> Names:
    """Return the name of each schema.

    It is the name of the type inside its package, or the full name where types share that name.
    A type in another format has a number after its name. Raises SchemaError if types of two
    descriptor pools share a full name.
    """
    order = list(Use)
    sorted_keys = sorted(
        keys,
        key=lambda key: (order.index(key.use), astuple(key.json_format), key.type.full_name),
    )
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
        of_use = name + key.use.value
        candidates = chain((name, of_use), (f"{of_use}-{number}" for number in count(2)))
        names[key] = next(each for each in candidates if each not in named)
        named.add(names[key])
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
