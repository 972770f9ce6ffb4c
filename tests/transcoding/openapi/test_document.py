"""The document of services: its operations, and what cannot be described."""

from collections.abc import Sequence
from typing import Any

import pytest
from google.api.http_pb2 import CustomHttpPattern, HttpRule
from google.protobuf.descriptor_pb2 import MethodDescriptorProto

from sidecar.transcoding import Options, SchemaError
from sidecar.transcoding.openapi import merge_patch
from sidecar.transcoding.rules import Rule
from tests.transcoding import library
from tests.transcoding.openapi.described import (
    Tree,
    document,
    document_of,
    only_operation,
    operations,
    violations,
)

INT64 = {"type": "string", "format": "int64", "pattern": "^(0|-?[1-9][0-9]{0,18})$"}
SHELF = {"$ref": "#/components/schemas/Shelf-Input"}
FORM, JSON = "application/x-www-form-urlencoded", "application/json"


def every(path: str) -> HttpRule:
    """Return a rule for every method."""
    return HttpRule(custom=CustomHttpPattern(kind="*", path=path))


def refusals(*methods: MethodDescriptorProto, **arguments: Any) -> Sequence[str]:
    """Return why no document can describe `methods`."""
    with pytest.raises(SchemaError) as caught:
        document(*methods, **arguments)
    return caught.value.violations


def parameters_of(operation: Tree) -> dict[str, Any]:
    """Return the query parameters of an operation by name."""
    return {each["name"]: each for each in operation.get("parameters", []) if each["in"] == "query"}


def test_what_the_query_gives() -> None:
    """The query gives every field with a text that neither path nor body gives."""
    rule = HttpRule(get="/v1/books/{name}")
    queried = parameters_of(only_operation(document(library.method("A", rule, takes="Book"))))
    assert "name" not in queried
    assert queried["title"]["schema"] == {"type": "string"}
    assert queried["tags"]["schema"] == {"type": "array", "items": {"type": "string"}}
    assert queried["mood"]["schema"] == {"$ref": "#/components/schemas/Mood"}
    assert queried["shelf.shelfCode"]["in"] == "query"
    assert queried["printed"]["schema"] == {"type": "string", "format": "date-time"}
    assert not [name for name in queried if name.startswith(("byName", "shelves"))]


def test_a_type_that_holds_itself_ends() -> None:
    """Names of fields in a query have an end, although the type has none."""
    rule = HttpRule(get="/v1/trees")
    queried = parameters_of(only_operation(document(library.method("A", rule, takes="Tree"))))
    assert sorted(queried) == ["leaf", "name"]


def test_a_body_of_one_field() -> None:
    """A body of one field has the schema of that field; the query gives the others."""
    rule = HttpRule(post="/v1/books", body="shelf")
    operation = only_operation(document(library.method("A", rule, takes="Book")))
    content = operation["requestBody"]["content"]
    assert list(content) == [FORM, JSON]
    assert content[JSON]["schema"] == SHELF
    assert sorted(content[FORM]["schema"]["properties"]) == ["name", "shelfCode", "theme"]
    names = parameters_of(operation)
    assert "title" in names
    assert not [name for name in names if name.startswith("shelf.")]


def test_a_whole_body_beside_a_path() -> None:
    """The body leaves out what the path gives."""
    rule = HttpRule(put="/v1/shelves/{name}", body="*")
    operation = only_operation(document(library.method("A", rule, takes="Shelf")))
    for content in operation["requestBody"]["content"].values():
        assert sorted(content["schema"]["properties"]) == ["shelfCode", "theme"]
    assert parameters_of(operation) == {}


@pytest.mark.parametrize(
    ("field", "schema"),
    [
        ("copies", INT64),
        ("tags", {"type": "array", "items": {"type": "string"}}),
        ("printed", {"type": "string", "format": "date-time"}),
        (
            "by_name",
            {
                "type": "object",
                "additionalProperties": {"$ref": "#/components/schemas/Shelf-Input"},
            },
        ),
    ],
)
def test_a_body_that_is_no_object(field: str, schema: Tree) -> None:
    """A body that is no message is JSON only."""
    rule = HttpRule(post="/v1/books", body=field)
    content = only_operation(document(library.method("A", rule, takes="Book")))["requestBody"]
    assert content == {"content": {JSON: {"schema": schema}}}


def test_http_bodies() -> None:
    """google.api.HttpBody is any bytes of any type, in both directions."""
    both = library.method(
        "A", library.post("/v1/a"), takes="google.api.HttpBody", gives="google.api.HttpBody"
    )
    part = library.method(
        "B",
        HttpRule(post="/v1/b", body="content", response_body="content"),
        takes="Document",
        gives="Document",
    )
    api = document(both, part)
    for operation in operations(api):
        assert operation["requestBody"]["content"] == {"*/*": {}}
        assert operation["responses"]["200"]["content"] == {"*/*": {}}
    assert api["components"]["schemas"] == {}


def test_a_response_of_one_field() -> None:
    """A response of one field has the schema of that field."""
    rule = HttpRule(get="/v1/a", response_body="tags")
    response = only_operation(document(library.method("A", rule)))["responses"]["200"]
    assert response["content"][JSON]["schema"] == {"type": "array", "items": {"type": "string"}}


def test_operation_ids() -> None:
    """Each operation has an id of its own, with a number if its method has several."""
    rule = HttpRule(get="/v1/a", additional_bindings=[HttpRule(get="/v1/b")])
    api = document(library.method("ListShelves", rule))
    ids = [operation["operationId"] for operation in operations(api)]
    assert ids == ["listShelves", "listShelves_2"]


def test_methods_of_one_name_in_two_services() -> None:
    """Methods of one name have the names of their services in their ids."""
    files = library.image(library.method("Get", HttpRule(get="/v1/a")))
    files.file[-1].service.add(name="Other", method=[library.method("Get", HttpRule(get="/v1/b"))])
    services = library.services_in(files)
    api = document_of(dict.fromkeys(services, Options()))
    ids = [operation["operationId"] for operation in operations(api)]
    assert ids == ["Library_get", "Other_get"]
    assert [tag["name"] for tag in api["tags"]] == ["Library", "Other"]


def test_every_method() -> None:
    """A rule for every method is an operation for each, in whatever order rules are declared.

    The router prefers a rule for the method itself, and one for GET serves HEAD too.
    """
    a, b = library.method("A", HttpRule(get="/v1/a")), library.method("B", every("/v1/a"))
    for methods in ((a, b), (b, a)):
        item = document(*methods)["paths"]["/v1/a"]
        assert sorted(item) == ["delete", "get", "options", "patch", "post", "put", "trace"]
        assert item.pop("get")["operationId"] == "a"
        assert all(operation["operationId"].startswith("b") for operation in item.values())


def test_every_method_alone() -> None:
    """A rule for every method without another has eight operations; one for HEAD has its own."""
    b = library.method("B", every("/v1/a"))
    assert len(document(b)["paths"]["/v1/a"]) == 8
    head = HttpRule(custom=CustomHttpPattern(kind="HEAD", path="/v1/a"))
    item = document(b, library.method("A", head))["paths"]["/v1/a"]
    assert len(item) == 8
    assert item["head"]["operationId"] == "a"


# Pairs of rules that share a path and a method in OpenAPI, and the name of the second.
CLASHES = [
    (HttpRule(get="/v1/{name=**}"), HttpRule(get="/v1/{name}"), "get '/v1/{name}'"),
    (HttpRule(get="/v1/{name}"), HttpRule(get="/v1/{theme}"), "get '/v1/{theme}'"),
    (HttpRule(get="/v1/a"), HttpRule(get="/v1/a"), "get '/v1/a'"),
    (every("/v1/a"), every("/v1/a"), "custom '*' '/v1/a'"),
    (HttpRule(get="/v1/{name}"), every("/v1/{name=**}"), "custom '*' '/v1/{name=**}'"),
]


@pytest.mark.parametrize(("one", "other", "name"), CLASHES)
def test_two_rules_in_one_place(one: HttpRule, other: HttpRule, name: str) -> None:
    """Rules that OpenAPI cannot tell apart are refused, so none is left out of the document."""
    a = library.method("A", one, takes="Shelf")
    b = library.method("B", other, takes="Shelf")
    (violation,) = refusals(a, b)
    before = f"library.v1.Library.B: {name}: OpenAPI cannot tell its requests from those of "
    assert violation.startswith(f"{before}library.v1.Library.A: ")


def test_what_openapi_cannot_describe() -> None:
    """Rules with another method are refused at the start, all of them by name."""
    rules = {
        name: HttpRule(custom=CustomHttpPattern(kind=name, path="/v1/a"))
        for name in ("REPORT", "get")
    }
    problem = "OpenAPI has no operation for the method"
    assert refusals(*(library.method(name.title(), rule) for name, rule in rules.items())) == (
        f"library.v1.Library.Report: custom 'REPORT' '/v1/a': {problem} REPORT",
        f"library.v1.Library.Get: custom 'get' '/v1/a': {problem} get",
    )


def test_methods_that_are_not_served_are_left_out() -> None:
    """Methods that are not served over HTTP have no operation."""
    api = document(
        library.method("A", HttpRule(get="/v1/a")),
        library.method("B"),
        library.method("C", HttpRule(get="/v1/c"), streams="client"),
        library.method("D", HttpRule(get="/v1/d"), streams="client server"),
        library.method("E", HttpRule(get="/v1/e/{nope}")),
        options=Options(unserved_methods=frozenset({"library.v1.Library.E"})),
    )
    assert list(api["paths"]) == ["/v1/a"]


def test_stream_of_responses() -> None:
    """It is an array of messages and problems, and by its items lines and events of them."""
    watch = library.method("Watch", HttpRule(get="/v1/watch"), gives="Shelf", streams="server")
    problem = library.service(watch).file.message_types_by_name["Note"]
    for errors, last in (
        ([], {"type": "object", "description": "A problem document (RFC 9457)."}),
        ([problem], {"$ref": "#/components/schemas/Note"}),
    ):
        api = document(watch, errors=errors)
        response = only_operation(api)["responses"]["200"]
        item = {"anyOf": [{"$ref": "#/components/schemas/Shelf"}, last]}
        assert response["content"] == {
            "application/json": {"schema": {"type": "array", "items": item}},
            "application/x-ndjson": {"schema": item},
            "text/event-stream": {"schema": item},
        }
        assert response["description"].startswith("OK\n\nA stream: ")
        whole = [{"name": "a", "theme": "", "shelfCode": ""}, {"text": "failed"}]
        schema = response["content"]["application/json"]["schema"]
        assert violations(api, schema, whole) == []
        assert violations(api, schema, whole[0]) != []


@pytest.mark.parametrize(("gives", "field"), [("Book", "title"), ("google.api.HttpBody", "")])
def test_stream_of_parts(gives: str, field: str) -> None:
    """The items are those of the part of each message; content has no schema."""
    rule = HttpRule(get="/v1/a", response_body=field)
    response = only_operation(document(library.method("A", rule, gives=gives, streams="server")))
    content = response["responses"]["200"]["content"]
    if field:
        assert content["application/x-ndjson"]["schema"]["anyOf"][0] == {"type": "string"}
    else:
        assert content == {"*/*": {}}
    assert "A stream" in response["responses"]["200"]["description"]


def test_comments_and_deprecation() -> None:
    """Comments describe elements; the first paragraph of a method's is its summary."""
    method = library.method("A", library.post("/v1/a"), takes="Shelf", gives="Shelf")
    method.options.deprecated = True
    names = {
        "library.v1.Library": "A library.",
        "library.v1.Library.A": "Takes a shelf.\n\nAnd gives it back.",
        "library.v1.Shelf": "A shelf.",
        "library.v1.Shelf.name": "Its name.",
    }
    api = document(method, comments=names)
    operation = only_operation(api)
    assert api["tags"] == [{"name": "Library", "description": "A library."}]
    assert (operation["summary"], operation["description"]) == (
        "Takes a shelf",
        "And gives it back.",
    )
    assert operation["deprecated"] is True
    assert operation["responses"]["200"]["description"] == "A shelf."
    schema = api["components"]["schemas"]["Shelf"]
    assert (schema["description"], schema["properties"]["name"]["description"]) == (
        "A shelf.",
        "Its name.",
    )
    form = operation["requestBody"]["content"][FORM]["schema"]
    assert form["properties"]["name"]["description"] == "Its name."


def test_what_the_descriptors_do_not_say() -> None:
    """Patches add to operations and to the document; null removes."""

    def patch(rule: Rule, operation: Tree) -> Tree:
        assert operation["operationId"] == "a"
        return {"tags": None, "security": [{}], "description": rule.name}

    api = document(
        library.method("A", HttpRule(get="/v1/a")),
        patch=patch,
        additions={"servers": [{"url": "/"}], "components": {"headers": {}}},
    )
    operation = only_operation(api)
    assert "tags" not in operation
    assert operation["security"] == [{}]
    assert operation["description"] == "library.v1.Library.A: get '/v1/a'"
    assert api["servers"] == [{"url": "/"}]
    assert sorted(api["components"]) == ["headers", "schemas"]


def test_errors_have_schemas() -> None:
    """A message of error responses has a schema, in which only what it declares is required."""
    service = library.service(library.method("A", HttpRule(get="/v1/a"), gives="Shelf"))
    api = document_of({service: Options()}, errors=[library.descriptor("Receipt", service)])
    schemas = api["components"]["schemas"]
    assert sorted(schemas) == ["Mood", "Receipt", "Shelf", "Shelf-Error"]
    assert "required" not in schemas["Receipt"]
    assert "required" in schemas["Shelf"]


def test_types_of_one_full_name() -> None:
    """Types of two pools that share a full name cannot be told apart, and are refused."""
    method = library.method("A", HttpRule(get="/v1/a"), gives="Shelf")
    with pytest.raises(SchemaError) as caught:
        document(method, errors=[library.descriptor("Shelf")])
    assert caught.value.violations == ("library.v1.Shelf: two types have this name",)


# The examples of RFC 7396, appendix A, whose target and patch are objects.
PATCHES: list[tuple[Tree, Tree, Tree]] = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("target", "patch", "result"), PATCHES)
def test_merge_patches(target: Tree, patch: Tree, result: Tree) -> None:
    """A merge patch gives what RFC 7396 says, and leaves its target as it is."""
    before = dict(target)
    assert merge_patch.apply(patch, target) == result
    assert target == before
