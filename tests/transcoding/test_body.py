"""The body by a rule: what it may be, what of the message it gives, and what is wrong with it."""

from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from google.api.http_pb2 import HttpRule
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from sidecar.transcoding import strict_json
from sidecar.transcoding.body import Body, Content, Form, Json, Raw, Shape
from sidecar.transcoding.errors import SchemaViolations, Violation, Violations
from sidecar.transcoding.fields import is_http_body, message_of
from sidecar.transcoding.parameters import ParameterReader
from sidecar.transcoding.protojson.reader import JsonReader
from sidecar.transcoding.rules import Rule, read_rules
from tests.transcoding.library import descriptor, method, service

HTTP_BODY = "google.api.HttpBody"


def rule_of(body: str, takes: str = "Book") -> Rule:
    """Return a rule with such a body; without one if it is empty."""
    violations = SchemaViolations()
    told = HttpRule(post="/v1/x", body=body)
    (rule,) = read_rules([service(method("Do", told, takes=takes))], violations)
    violations.check()
    return rule


def body_of(rule: Rule, *, ignores: bool = False) -> Body:
    """Return the body by a rule, which is strict unless it `ignores` what it can."""
    return Body(
        rule,
        JsonReader(ignore_unknown=ignores, ignore_duplicates=ignores),
        ParameterReader(ignore_unknown=ignores, ignore_duplicates=ignores),
    )


def read(
    content: Content, body: str = "*", takes: str = "Book", *, ignores: bool = False
) -> tuple[Message, Violations]:
    """Return the message that a body gives, or an empty one and what is wrong with the body."""
    rule, violations = rule_of(body, takes), Violations()
    given = body_of(rule, ignores=ignores).read(content, violations)
    if isinstance(given, Message):
        return given, violations
    return GetMessageClass(rule.method.input_type)(**({} if violations else given)), violations


def json(text: str) -> Json:
    """Return the content of a body that is JSON."""
    return Json(value=strict_json.parse(text.encode()))


def form(text: str) -> Form:
    """Return the content of a body that is a form without escapes."""
    return Form(pairs=[one.partition("=")[::2] for one in text.split("&")] if text else [])


SHAPES: Mapping[tuple[str, str], Shape] = {
    ("", "Book"): Shape.NOTHING,
    ("", HTTP_BODY): Shape.NOTHING,
    ("*", "Book"): Shape.OBJECT,
    ("*", "Nothing"): Shape.OBJECT,
    ("*", "google.protobuf.Empty"): Shape.OBJECT,
    ("*", "google.protobuf.Timestamp"): Shape.VALUE,
    ("*", "google.protobuf.Struct"): Shape.VALUE,
    ("*", "google.protobuf.StringValue"): Shape.VALUE,
    ("*", "google.protobuf.Any"): Shape.VALUE,
    ("*", HTTP_BODY): Shape.RAW,
    ("title", "Book"): Shape.VALUE,
    ("mood", "Book"): Shape.VALUE,
    ("tags", "Book"): Shape.VALUE,
    ("shelf", "Book"): Shape.OBJECT,
    ("shelves", "Book"): Shape.VALUE,
    ("by_name", "Book"): Shape.VALUE,
    ("printed", "Book"): Shape.VALUE,
    ("an_any", "Known"): Shape.VALUE,
    ("an_empty", "Known"): Shape.OBJECT,
    ("content", "Document"): Shape.RAW,
}


@pytest.mark.parametrize(("of", "shape"), SHAPES.items(), ids=repr)
def test_shape(of: tuple[str, str], shape: Shape) -> None:
    """What a body may be follows from what it gives."""
    assert body_of(rule_of(*of)).shape is shape


@pytest.mark.parametrize(("body", "owned"), [("", ""), ("*", "title shelf"), ("shelf", "shelf")])
def test_owns(body: str, owned: str) -> None:
    """A body owns nothing, everything, or the field that the rule names."""
    made = body_of(rule_of(body))
    assert [name for name in ("title", "shelf") if made.owns(name)] == owned.split()


TIME, WELL_KNOWN = "2020-01-01T00:00:00Z", "google.protobuf"
BOTH = {"title": "a", "shelf": {"theme": "b"}, "tags": ["x", "y"]}
# From a body and its rule to the message that it gives, as JSON.
READ: Mapping[str, tuple[Content, str, str, object]] = {
    "all": (
        json('{"title":"a","shelf":{"theme":"b"},"tags":["x","y"],"mood":null}'),
        *("*", "Book", BOTH),
    ),
    "no members": (json("{}"), "*", "Book", {}),
    "a timestamp": (json(f'"{TIME}"'), "*", f"{WELL_KNOWN}.Timestamp", TIME),
    "a wrapper": (json('"5"'), "*", f"{WELL_KNOWN}.Int64Value", "5"),
    "a struct": (json('{"a":[1]}'), "*", f"{WELL_KNOWN}.Struct", {"a": [1]}),
    "a list of values": (json("[1,null]"), "*", f"{WELL_KNOWN}.ListValue", [1, None]),
    "a value": (json("null"), "*", f"{WELL_KNOWN}.Value", None),
    "a scalar": (json('"a"'), "title", "Book", {"title": "a"}),
    "a number": (json('"5"'), "copies", "Book", {"copies": 5}),
    "an enum": (json('"MOOD_MERRY"'), "mood", "Book", {"mood": 1}),
    "a message": (json('{"theme":"b"}'), "shelf", "Book", {"shelf": {"theme": "b"}}),
    "an empty message": (json("{}"), "shelf", "Book", {"shelf": {}}),
    "a list": (json('["a",""]'), "tags", "Book", {"tags": ["a", ""]}),
    "an empty list": (json("[]"), "tags", "Book", {}),
    "messages": (json('[{"name":"a"},{}]'), "shelves", "Book", {"shelves": [{"name": "a"}, {}]}),
    "a map": (json('{"k":{"name":"a"}}'), "by_name", "Book", {"byName": {"k": {"name": "a"}}}),
    "a known type": (json(f'"{TIME}"'), "printed", "Book", {"printed": TIME}),
    "a field with presence": (json('""'), "text", "Note", {"text": ""}),
    "null as a value": (json("null"), "a_value", "Known", {"aValue": None}),
    "null as an enum": (json("null"), "maybe_null", "Known", {"maybeNull": "NULL_VALUE"}),
    "a form": (form("title=a&shelf.theme=b&tags=x&tags=y"), "*", "Book", BOTH),
    "a form for a field": (form("name=a&shelfCode="), "shelf", "Book", {"shelf": {"name": "a"}}),
    "an empty form": (form(""), "*", "Book", {}),
    "an empty form for a field": (form(""), "shelf", "Book", {"shelf": {}}),
    "content": (
        Raw(content_type="text/x;a=b", data=b"\xff\0"),
        *("*", HTTP_BODY, {"contentType": "text/x;a=b", "data": "/wA="}),
    ),
    "content for a field": (
        Raw(content_type="", data=b""),
        *("content", "Document", {"content": {}}),
    ),
}


@pytest.mark.parametrize(("content", "body", "takes", "members"), READ.values(), ids=READ)
def test_read(content: Content, body: str, takes: str, members: object) -> None:
    """A body is the whole message, or one field of it whose value it is and not an object of it."""
    message, violations = read(content, body, takes)
    assert violations == []
    assert message == parsed(members, message)


def parsed(members: Any, like: Message) -> Message:
    """Return the message that protobuf's own library reads."""
    return json_format.ParseDict(members, type(like)())


SINGULAR = ("title", "copies", "mood", "shelf", "printed", "tags", "shelves", "by_name")


@pytest.mark.parametrize("content", [json("null"), None], ids=["null", "no content"])
@pytest.mark.parametrize("field", SINGULAR)
def test_no_value(field: str, content: Content) -> None:
    """Null as the value of a field leaves it unset, and so does a request without content."""
    message, violations = read(content, field)
    assert violations == []
    assert message.ListFields() == []


@pytest.mark.parametrize("takes", ["Book", HTTP_BODY, f"{WELL_KNOWN}.Value"])
def test_no_content(takes: str) -> None:
    """A request without content is one with an empty message."""
    message, violations = read(None, "*", takes)
    assert violations == []
    assert message.ListFields() == []


OBJECT, STRING, ONCE = "must be a JSON object", "must be a string", "must be given once only"
UNKNOWN = "The body has a member that is not the name of a field."
INT64 = "must be an integer from -9223372036854775808 to 9223372036854775807"
# From a body and the field that it is to the pointers and texts of what is wrong.
WRONG: Mapping[tuple[str, str], list[str]] = {
    **{
        (body, text): [f"The body {OBJECT}."]
        for text in ("[]", '[{"name":"a"}]', '[["name","a"]]', '"name=a"', "1.5", "true")
        for body in ("*", "shelf")
    },
    ("*", "null"): [f"The body {OBJECT}."],
    ("*", '{"title":1,"nope":2,"shelf":{"theme":3},"tags":["a",4],"byName":{"k":5}}'): [
        f"/title title {STRING}.",
        f"/nope {UNKNOWN}",
        f"/shelf/theme theme {STRING}.",
        f"/tags/1 An element of tags {STRING}.",
        f"/byName/k A value of byName {OBJECT}.",
    ],
    ("title", '{"title":"a"}'): [f"The body {STRING}."],
    ("title", "1"): [f"The body {STRING}."],
    ("copies", "[5]"): [f"The body {INT64}."],
    ("mood", '"x"'): ["The body must be one of MOOD_UNSPECIFIED, MOOD_MERRY, MOOD_GLOOMY."],
    ("printed", "5"): ["The body must be a time as in RFC 3339, such as 2026-01-31T12:00:00Z."],
    **{
        ("shelf", f'{{"name":{value}}}'): [f"/name name {STRING}."]
        for value in ("1", "1.5", "false", '["a"]', "{}", "[]", '{"name":"a"}')
    },
    ("shelf", '{"shelf_code":1}'): [f"/shelfCode shelfCode {STRING}."],
    ("shelf", '{"name":"\\ud800"}'): ["/name name must be a string that UTF-8 can encode."],
    ("shelf", '{"name":"a","name":"b"}'): [f"/name name {ONCE}."],
    ("shelf", '{"name":"a","name":"a"}'): [f"/name name {ONCE}."],
    ("shelf", '{"name":null,"name":null}'): [f"/name name {ONCE}."],
    ("shelf", '{"name":"a","name":"a","name":1}'): [
        f"/name name {ONCE}.",
        f"/name name {ONCE}.",
        f"/name name {STRING}.",
    ],
    ("shelf", '{"shelf_code":"a","shelfCode":"a"}'): [f"/shelfCode shelfCode {ONCE}."],
    ("shelf", '{"nope":"canary"}'): [f"/nope {UNKNOWN}"],
    ("shelf", '{"nope":null}'): [f"/nope {UNKNOWN}"],
    ("shelf", '{"Name":"a"}'): [f"/Name {UNKNOWN}"],
    ("shelf", '{"shelf":{}}'): [f"/shelf {UNKNOWN}"],
    ("shelf", '{"shelf.name":"a"}'): [f"/shelf.name {UNKNOWN}"],
    ("shelf", '{"":"a"}'): [UNKNOWN],
    ("shelf", '{"canary\\ud800\\n":"a"}'): [UNKNOWN],
    ("shelf", '{"canary<script>":"a"}'): [UNKNOWN],
    ("tags", '"a"'): ["The body must be a list."],
    ("tags", '["a",1,null]'): [
        f"/1 An element of tags {STRING}.",
        "/2 An element of tags must not be null.",
    ],
    ("shelves", "{}"): ["The body must be a list."],
    ("shelves", '[{},{"name":1}]'): [f"/1/name name {STRING}."],
    ("by_name", "[]"): [f"The body {OBJECT}."],
    ("by_name", '{"a":{"name":1},"b":null}'): [
        f"/a/name name {STRING}.",
        "/b A value of byName must not be null.",
    ],
}


@pytest.mark.parametrize(("of", "violations"), WRONG.items(), ids=repr)
def test_wrong_json(of: tuple[str, str], violations: list[str]) -> None:
    """What is wrong with JSON is told by its place in the body, without a value or an odd name."""
    body, text = of
    found = told(read(json(text), body)[1])
    assert found == violations
    assert "canary" not in str(found)


def told(violations: Iterable[Violation]) -> list[str]:
    """Return the details after their pointers; nothing of a body is a parameter of the query."""
    assert all(
        violation.pointer is not None and violation.parameter is None for violation in violations
    )
    return [f"{violation.pointer} {violation.detail}".lstrip() for violation in violations]


WRONG_FORMS: Mapping[tuple[str, str], list[str]] = {
    ("*", "title=a&title=b"): ["/title title must be given once only."],
    ("*", "nope=1&copies=x&shelf.nope=a&shelf.name=b&shelf=c"): [
        "/nope nope must be the name of a field.",
        f"/copies copies {INT64}.",
        "/shelf/nope shelf.nope must be the name of a field.",
        "/shelf shelf is a message; name one of its fields after a dot.",
    ],
    ("*", "<script>=1"): ["A parameter must be the name of a field."],
    ("*", "choice.byTitle=a&choice.byCode=1"): [
        "/choice/byCode choice.byCode must not be given together with byTitle."
    ],
    ("*", "shelf.shelf_code=a&shelf.shelfCode=b"): [
        "/shelf/shelfCode shelf.shelfCode must be given once only."
    ],
    ("shelf", "shelf.name=a"): ["/shelf/name shelf.name must be the name of a field."],
    ("tree", "left.leaf=x&branches=y"): [
        "/left/leaf left.leaf must be JSON.",
        "/branches branches cannot be given as a parameter, only in a JSON body.",
    ],
}


@pytest.mark.parametrize(("of", "violations"), WRONG_FORMS.items(), ids=repr)
def test_wrong_form(of: tuple[str, str], violations: list[str]) -> None:
    """Everything that is wrong with a form is told by where it would be if it were JSON."""
    body, text = of
    assert told(read(form(text), body)[1]) == violations


LAX: Mapping[str, Content] = {
    "JSON": json('{"nope":1,"title":"x","shelf":{"nope":[],"name":"c"},"title":"a"}'),
    "a form": form("nope=1&title=x&shelf.nope=b&shelf.name=c&title=a"),
}


@pytest.mark.parametrize("content", LAX.values(), ids=LAX)
def test_what_may_be_ignored(content: Content) -> None:
    """Unknown names and duplicates are faults of either kind of body, or passed over in both."""
    message, violations = read(content, ignores=True)
    assert violations == []
    assert message == parsed({"title": "a", "shelf": {"name": "c"}}, message)
    assert len(read(content)[1]) == 3


@pytest.mark.parametrize(
    ("field", "value", "queried", "rival"),
    [
        ("by_shelf", {"name": "a"}, "by_title", "byTitle"),
        ("by_shelf", {}, "by_code", "byCode"),
        ("by_shelf", None, "by_title", None),
        ("by_shelf", {}, "hint", None),
        ("by_code", 0, "by_title", "byTitle"),
        ("hint", "a", "by_title", None),
    ],
)
def test_find_rival(field: str, value: object, queried: str, rival: str | None) -> None:
    """What the query gives is excluded by another field of its oneof, if the body gave that."""
    body = body_of(rule_of(field, "Choice"))
    assert body.find_rival({field: value}, {queried: "x"}) == rival
    assert body.find_rival({}, {queried: "x"}) is None
    assert body_of(rule_of("*", "Choice")).find_rival({field: value}, {}) is None


@pytest.mark.parametrize(
    ("body", "names", "pointer"),
    [("*", ["shelf", "a/b~c"], "/shelf/a~1b~0c"), ("shelf", ["shelf", "name"], "/name")],
)
def test_place(body: str, names: list[str], pointer: str) -> None:
    """The place of a field of the message is one in the body."""
    location = body_of(rule_of(body)).location(names)
    assert location.violation("x") == Violation(detail=f"{names[-1]} x.", pointer=pointer)


def test_place_of_a_whole_body() -> None:
    """The place of the field that is the body is the body."""
    location = body_of(rule_of("shelf")).location(["shelf"])
    assert location.violation("x") == Violation(detail="The body x.", pointer="")


@pytest.mark.parametrize(
    ("name", "field", "message"),
    [
        ("Document", "content", HTTP_BODY),
        ("Book", "shelf", "library.v1.Shelf"),
        ("Book", "shelves", None),
        ("Book", "by_name", None),
        ("Book", "title", None),
        ("Book", "", "library.v1.Book"),
    ],
)
def test_message_of(name: str, field: str, message: str | None) -> None:
    """A type is a message, and a field is one if it holds exactly one."""
    type_ = descriptor(name)
    target: Descriptor | FieldDescriptor = type_.fields_by_name[field] if field else type_
    found = message_of(target)
    assert (found and found.full_name) == message
    assert is_http_body(target) == (message == HTTP_BODY)
