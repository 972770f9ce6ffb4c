"""Constraints of fields: those that cannot hold are refused at the start."""

from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor

from sidecar.transcoding import Options, SchemaError
from tests.transcoding.openapi.described import Tree, document_of
from tests.transcoding.openapi.sources import services_of

SOURCE = """
package t;
enum Mood { MOOD_UNSPECIFIED = 0; MOOD_MERRY = 1; }
message Part {}
message Whole {
  string text = 1;
  repeated string texts = 2;
  google.protobuf.StringValue wrapped = 3;
  int32 number = 4;
  uint32 natural = 5;
  int64 large = 6;
  double real = 7;
  bool flag = 8;
  Mood mood = 9;
  bytes data = 10;
  Part part = 11;
  map<string, string> entries = 12;
  google.protobuf.Struct struct = 13;
  google.protobuf.NullValue nothing = 14;
}
service Service {
  rpc Do(Whole) returns (Whole) {
    option (google.api.http) = { post: "/v1/a" body: "*" additional_bindings { get: "/v1/a" } };
  }
}
"""
(SERVICE,) = services_of(SOURCE)


def described(name: str, keywords: Tree) -> Tree:
    """Return the document in which one field has constraints."""

    def constraints(field: FieldDescriptor) -> Tree:
        return keywords if field.name == name else {}

    return document_of({SERVICE: Options()}, constraints=constraints)


# A field, its constraints, and the schema of its values in responses.
KEPT: list[tuple[str, Tree, Tree]] = [
    ("text", {"const": "a"}, {"type": "string", "const": "a"}),
    ("text", {"minLength": 1, "maxLength": 1}, {"type": "string", "minLength": 1, "maxLength": 1}),
    ("wrapped", {"pattern": "^a$"}, {"type": "string", "pattern": "^a$"}),
    (
        "texts",
        {"maxItems": 2, "format": "uri"},
        {"type": "array", "items": {"type": "string", "format": "uri"}, "maxItems": 2},
    ),
    (
        "number",
        {"minimum": 1},
        {"type": "integer", "format": "int32", "minimum": 1, "maximum": 2**31 - 1},
    ),
    ("natural", {"const": 5}, {"type": "integer", "minimum": 0, "maximum": 2**32 - 1, "const": 5}),
    ("flag", {"const": True}, {"type": "boolean", "const": True}),
    ("mood", {"const": "MOOD_MERRY"}, {"$ref": "#/components/schemas/Mood", "const": "MOOD_MERRY"}),
]


@pytest.mark.parametrize(("name", "keywords", "schema"), KEPT)
def test_constraints_that_fit(name: str, keywords: Tree, schema: Tree) -> None:
    """Constraints that fit the type are keywords of its schema."""
    api = described(name, keywords)
    assert api["components"]["schemas"]["Whole"]["properties"][name] == schema


def test_a_limit_of_a_real_number() -> None:
    """A limit is beside the schema of a number, and does not refuse NaN."""
    schema = described("real", {"minimum": 0})["components"]["schemas"]["Whole"]
    assert schema["properties"]["real"]["minimum"] == 0


NOT_FITTING = "{} does not fit its type".format
# A field, its constraints, and what is wrong with them.
REFUSED: list[tuple[str, dict[str, Any], list[str]]] = [
    ("number", {"const": "5"}, ["const is no value of its type"]),
    ("number", {"const": True}, ["const is no value of its type"]),
    ("number", {"maximum": 2**31}, ["maximum is no value of its type"]),
    ("natural", {"minimum": -1}, ["minimum is no value of its type"]),
    ("text", {"const": 5}, ["const is no value of its type"]),
    ("mood", {"const": "MOOD_UNHEARD_OF"}, ["const is no value of its type"]),
    ("number", {"pattern": "^5$"}, [NOT_FITTING("pattern")]),
    ("large", {"minimum": 1}, [NOT_FITTING("minimum")]),
    ("data", {"maxLength": 1}, [NOT_FITTING("maxLength")]),
    ("text", {"minItems": 1}, [NOT_FITTING("minItems")]),
    ("text", {"maxItems": 1}, [NOT_FITTING("maxItems")]),
    ("entries", {"maxItems": 1}, [NOT_FITTING("maxItems")]),
    ("entries", {"pattern": "a"}, [NOT_FITTING("pattern")]),
    ("part", {"minLength": 1}, [NOT_FITTING("minLength")]),
    ("struct", {"const": "a"}, [NOT_FITTING("const")]),
    ("nothing", {"const": "NULL_VALUE"}, [NOT_FITTING("const")]),
    ("text", {"minLength": 2, "maxLength": 1}, ["minLength is larger than maxLength"]),
    ("number", {"minimum": 2, "maximum": 1}, ["minimum is larger than maximum"]),
    ("text", {"maxLength": -1}, ["maxLength is negative"]),
    ("text", {"const": "a", "pattern": "b"}, ["const excludes other constraints of the value"]),
    (
        "text",
        {"pattern": "["},
        ["pattern is no regular expression: unterminated character set at position 0"],
    ),
]


@pytest.mark.parametrize(("name", "keywords", "faults"), REFUSED)
def test_constraints_that_cannot_hold(
    name: str, keywords: dict[str, Any], faults: list[str]
) -> None:
    """A constraint that does not fit its type, or no value keeps, is refused once, by its field."""
    with pytest.raises(SchemaError) as caught:
        described(name, keywords)
    assert list(caught.value.violations) == [f"t.Whole.{name}: {fault}" for fault in faults]
