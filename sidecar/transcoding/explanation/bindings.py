"""The fields of a request message, each with its value and the part of the HTTP request it is from.

Fields with the standard option `debug_redact` hold secrets; their values are masked.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from sidecar.transcoding.fields import map_entry_of
from sidecar.transcoding.protojson.well_known import ANY, has_own_json
from sidecar.transcoding.protojson.writer import JsonWriter
from sidecar.transcoding.rules import Rule
from sidecar.transcoding.strict_json import JsonTree

MASK = "***"
# Proto names from the request message to a field.
_Names: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """The value of one field, and its source.

    `field` is the dotted path of JSON names. `value` is JSON, in which secrets are MASK.
    """

    field: str
    value: JsonTree
    source: Literal["path", "query", "body"]


def read_bindings(message: Message, rule: Rule) -> tuple[Binding, ...]:
    """Return the fields that `message` has by `rule`, in the order of the schema.

    Fields within a message are listed one by one; a list, a map, a well-known type and an empty
    message are one value. A field without presence that has its default is absent, unless it is
    in the path. A message that is a well-known type is one value without a field.
    Raises ValueError for a message without JSON.
    """
    type_, reader = rule.method.input_type, _Reader(rule)
    tree = JsonWriter().message(type_)(message)
    if has_own_json(type_):
        return (Binding(field="", value=_mask_message(tree, type_), source=reader.source(())),)
    return tuple(reader.read(message, tree))


class _Reader:
    """Reads bindings by one rule."""

    def __init__(self, rule: Rule) -> None:
        self._variables = {tuple(field.name for field in path) for path in rule.variables}
        self._body = None if rule.body is None else tuple(field.name for field in rule.body)

    def read(
        self, message: Any, tree: Any, names: _Names = (), json_names: _Names = ()
    ) -> Iterator[Binding]:
        """Yield the bindings in `message`, to which `names` lead; its JSON is `tree`."""
        type_ = type(message)  # a field may have the name of any method of the message
        given = {field.name: value for field, value in type_.ListFields(message)}
        for field in type_.DESCRIPTOR.fields:
            path, label = (*names, field.name), (*json_names, field.json_name)
            if field.name not in given and path not in self._variables:
                continue
            inner = tree[field.json_name]
            if _has_fields(field):
                inside = list(self.read(given[field.name], inner, path, label))
                yield from inside or [self._bind(path, label, {})]
            else:
                yield self._bind(path, label, _mask(inner, field))

    def _bind(self, names: _Names, json_names: _Names, value: JsonTree) -> Binding:
        return Binding(field=".".join(json_names), value=value, source=self.source(names))

    def source(self, path: _Names) -> Literal["path", "query", "body"]:
        """Return the source of the field at `path`; that of the whole message for ()."""
        if path in self._variables or (not path and self._variables):
            return "path"
        is_body = self._body is not None and path[: len(self._body)] == self._body
        return "body" if is_body else "query"


def _has_fields(field: FieldDescriptor) -> bool:
    """Whether the value of `field` is listed as the fields in it."""
    type_ = field.message_type
    is_message = type_ is not None and not field.is_repeated and not has_own_json(type_)
    return is_message and not _is_secret(field)


def _is_secret(field: FieldDescriptor) -> bool:
    return bool(field.GetOptions().debug_redact)


def _mask(tree: Any, field: FieldDescriptor) -> JsonTree:
    """Return `tree`, the JSON of the value of `field`, with MASK in place of each secret."""
    if _is_secret(field):
        return MASK
    entry = map_entry_of(field)
    if entry is not None:
        of_value = entry.fields_by_name["value"]
        return {key: _mask(value, of_value) for key, value in tree.items()}
    if field.message_type is None:
        return tree  # type: ignore[no-any-return]  # scalars, which the writer has made
    if field.is_repeated:
        return [_mask_message(each, field.message_type) for each in tree]
    return _mask_message(tree, field.message_type)


def _mask_message(tree: Any, type_: Descriptor) -> JsonTree:
    if type_.full_name == ANY and tree:
        return _mask_any(tree, type_)
    if has_own_json(type_):
        return tree  # type: ignore[no-any-return]  # it has no fields of a schema
    return _mask_members(tree, type_.fields)


def _mask_any(tree: Any, type_: Descriptor) -> JsonTree:
    """Return the JSON of a google.protobuf.Any with MASK for each secret in its message."""
    name = tree["@type"].rpartition("/")[2]
    held = type_.file.pool.FindMessageTypeByName(name)  # the binder has found it too
    if has_own_json(held):
        return {**tree, "value": _mask_message(tree["value"], held)}
    return _mask_members(tree, held.fields)


def _mask_members(tree: Any, fields: Sequence[FieldDescriptor]) -> JsonTree:
    by_name = {field.json_name: field for field in fields}
    return {
        name: _mask(value, by_name[name]) if name in by_name else value
        for name, value in tree.items()
    }
