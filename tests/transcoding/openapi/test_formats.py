"""The document follows the format of JSON that each service has."""

import itertools
from typing import Any

import pytest
from google.api.http_pb2 import HttpRule
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.transcoding import JsonFormat, Options
from sidecar.transcoding.openapi.document import describe
from sidecar.transcoding.protojson.writer import JsonWriter
from tests.properties import many
from tests.transcoding import library
from tests.transcoding.openapi.described import (
    INFO,
    Tree,
    document_of,
    operations,
    violations,
)
from tests.transcoding.openapi.sources import services_of
from tests.transcoding.samples import arguments

TYPES = ("Scalars", "Optionals", "Lists", "Maps", "Known", "Choice", "Tree", "Document", "Odd")
FORMATS = tuple(
    JsonFormat(enum_numbers=numbers, proto_names=names, omit_defaults=omits, int64_numbers=large)
    for numbers, names, omits, large in itertools.product((False, True), repeat=4)
)
EVERY = FORMATS[-1]
LIBRARY = library.service(
    *(
        library.method(f"Echo{name}", library.post(f"/v1/{name}"), takes=name, gives=name)
        for name in TYPES
    )
)
# Another test has the validity of a document in each format.
DOCUMENTS: dict[JsonFormat, Tree] = {
    json_format: describe({LIBRARY: Options(json_format=json_format)}, INFO)
    for json_format in FORMATS
}
WRITERS = {json_format: JsonWriter(json_format) for json_format in FORMATS}


def type_of(name: str) -> Descriptor:
    """Return a type of the library."""
    return library.descriptor(name, LIBRARY)


def with_open_enums(api: Tree) -> Tree:
    """Return a document whose enum also allows the numbers that no value has."""
    schemas = api["components"]["schemas"]
    mood = {"anyOf": [schemas["Mood"], {"type": "integer"}]}
    return {**api, "components": {"schemas": {**schemas, "Mood": mood}}}


@pytest.mark.parametrize("name", TYPES)
@settings(many, max_examples=30)
@given(data=st.data(), json_format=st.sampled_from(FORMATS))
def test_what_is_written_is_valid(name: str, data: st.DataObject, json_format: JsonFormat) -> None:
    """The JSON of any message is valid in its format, as a response and as a request."""
    type_ = type_of(name)
    message = GetMessageClass(type_)(**data.draw(arguments(type_)))
    tree = WRITERS[json_format].message(type_)(message)
    api = with_open_enums(DOCUMENTS[json_format])
    for schema in (name, f"{name}-Input"):
        assert violations(api, {"$ref": f"#/components/schemas/{schema}"}, tree) == []


def test_a_document_in_every_format() -> None:
    """A document in which a service has all formats is valid OpenAPI."""
    document_of({LIBRARY: Options(json_format=EVERY)})


def schema_of(name: str, json_format: JsonFormat) -> Any:
    """Return a component schema of the document in a format."""
    return DOCUMENTS[json_format]["components"]["schemas"][name]


def test_enums_as_numbers() -> None:
    """An enum is an integer, and the names are where generators of clients look for them."""
    assert schema_of("Mood", JsonFormat()) == {
        "type": "string",
        "enum": ["MOOD_UNSPECIFIED", "MOOD_MERRY", "MOOD_GLOOMY"],
    }
    assert schema_of("Mood", JsonFormat(enum_numbers=True)) == {
        "type": "integer",
        "format": "int32",
        "enum": [0, 1, 2],
        "x-enum-varnames": ["MOOD_UNSPECIFIED", "MOOD_MERRY", "MOOD_GLOOMY"],
    }


def test_64_bit_integers_as_numbers() -> None:
    """64-bit integers are numbers in fields, lists, maps and wrappers; keys of maps stay text."""
    json_format = JsonFormat(int64_numbers=True)
    signed = {"type": "integer", "format": "int64"}
    unsigned = {"type": "integer", "format": "uint64", "minimum": 0}
    scalars = schema_of("Scalars", json_format)["properties"]
    assert [scalars[name] for name in ("anInt64", "aSint64", "aSfixed64")] == [signed] * 3
    assert [scalars[name] for name in ("aUint64", "aFixed64")] == [unsigned] * 2
    assert schema_of("Lists", json_format)["properties"]["int64s"]["items"] == signed
    assert schema_of("Known", json_format)["properties"]["aUint64"] == unsigned
    maps = schema_of("Maps", json_format)["properties"]
    assert maps["int32s"]["additionalProperties"] == signed
    assert maps["int64s"]["propertyNames"] == {"pattern": "^-?[0-9]+$"}


def test_names_of_the_schema() -> None:
    """Members, and the names that exclude each other, are those of the schema."""
    choice = schema_of("Choice", JsonFormat(proto_names=True))
    names = [field.name for field in type_of("Choice").fields]
    assert list(choice["properties"]) == names
    assert {"not": {"required": ["by_title", "by_code"]}} in choice["allOf"]


BEHAVIOR = """
package t;
message Whole {
  int32 number = 1 [(google.api.field_behavior) = REQUIRED];
  optional int32 present = 2 [(google.api.field_behavior) = REQUIRED];
  string text = 3;
}
service Service {
  rpc Do(Whole) returns (Whole) { option (google.api.http) = { post: "/v1/a" body: "*" }; }
}
"""


@pytest.mark.parametrize(
    ("omits", "always"), [(False, ["number", "present", "text"]), (True, ["present"])]
)
def test_members_that_are_always_there(*, omits: bool, always: list[str]) -> None:
    """Without defaults a response need have only what has presence; requests stay as they are."""
    (service,) = services_of(BEHAVIOR)
    api = document_of({service: Options(json_format=JsonFormat(omit_defaults=omits))})
    schemas = api["components"]["schemas"]
    assert schemas["Whole"]["required"] == always
    assert schemas["Whole-Input"]["required"] == ["number", "present"]


# With the fields of a choice in the path, in the query, and in a form.
CHOICES = library.service(
    library.method("Look", HttpRule(get="/v1/shelves/{by_shelf.shelf_code}"), takes="Choice"),
    library.method("Find", HttpRule(get="/v1/choices"), takes="Choice"),
    library.method("Choose", library.post("/v1/choices"), takes="Choice"),
)


@pytest.mark.parametrize(
    ("names", "code", "value"),
    [(False, "byShelf.shelfCode", "byValue"), (True, "by_shelf.shelf_code", "by_value")],
)
def test_names_of_parameters(*, names: bool, code: str, value: str) -> None:
    """Parameters of paths, queries and forms have the names that members have."""
    json_format = JsonFormat(proto_names=names)
    api = document_of({CHOICES: Options(json_format=json_format)})
    assert f"/v1/shelves/{{{code}}}" in api["paths"]
    choices = api["paths"]["/v1/choices"]
    assert code in {parameter["name"] for parameter in choices["get"]["parameters"]}
    form = choices["post"]["requestBody"]["content"]["application/x-www-form-urlencoded"]
    assert code in form["schema"]["properties"]
    assert list(form["encoding"]) == [value]


TWO = """
package t;
enum Mood { option allow_alias = true; MOOD_NONE = 0; MOOD_NOTHING = 0; MOOD_GOOD = 1; }
message Part { int64 large_number = 1; Mood mood = 2; }
service Plain {
  rpc Do(Part) returns (Part) { option (google.api.http) = { post: "/plain" body: "*" }; }
}
service Numbers {
  rpc Do(Part) returns (Part) { option (google.api.http) = { post: "/numbers" body: "*" }; }
  rpc Watch(Part) returns (stream Part) { option (google.api.http) = { get: "/stream" }; }
}
"""


def test_services_of_two_formats() -> None:
    """A type in two formats has a schema for each. Errors have the default format."""
    plain, numbers = services_of(TWO)
    part = plain.methods_by_name["Do"].output_type
    # The default format has the plain names, in any order of the services.
    options = {numbers: Options(json_format=EVERY), plain: Options()}
    api = document_of(options, errors=[part])
    schemas = api["components"]["schemas"]
    assert sorted(schemas) == [
        "Mood",
        "Mood-Enum",
        "Part",
        "Part-2",
        "Part-Error",
        "Part-Input",
        "Part-Input-2",
    ]
    assert schemas["Mood-Enum"]["enum"] == [0, 1]
    assert schemas["Mood-Enum"]["x-enum-varnames"] == ["MOOD_NONE", "MOOD_GOOD"]
    contents = [each["responses"]["200"]["content"]["application/json"] for each in operations(api)]
    references = [
        "#/components/schemas/Part-2",
        "#/components/schemas/Part",
        [{"$ref": f"#/components/schemas/{name}"} for name in ("Part-2", "Part-Error")],
    ]
    assert [
        content["schema"].get("$ref") or content["schema"]["items"]["anyOf"] for content in contents
    ] == references
    assert list(schemas["Part-2"]["properties"]) == ["large_number", "mood"]
    assert list(schemas["Part-Error"]["properties"]) == ["largeNumber", "mood"]


def test_a_constant_of_an_enum() -> None:
    """A constraint names the value of an enum; the schema has it in the format of the service."""
    plain, numbers = services_of(TWO)

    def constraints(field: FieldDescriptor) -> Tree:
        return {"const": "MOOD_GOOD"} if field.name == "mood" else {}

    options = {plain: Options(), numbers: Options(json_format=EVERY)}
    schemas = document_of(options, constraints=constraints)["components"]["schemas"]
    constants = [schemas[name]["properties"]["mood"]["const"] for name in ("Part", "Part-2")]
    assert constants == ["MOOD_GOOD", 1]
