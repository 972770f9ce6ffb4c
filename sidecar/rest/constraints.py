"""Constraints that our schema declares, as keywords of JSON Schema."""

from collections.abc import Mapping

from google.protobuf.descriptor import FieldDescriptor
from karmo.schema.v1 import constraints_pb2 as pb

from sidecar.transcoding.strict_json import JsonTree


def keywords_of(field: FieldDescriptor) -> Mapping[str, JsonTree]:
    """Return the keywords that the constraints of `field` stand for; their names are the same."""
    constraints = field.GetOptions().Extensions[pb.constraints]
    return {each.json_name: value for each, value in constraints.ListFields()}
