"""Fields of a message that queries and forms can set, each by its dotted name."""

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from sidecar.transcoding.openapi.field_options import is_output_only, is_required_in_request
from sidecar.transcoding.protojson.structs import MAX_DEPTH
from sidecar.transcoding.protojson.well_known import has_text, parent_type
from sidecar.transcoding.rules import FieldPath

MAX_LEAVES = 200
# Types that refer to each other have more paths than anything can list.
_MAX_MESSAGES = 1000


class Leaves(NamedTuple):
    """Paths of fields with a text. `is_complete`: there are no others, of deeper messages."""

    paths: Sequence[FieldPath]
    is_complete: bool


def leaves(descriptor: Descriptor, without: Collection[FieldPath], chain: FieldPath = ()) -> Leaves:
    """Return the path of each field with a text, from `descriptor` at the end of `chain` on.

    Left out are the fields in `without`, fields of responses only, and all fields inside these. A
    message inside one of its own type is left out too: such names would have no end. Raises
    ValueError if there are more than `MAX_LEAVES`.
    """
    search = _Search(without)
    search.visit(descriptor, chain)
    return Leaves(search.paths, search.is_complete)


class _Search:
    def __init__(self, without: Collection[FieldPath]) -> None:
        self.paths: list[FieldPath] = []
        self.is_complete = True
        self._without = without
        self._messages = 0

    def visit(self, descriptor: Descriptor, chain: FieldPath) -> None:
        """Add the leaves of the message at `chain`."""
        self._messages += 1
        for field in descriptor.fields:
            path = (*chain, field)
            if path not in self._without and not is_output_only(field):
                self._visit_field(field, path)
                self._check()

    def _visit_field(self, field: FieldDescriptor, path: FieldPath) -> None:
        parent = parent_type(field)
        if has_text(field):
            self.paths.append(path)
        elif len(path) == MAX_DEPTH or parent in {outer.containing_type for outer in path}:
            self.is_complete = False
        elif parent is not None:
            self.visit(parent, path)

    def _check(self) -> None:
        if len(self.paths) > MAX_LEAVES or self._messages > _MAX_MESSAGES:
            raise ValueError(
                f"its query or form has more than {MAX_LEAVES} fields, or too many messages"
            )


def taken_by(variables: Collection[FieldPath]) -> frozenset[FieldPath]:
    """Return the fields that a request must not set, because its path does.

    These are the fields of `variables`, and the other fields of the oneofs that they are in.
    """
    taken = set(variables)
    for path in variables:
        for at, field in enumerate(path):
            fields = field.containing_oneof.fields if field.containing_oneof else []
            taken.update((*path[:at], other) for other in fields if other != field)
    return frozenset(taken)


def is_required(path: FieldPath, variables: Iterable[FieldPath], *, start: int = 0) -> bool:
    """Whether a query or form must have the field at `path`.

    All fields along the path from `start` on must be required, except messages that exist anyway,
    because `variables` set fields inside them.
    """
    existing = {variable[:end] for variable in variables for end in range(1, len(variable))}
    return all(
        path[: at + 1] in existing or is_required_in_request(path[at])
        for at in range(start, len(path))
    )
