"""Fields of a message that queries and forms can set, each by its dotted name."""

from collections.abc import Collection, Iterator

from google.protobuf.descriptor import Descriptor

from sidecar.transcoding.protojson.well_known import has_text, parent_type
from sidecar.transcoding.rules import FieldPath


def leaves(
    descriptor: Descriptor, without: Collection[FieldPath], chain: FieldPath = ()
) -> Iterator[FieldPath]:
    """Yield the path of each field with a text, except what `without` names and what is inside it.

    A message inside one of its own type is left out: such names would have no end.
    """
    outer = {descriptor, *(field.containing_type for field in chain)}
    for field in descriptor.fields:
        path = (*chain, field)
        parent = parent_type(field)
        if path in without:
            continue
        if has_text(field):
            yield path
        elif parent is not None and parent not in outer:
            yield from leaves(parent, without, path)


def label(path: FieldPath) -> str:
    """Return the dotted JSON name of the field at the end of `path`."""
    return ".".join(field.json_name for field in path)
