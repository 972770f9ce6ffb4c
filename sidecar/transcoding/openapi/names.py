"""Names of the component schemas: short where they can be, and stable."""

from collections import Counter
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import NamedTuple, TypeAlias

from google.protobuf.descriptor import Descriptor, EnumDescriptor

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
    count = Counter(map(_short_name, types))
    named: set[str] = set()
    names: dict[Key, str] = {}
    for key in sorted_keys:
        short = _short_name(key.type)
        name = short if count[short] == 1 else key.type.full_name
        names[key] = name if name not in named else name + key.use.value
        named.add(name)
    return names


def _short_name(type_: Descriptor | EnumDescriptor) -> str:
    """Return the name without the package; a nested type keeps the names around its own."""
    package = type_.file.package
    return type_.full_name.removeprefix(f"{package}.") if package else type_.full_name
