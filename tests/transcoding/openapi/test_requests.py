"""The document allows exactly the requests that the transcoder binds: path, query and body."""

import json
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from google.api.http_pb2 import HttpRule
from google.protobuf.message_factory import GetMessageClass

from sidecar.transcoding import Options, SchemaError
from sidecar.transcoding.binding import Binder
from sidecar.transcoding.errors import MalformedRequestError, SchemaViolations
from sidecar.transcoding.parameters import ParameterReader
from sidecar.transcoding.protojson.reader import JsonReader
from sidecar.transcoding.protojson.writer import JsonWriter
from sidecar.transcoding.responses import ResponseWriter
from sidecar.transcoding.rules import Rule, read_rules
from tests.transcoding import library
from tests.transcoding.binders import bind, binder
from tests.transcoding.openapi.described import (
    Tree,
    document,
    document_of,
    only_operation,
    violations,
)
from tests.transcoding.openapi.sources import services_of

FORM, JSON = "application/x-www-form-urlencoded", "application/json"


def body_of(api: Tree, media_type: str) -> Any:
    """Return the Media Type Object of the request of a document with one operation."""
    return only_operation(api)["requestBody"]["content"][media_type]


def posted(rule: str, takes: str) -> Tree:
    """Return the document of a rule: its template and, after a space, its body."""
    template, _, body = rule.partition(" ")
    return document(library.method("Do", HttpRule(post=template, body=body), takes=takes))


def is_bound(rule: str, takes: str, body: str) -> bool:
    """Whether the transcoder takes a request with "x" in the path."""
    try:
        bind(binder(rule, takes), "x", body=body)
    except MalformedRequestError:
        return False
    return True


# A rule, the type of its message, a body, and whether it is allowed.
BODIES: list[tuple[str, str, Any, bool]] = [
    ("/v1/{name} *", "Shelf", {"name": "y"}, False),
    ("/v1/{name} *", "Shelf", {"theme": "y"}, True),
    ("/v1/{shelf.name} *", "Book", {"shelf": {"name": "y"}}, False),
    ("/v1/{shelf.name} *", "Book", {"shelf": {"theme": "y"}, "title": "z"}, True),
    ("/v1/{shelf.name} *", "Book", {"shelf": {"unknown": "y"}}, False),
    ("/v1/{shelf.name} *", "Book", {"shelf": None}, True),
    ("/v1/{shelf.name} *", "Book", {}, True),
    ("/v1/{shelf.name} shelf", "Book", {"name": "y"}, False),
    ("/v1/{shelf.name} shelf", "Book", {"theme": "y"}, True),
    ("/v1/{choice.by_title} *", "Book", {"choice": {"byTitle": "y"}}, False),
    ("/v1/{choice.by_title} *", "Book", {"choice": {"byCode": 1}}, False),
    ("/v1/{choice.by_title} *", "Book", {"choice": {"hint": "y"}}, True),
    ("/v1/{choice.by_shelf.name} *", "Book", {"choice": {"byShelf": {"name": "y"}}}, False),
    ("/v1/{choice.by_shelf.name} *", "Book", {"choice": {"byShelf": {"theme": "y"}}}, True),
    ("/v1/{choice.by_shelf.name} *", "Book", {"choice": {"byCode": 1}}, False),
    ("/v1/{choice.by_shelf.name} choice", "Book", {"byCode": 1}, False),
    ("/v1/{choice.by_shelf.name} choice", "Book", {"byShelf": {"theme": "y"}}, True),
]


@pytest.mark.parametrize(("rule", "takes", "body", "is_allowed"), BODIES)
def test_json_beside_a_path(rule: str, takes: str, body: Any, *, is_allowed: bool) -> None:
    """A JSON body is valid exactly if the transcoder takes it beside the path."""
    api = posted(rule, takes)
    assert is_bound(rule, takes, json.dumps(body)) is is_allowed
    assert (violations(api, body_of(api, JSON)["schema"], body) == []) is is_allowed


# The same for forms.
FORMS: list[tuple[str, str, dict[str, str], bool]] = [
    ("/v1/{name} *", "Shelf", {"name": "y"}, False),
    ("/v1/{name} *", "Shelf", {"theme": "y"}, True),
    ("/v1/{name} *", "Shelf", {"unknown": "y"}, False),
    ("/v1/{shelf.name} *", "Receipt", {"shelf.name": "y"}, False),
    ("/v1/{shelf.name} *", "Receipt", {"shelf.theme": "y", "name": "z"}, True),
    ("/v1/{shelf.name} shelf", "Book", {"theme": "y"}, True),
    ("/v1/{shelf.name} shelf", "Book", {"name": "y"}, False),
    ("/v1/{choice.by_shelf.name} choice", "Book", {"byShelf.theme": "y", "hint": "z"}, True),
    ("/v1/{choice.by_shelf.name} choice", "Book", {"byTitle": "y"}, False),
    ("/v1/{name} *", "Tree", {"left.name": "y", "left.left.name": "z"}, True),
]


@pytest.mark.parametrize(("rule", "takes", "body", "is_allowed"), FORMS)
def test_a_form_beside_a_path(
    rule: str, takes: str, body: dict[str, str], *, is_allowed: bool
) -> None:
    """A form is valid exactly if the transcoder takes it beside the path."""
    api = posted(rule, takes)
    assert is_bound(rule, takes, urlencode(body)) is is_allowed
    assert (violations(api, body_of(api, FORM)["schema"], body) == []) is is_allowed


def test_a_query_beside_a_path() -> None:
    """The query gives neither a field of the path, nor another field of its oneof."""
    rule = HttpRule(get="/v1/{choice.by_shelf.name}")
    parameters = only_operation(document(library.method("A", rule, takes="Book")))["parameters"]
    names = [each["name"] for each in parameters if each["in"] == "query"]
    chosen = [name for name in names if name.startswith("choice.")]
    assert chosen == ["choice.byShelf.theme", "choice.byShelf.shelfCode", "choice.hint"]


# Texts with JSON in them

# A field of Known, a value by the schema of its text, and that text.
TEXTS: list[tuple[str, Any, str]] = [
    ("aStruct", {"a": [1, None]}, '{"a": [1, null]}'),
    ("aList", [1, "x"], '[1, "x"]'),
    ("aValue", "abc", '"abc"'),
    ("aNull", "null", "null"),
    ("anInt64", "5", "5"),
]


@pytest.mark.parametrize(("name", "value", "text"), TEXTS)
def test_a_value_as_a_text(name: str, value: Any, text: str) -> None:
    """JSON in a query or form has the media type JSON there, and the transcoder reads it."""
    has_json = name in ("aStruct", "aList", "aValue")
    query = only_operation(document(library.method("A", HttpRule(get="/v1/a"), takes="Known")))
    (parameter,) = [each for each in query["parameters"] if each["name"] == name]
    form = body_of(posted("/v1 *", "Known"), FORM)
    schema = parameter["content"][JSON]["schema"] if has_json else parameter["schema"]
    assert ("content" in parameter, "schema" in parameter) == (has_json, not has_json)
    assert (form["encoding"].get(name) == {"contentType": JSON}) is has_json
    for each in (schema, form["schema"]["properties"][name]):
        assert violations({"components": {}}, each, value) == []
    pair = f"{name}={quote(text)}"
    queried, sent = binder("/v1", "Known"), binder("/v1 *", "Known")
    assert str(bind(queried, "", pair)) == str(bind(sent, "", "", pair))


def test_a_list_of_json_texts() -> None:
    """Each item of a list of JSON is a string that contains JSON: the name is repeated."""
    operation = only_operation(document(library.method("A", HttpRule(get="/v1/a"), takes="Lists")))
    schemas = {each["name"]: each["schema"] for each in operation["parameters"]}
    assert schemas["structs"]["items"] == {
        "type": "string",
        "contentMediaType": JSON,
        "contentSchema": {"type": "object"},
    }
    assert schemas["nulls"]["items"] == {"type": "string", "const": "null"}
    form = body_of(posted("/v1 *", "Lists"), FORM)
    assert "encoding" not in form
    assert form["schema"]["properties"]["structs"] == schemas["structs"]
    bind(binder("/v1", "Lists"), "", "structs=%7B%7D&structs=%7B%7D&nulls=null")


def test_json_in_a_path() -> None:
    """A Value in a path is JSON there too."""
    rule = HttpRule(get="/v1/{leaf}")
    (parameter,) = [
        each
        for each in only_operation(document(library.method("A", rule, takes="Tree")))["parameters"]
        if each["in"] == "path"
    ]
    assert parameter["content"] == {JSON: {"schema": {}}}


DOTTED = """
package t;
message Name { string name = 1 [json_name = "a.b"]; Name inner = 2 [json_name = "c.d"]; }
service Service {
  rpc Do(Name) returns (Name) { option (google.api.http) = { get: "/v1/{inner.name}" }; }
}
"""


def test_json_names_with_dots() -> None:
    """A field whose JSON name has a dot is a parameter by its own name, in the document too."""
    (service,) = services_of(DOTTED)
    parameters = only_operation(document_of({service: Options()}))["parameters"]
    assert [each["name"] for each in parameters if each["in"] == "query"] == ["name"]
    (rule,) = read_rules([service], SchemaViolations())
    made = Binder(rule, JsonReader(), ParameterReader())
    message: Any = made.bind(["x"], "name=y", None)
    assert (message.name, message.inner.name) == ("y", "x")
    for query, told in (
        ("name=a&name=b", "name in the query must be given once only."),
        ("inner.name=a", "inner.name must not be in the query; the path gives it."),
        ("a.b=a", "a.b in the query must be the name of a field."),
    ):
        with pytest.raises(MalformedRequestError) as raised:
            made.bind(["x"], query, None)
        assert [each.detail for each in raised.value.violations] == [told]


# Behavior of fields

BEHAVIOR = """
package t;
message Name {
  string name = 1 [(google.api.field_behavior) = REQUIRED];
  string theme = 2;
}
message Part {
  string name = 1 [(google.api.field_behavior) = REQUIRED];
  string other = 2 [(google.api.field_behavior) = REQUIRED];
  string secret = 3 [(google.api.field_behavior) = REQUIRED,
                     (google.api.field_behavior) = INPUT_ONLY];
  string tag = 4 [(google.api.field_behavior) = REQUIRED,
                  (google.api.field_behavior) = OUTPUT_ONLY];
}
message Whole {
  Part part = 1 [(google.api.field_behavior) = REQUIRED];
  Name name = 2 [(google.api.field_behavior) = REQUIRED];
  Part spare = 3;
}
message OnlyName { Name name = 1 [(google.api.field_behavior) = REQUIRED]; }
service Service {
  rpc Do(%s) returns (Part) { option (google.api.http) = { %s }; }
}
"""


def marked(rule: str, takes: str = "Whole") -> Tree:
    """Return the document of a service with marked fields and one rule."""
    return document_of({services_of(BEHAVIOR % (takes, rule))[0]: Options()})


def test_required_in_a_whole_body() -> None:
    """A body has what is required and the path does not give; OUTPUT_ONLY never is."""
    api = marked('post: "/v1/{part.name}/{name.name}" body: "*"')
    assert only_operation(api)["requestBody"]["required"] is True
    schema = body_of(api, JSON)["schema"]
    assert schema["required"] == ["part"]  # the path gives all that is required in `name`
    assert schema["properties"]["part"]["required"] == ["other", "secret"]
    assert schema["properties"]["part"]["properties"]["tag"]["readOnly"] is True
    assert "required" not in schema["properties"]["name"]
    form = body_of(api, FORM)["schema"]
    assert form["required"] == ["part.other", "part.secret"]
    assert not [name for name in form["properties"] if name.endswith("tag")]


def test_required_in_a_part() -> None:
    """A body of one field is required if the path leaves something required in it."""
    api = marked('post: "/v1/{part.name}" body: "part"')
    assert only_operation(api)["requestBody"]["required"] is True
    assert body_of(api, JSON)["schema"]["required"] == ["other", "secret"]
    assert body_of(api, FORM)["schema"]["required"] == ["other", "secret"]
    api = marked('post: "/v1/a" body: "spare"')
    assert "required" not in only_operation(api)["requestBody"]
    api = marked('post: "/v1/{spare.name}" body: "spare"')
    assert only_operation(api)["requestBody"]["required"] is True


def test_a_body_that_may_be_absent() -> None:
    """A body is optional if the path gives all that is required."""
    for body in ("*", "name"):
        api = marked(f'post: "/v1/{{name.name}}" body: "{body}"', "OnlyName")
        assert "required" not in only_operation(api)["requestBody"]
        assert "required" not in body_of(api, JSON)["schema"]
    assert only_operation(marked('post: "/v1/a" body: "*"', "OnlyName"))["requestBody"]["required"]


def test_required_in_a_query() -> None:
    """A parameter is required if all along its path is, or exists because of the path."""
    parameters = only_operation(marked('get: "/v1/{spare.name}"'))["parameters"]
    required = [each["name"] for each in parameters if each.get("required")]
    assert required == [
        *("spare.name", "part.name", "part.other", "part.secret", "name.name"),
        *("spare.other", "spare.secret"),
    ]
    assert not [each for each in parameters if each["name"].endswith("tag")]


def test_required_in_a_response() -> None:
    """INPUT_ONLY is never required in a response; OUTPUT_ONLY can be."""
    schema = marked('get: "/v1/a"')["components"]["schemas"]["Part"]
    assert schema["required"] == ["name", "other", "tag"]
    assert schema["properties"]["secret"]["writeOnly"] is True


# Responses of one field


@pytest.mark.parametrize(
    ("type_", "field"),
    [
        *(("Book", name) for name in ("shelf", "copies", "by_name", "tags", "mood", "printed")),
        *(("Optionals", name) for name in ("a_string", "an_int32", "a_mood")),
        *(("Known", name) for name in ("a_value", "a_struct", "a_null", "a_string", "maybe_null")),
    ],
)
def test_an_absent_field_as_a_response(type_: str, field: str) -> None:
    """The JSON of a field that is not set is valid as a response of that field."""
    rule = HttpRule(get="/v1/a", response_body=field)
    service = library.service(library.method("A", rule, gives=type_))
    rules: list[Rule] = []

    def patch(rule: Rule, _operation: Tree) -> Tree:
        rules.append(rule)
        return {}

    api = document_of({service: Options()}, patch=patch)
    message = GetMessageClass(service.methods[0].output_type)()
    written = ResponseWriter(rules[0], JsonWriter()).write(message, JSON).content
    content = only_operation(api)["responses"]["200"]["content"]
    assert violations(api, content[JSON]["schema"], json.loads(written)) == []


def test_a_required_field_as_a_response() -> None:
    """A field that a response must have is not null."""
    source = BEHAVIOR % ("Name", 'get: "/v1/a" response_body: "part"')
    source = source.replace("returns (Part)", "returns (Whole)")
    content = only_operation(document_of({services_of(source)[0]: Options()}))["responses"]["200"]
    assert content["content"][JSON]["schema"] == {"$ref": "#/components/schemas/Part"}


# Limits


def recursive(number: int, scalar: str) -> str:
    """Return types that all have fields of all others."""
    fields = {
        at: " ".join(f"T{to} f{to} = {to + 1};" for to in range(number) if to != at)
        for at in range(number)
    }
    types = "".join(f"message T{at} {{ {fields[at]} {scalar} }}\n" for at in fields)
    rule = 'option (google.api.http) = { get: "/v1/a" };'
    return f"package t;\n{types}service S {{ rpc Do(T0) returns (T0) {{ {rule} }} }}"


@pytest.mark.parametrize("scalar", ["string s = 50;", ""])
def test_too_many_parameters(scalar: str) -> None:
    """A rule with more parameters than anyone can list is refused, and in a short time."""
    (service,) = services_of(recursive(12, scalar))
    with pytest.raises(SchemaError) as caught:
        document_of({service: Options()})
    assert caught.value.violations == (
        "t.S.Do: get '/v1/a': its query or form has more than 200 fields, or too many messages",
    )


def test_deep_parameters() -> None:
    """A query names no field deeper than the transcoder reads."""
    types = "".join(f"message T{at} {{ T{at + 1} t = 1; string s = 2; }}\n" for at in range(110))
    rule = 'option (google.api.http) = { get: "/v1/a" };'
    source = f"package t;\n{types}message T110 {{}}\n"
    (service,) = services_of(f"{source}service S {{ rpc Do(T0) returns (T110) {{ {rule} }} }}")
    parameters = only_operation(document_of({service: Options()}))["parameters"]
    assert max(each["name"].count(".") for each in parameters) == 99
