"""The schema of each type describes what the transcoder writes, and what it reads."""

from functools import cache
from typing import Any, cast

import pytest
from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.transcoding import Options, strict_json
from sidecar.transcoding.errors import Violations
from sidecar.transcoding.protojson.location import Location
from sidecar.transcoding.protojson.reader import JsonReader
from sidecar.transcoding.protojson.writer import JsonWriter, encode
from tests.properties import many
from tests.transcoding import library
from tests.transcoding.openapi.described import (
    Tree,
    document,
    document_of,
    only_operation,
    operations,
    violations,
)
from tests.transcoding.openapi.sources import services_of
from tests.transcoding.samples import arguments

TYPES = ("Scalars", "Optionals", "Lists", "Maps", "Known", "Choice", "Tree", "Document", "Odd")


def echo(name: str) -> Any:
    """Return a method that takes and gives a type."""
    return library.method("Echo", library.post("/v1/echo"), takes=name, gives=name)


@cache
def document_with(name: str) -> Tree:
    """Return the document of a method that takes and gives a type."""
    return document(echo(name))


LIBRARY = library.service()
EMPTY = JsonWriter().message(library.descriptor("Scalars", LIBRARY))(library.make("Scalars"))


def type_of(name: str) -> Descriptor:
    """Return a type of the library."""
    return library.descriptor(name, LIBRARY)


def schema_of(api: Tree, name: str) -> Any:
    """Return a component schema of a document."""
    return api["components"]["schemas"][name]


def with_open_enums(api: Tree) -> Tree:
    """Return a document whose enum also allows numbers, which it does not say of those unknown."""
    schemas = api["components"]["schemas"]
    if "Mood" not in schemas:
        return api
    mood = {"anyOf": [schemas["Mood"], {"type": "integer"}]}
    return {**api, "components": {"schemas": {**schemas, "Mood": mood}}}


@pytest.mark.parametrize("name", TYPES)
@settings(many, max_examples=30)
@given(data=st.data())
def test_what_is_written_is_valid(name: str, data: st.DataObject) -> None:
    """The JSON of any message is valid by the schema of responses."""
    message = GetMessageClass(type_of(name))(**data.draw(arguments(type_of(name))))
    api = with_open_enums(document_with(name))
    written = JsonWriter().message(type_of(name))(message)
    assert violations(api, {"$ref": f"#/components/schemas/{name}"}, written) == []


@pytest.mark.parametrize("name", TYPES)
@settings(many, max_examples=30)
@given(data=st.data())
def test_what_is_valid_is_read(name: str, data: st.DataObject) -> None:
    """The canonical JSON of any message is valid by the schema of requests, and is read."""
    type_ = type_of(name)
    message = GetMessageClass(type_)(**data.draw(arguments(type_)))
    written = JsonWriter().message(type_)(message)
    api = with_open_enums(document_with(name))
    assert violations(api, {"$ref": f"#/components/schemas/{name}-Input"}, written) == []
    faults = Violations()
    JsonReader().message(type_)(strict_json.parse(encode(written)), Location(), faults)
    assert faults == []


# What a request must not have: a type, and a value that its schema and its reader refuse.
REFUSED = [
    ("Scalars", {"unknown": 1}),
    ("Scalars", {"aString": 1}),
    ("Scalars", {"aBool": "true"}),
    ("Scalars", {"anInt32": 1.5}),
    ("Scalars", {"anInt32": 2**31}),
    ("Scalars", {"anInt32": -(2**31) - 1}),
    ("Scalars", {"aUint32": -1}),
    ("Scalars", {"anInt64": "x"}),
    ("Scalars", {"anInt64": "10000000000000000000"}),
    ("Scalars", {"aUint64": "-1"}),
    ("Scalars", {"aFloat": 1e39}),
    ("Scalars", {"aBytes": "***"}),
    ("Scalars", {"aBytes": "a"}),
    ("Scalars", {"aMood": "MOOD_UNHEARD_OF"}),
    ("Lists", {"strings": "one"}),
    ("Lists", {"strings": [None]}),
    ("Maps", {"bools": {"1": "MOOD_MERRY"}}),
    ("Maps", {"int32s": {"one": "1"}}),
    ("Known", {"aStruct": []}),
    ("Known", {"aList": {}}),
    ("Known", {"aDuration": "1"}),
    ("Choice", {"byTitle": "a", "byCode": 1}),
    ("Tree", {"left": {"left": {"name": 1}}}),
]


@pytest.mark.parametrize(("name", "value"), REFUSED)
def test_what_is_refused_is_not_valid(name: str, value: Any) -> None:
    """What the transcoder refuses in a request is not valid by its schema."""
    faults = Violations()
    tree = strict_json.parse(encode(value))
    JsonReader().message(type_of(name))(tree, Location(), faults)
    assert faults != []
    assert violations(document_with(name), {"$ref": f"#/components/schemas/{name}-Input"}, value)


def test_null_is_absent() -> None:
    """Null stands for any field that need not be there, but not in a response."""
    value = dict.fromkeys(field.json_name for field in type_of("Scalars").fields)
    request = {"$ref": "#/components/schemas/Scalars-Input"}
    response = {"$ref": "#/components/schemas/Scalars"}
    assert violations(document_with("Scalars"), request, value) == []
    for name in value:
        one = {**cast("Tree", EMPTY), name: None}
        assert violations(document_with("Scalars"), response, one), name


def test_which_members_a_response_has() -> None:
    """A response always has the fields without presence."""
    assert len(schema_of(document_with("Scalars"), "Scalars")["required"]) == 16
    assert "required" not in schema_of(document_with("Optionals"), "Optionals")
    assert "required" not in schema_of(document_with("Scalars"), "Scalars-Input")


def test_types_of_both_directions_have_two_schemas() -> None:
    """A type has the suffix -Input in requests only if responses have it too."""
    api = document(library.method("A", library.post("/v1/a"), takes="Shelf", gives="Note"))
    assert sorted(api["components"]["schemas"]) == ["Note", "Shelf"]
    api = document(library.method("A", library.post("/v1/a"), takes="Shelf", gives="Shelf"))
    assert sorted(api["components"]["schemas"]) == ["Shelf", "Shelf-Input"]


def test_types_that_share_a_name_have_their_full_one() -> None:
    """Types of one name in two packages have their full names, and stay apart."""
    files = library.image(
        library.method("A", library.post("/v1/a"), takes="Nothing", gives="google.protobuf.Empty")
    )
    files.file[-1].message_type.add(name="Empty")
    files.file[-1].service[0].method[0].input_type = ".library.v1.Empty"
    (only,) = library.services_in(files)
    api = document_of({only: Options()})
    assert sorted(api["components"]["schemas"]) == ["google.protobuf.Empty", "library.v1.Empty"]


def test_unknown_names() -> None:
    """A request may have unknown members only where the transcoder ignores them."""
    strict = schema_of(document_with("Odd"), "Odd-Input")
    api = document_of({library.service(echo("Odd")): Options(ignore_unknown=True)})
    assert strict["additionalProperties"] is False
    assert "additionalProperties" not in schema_of(api, "Odd-Input")


def test_unknown_names_by_service() -> None:
    """A type is open where a lenient service uses it, and closed where only strict ones do."""
    (strict_one, lenient_one) = services_of(
        """
        package t;
        message Shared { string a = 1; }
        message Strict { Shared shared = 1; string b = 2; }
        message Lenient { repeated Shared shared = 1; map<string, Shared> more = 2; }
        service Careful {
          rpc Do(Strict) returns (Lenient) {
            option (google.api.http) = { post: "/strict" body: "*" };
          }
        }
        service Lax {
          rpc Do(Lenient) returns (Strict) {
            option (google.api.http) = { post: "/lax" body: "*" };
          }
        }
        """
    )
    api = document_of({strict_one: Options(), lenient_one: Options(ignore_unknown=True)})
    names = ("Strict-Input", "Lenient-Input", "Shared-Input")
    closed = [name for name in names if "additionalProperties" in schema_of(api, name)]
    assert closed == ["Strict-Input"]
    forms = [
        each["requestBody"]["content"]["application/x-www-form-urlencoded"]["schema"]
        for each in operations(api)
    ]
    assert [form.get("additionalProperties") for form in forms] == [None, False]


def test_constraints_are_keywords() -> None:
    """A constraint is part of the element; one of a list is part of the list."""

    def constraints(field: FieldDescriptor) -> Tree:
        return {"pattern": "^a", "maxItems": 2} if field.name == "strings" else {}

    api = document(echo("Lists"), constraints=constraints)
    strings = schema_of(api, "Lists")["properties"]["strings"]
    assert strings == {"type": "array", "items": {"type": "string", "pattern": "^a"}, "maxItems": 2}


def marked() -> Tree:
    """Return the document of an echo whose fields have each behavior."""
    files = library.image(library.method("A", library.post("/v1/a"), takes="Shelf", gives="Shelf"))
    (shelf,) = (each for each in files.file[-1].message_type if each.name == "Shelf")
    behavior: Any = field_behavior_pb2.field_behavior  # its stub has no types
    name, theme, code = shelf.field
    name.options.Extensions[behavior].append(field_behavior_pb2.REQUIRED)
    theme.options.Extensions[behavior].append(field_behavior_pb2.OUTPUT_ONLY)
    code.options.Extensions[behavior].append(field_behavior_pb2.INPUT_ONLY)
    code.options.Extensions[behavior].append(field_behavior_pb2.IMMUTABLE)
    code.options.deprecated = True
    (only,) = library.services_in(files)
    constants: dict[str, Tree] = {"name": {"const": "a"}, "theme": {"const": "b"}}
    return document_of({only: Options()}, constraints=lambda field: constants.get(field.name, {}))


def test_the_behavior_of_fields() -> None:
    """A required field takes no null; the direction of a field and its deprecation are said."""
    api = marked()
    schema = schema_of(api, "Shelf-Input")
    assert schema["required"] == ["name"]
    assert schema["properties"] == {
        "name": {"type": "string", "const": "a"},
        "theme": {"anyOf": [{"type": "string", "const": "b"}, {"type": "null"}], "readOnly": True},
        "shelfCode": {"type": ["string", "null"], "writeOnly": True, "deprecated": True},
    }
    operation = only_operation(api)
    assert operation["requestBody"]["required"] is True
    form = operation["requestBody"]["content"]["application/x-www-form-urlencoded"]["schema"]
    assert form["required"] == ["name"]


def test_a_long_chain_of_types() -> None:
    """Types that refer to each other do not use up the stack."""
    api = document(echo("Tree"))
    left = schema_of(api, "Tree")["properties"]["left"]
    assert left == {"$ref": "#/components/schemas/Tree"}
