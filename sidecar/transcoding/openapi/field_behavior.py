"""The behavior of fields: whether they must be there, and in which direction.

https://github.com/googleapis/googleapis/blob/master/google/api/field_behavior.proto
"""

from enum import IntEnum
from typing import Any

from google.api import field_behavior_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pb2 import FieldOptions

# Its stub types the extension as a plain FieldDescriptor.
_BEHAVIOR: Any = field_behavior_pb2.field_behavior


class Behavior(IntEnum):
    """The values of google.api.FieldBehavior that a document shows."""

    REQUIRED = field_behavior_pb2.REQUIRED
    OUTPUT_ONLY = field_behavior_pb2.OUTPUT_ONLY
    INPUT_ONLY = field_behavior_pb2.INPUT_ONLY


def behavior_of(field: FieldDescriptor) -> frozenset[Behavior]:
    """Return the behavior that the options of `field` declare."""
    # Parsed again: they may have been parsed before the extension was known.
    options = FieldOptions.FromString(field.GetOptions().SerializeToString())
    return frozenset(
        Behavior(value) for value in options.Extensions[_BEHAVIOR] if value in set(Behavior)
    )
