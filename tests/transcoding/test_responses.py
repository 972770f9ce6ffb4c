"""Answers: a message, one field of it, or content that is not JSON, to who accepts it."""

import json
from collections.abc import Mapping

import pytest
from google.api.http_pb2 import HttpRule
from google.protobuf.any_pb2 import Any
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from sidecar.transcoding.errors import NotAcceptableError, ResponseError, SchemaViolations
from sidecar.transcoding.protojson.writer import JsonWriter
from sidecar.transcoding.responses import ResponseBody, ResponseWriter
from sidecar.transcoding.rules import read_rules
from tests.transcoding.library import method, service

JSON, HTTP_BODY = "application/json", "google.api.HttpBody"


def writer(gives: str, field: str = "") -> tuple[ResponseWriter, type[Message]]:
    """Return what writes the answers of a rule, and what makes the messages that it answers."""
    told, violations = HttpRule(get="/v1/x", response_body=field), SchemaViolations()
    (rule,) = read_rules([service(method("Do", told, gives=gives))], violations)
    violations.check()
    return ResponseWriter(rule, JsonWriter()), GetMessageClass(rule.method.output_type)


def written(gives: str, field: str = "", /, **members: object) -> str:
    """Return an answer in JSON with such members in its message."""
    answers, make = writer(gives, field)
    answer = answers.write(make(**members), JSON)
    assert answer.content_type == JSON
    return answer.content.decode()


SHELF, NUMBERS = '{"name":"a","theme":"","shelfCode":""}', '"copies":"9007199254740993","pages":1'
RECEIPT = '"tags":[],"mood":"MOOD_UNSPECIFIED","cover":""'
MESSAGES: Mapping[str, tuple[str, dict[str, object], str]] = {
    "defaults": (
        "Receipt",
        {},
        f'{{"name":"","shelfCode":"","copies":"0","pages":0,"lent":false,{RECEIPT}}}',
    ),
    "values": (
        "Receipt",
        {"name": 'é"\n', "copies": 2**53 + 1, "pages": 1, "lent": True, "shelf": {"name": "a"}},
        f'{{"name":"é\\"\\n","shelfCode":"",{NUMBERS},"lent":true,{RECEIPT},"shelf":{SHELF}}}',
    ),
    "absent": ("Note", {}, "{}"),
    "present and empty": ("Note", {"text": ""}, '{"text":""}'),
    "no fields": ("Nothing", {}, "{}"),
    "a known type": ("google.protobuf.Duration", {"seconds": 1}, '"1s"'),
    "a wrapper": ("google.protobuf.Int64Value", {"value": 5}, '"5"'),
    "nothing at all": ("google.protobuf.Empty", {}, "{}"),
}


@pytest.mark.parametrize(("gives", "members", "text"), MESSAGES.values(), ids=MESSAGES)
def test_message(gives: str, members: dict[str, object], text: str) -> None:
    """An answer is canonical JSON on one line of UTF-8, with every field that has a default."""
    assert written(gives, **members) == text


# From a field of a type to its JSON alone where it is unset, and with a value.
FIELDS: Mapping[tuple[str, str], tuple[str, object, str]] = {
    ("Book", "title"): ('""', "é", '"é"'),
    ("Book", "copies"): ('"0"', 5, '"5"'),
    ("Book", "mood"): ('"MOOD_UNSPECIFIED"', 7, "7"),
    ("Receipt", "lent"): ("false", True, "true"),
    ("Receipt", "cover"): ('""', b"\xff\xfe", '"//4="'),
    ("Receipt", "pages"): ("0", -1, "-1"),
    ("Scalars", "a_double"): ("0.0", float("-inf"), '"-Infinity"'),
    ("Optionals", "a_string"): ("null", "", '""'),
    ("Optionals", "an_int32"): ("null", 0, "0"),
    ("Book", "shelf"): ("null", {}, '{"name":"","theme":"","shelfCode":""}'),
    ("Book", "printed"): ("null", {"seconds": 1}, '"1970-01-01T00:00:01Z"'),
    ("Known", "a_string"): ("null", {"value": ""}, '""'),
    ("Known", "a_value"): ("null", {"bool_value": False}, "false"),
    ("Known", "a_list"): ("null", {}, "[]"),
    ("Known", "a_null"): ("null", 0, "null"),
    ("Known", "an_empty"): ("null", {}, "{}"),
    ("Choice", "by_code"): ("null", 0, "0"),
    ("Book", "tags"): ("[]", ["a", ""], '["a",""]'),
    ("Book", "shelves"): ("[]", [{"name": "a"}], '[{"name":"a","theme":"","shelfCode":""}]'),
    ("Lists", "int64s"): ("[]", [1, 0], '["1","0"]'),
    ("Maps", "int32s"): ("{}", {5: 6}, '{"5":"6"}'),
    ("Maps", "bools"): ("{}", {True: 1}, '{"true":"MOOD_MERRY"}'),
}


@pytest.mark.parametrize(("of", "texts"), FIELDS.items(), ids=repr)
def test_field(of: tuple[str, str], texts: tuple[str, object, str]) -> None:
    """One field as the answer is its value alone, which is always written; unset it may be null."""
    unset, value, text = texts
    assert written(*of) == unset
    assert written(*of, **{of[1]: value}) == text


RAW = ((HTTP_BODY, ""), ("Document", "content"))


@pytest.mark.parametrize("of", RAW)
@pytest.mark.parametrize("content_type", ["", "text/x", 'text/x; a="b c"', "application/json"])
def test_raw(of: tuple[str, str], content_type: str) -> None:
    """Content is written as it is, with its own type, and without one where it has none."""
    answers, make = writer(*of)
    body = {"content_type": content_type, "data": b"\xff\0"}
    message = make(**({of[1]: body} if of[1] else body))
    wanted = ResponseBody(content=b"\xff\0", content_type=content_type or None)
    assert answers.write(message, None) == wanted
    assert answers.write(make(), None) == ResponseBody(content=b"", content_type=None)


SPLIT = ("a/b\r\nx:y", 'a/b;c="\r\nx:y"', 'a/b;c="\\\n"', "a/b\0", 'a/b;c="\0"', "a/b\n")


@pytest.mark.parametrize("content_type", [*SPLIT, "text", "a/b, c/d", " ", 'a/b;c="€"', "€/b"])
def test_raw_of_no_media_type(content_type: str) -> None:
    """What is no media type is not sent as one: it could begin another field of the header."""
    answers, make = writer(HTTP_BODY)
    with pytest.raises(ResponseError) as raised:
        answers.write(make(content_type=content_type), None)
    assert str(raised.value) == "the content_type of a google.api.HttpBody is not a media type"


def test_list_of_content() -> None:
    """Content among others is JSON like any message."""
    member = {"contentType": "text/x", "data": "AQ==", "extensions": []}
    text = written("Document", content={"content_type": "text/x", "data": b"\1"})
    assert json.loads(text) == {"name": "", "content": member}


KNOWN = "a google.protobuf.{} holds a value that JSON cannot express"
NO_JSON: Mapping[str, tuple[dict[str, object], str]] = {
    "Value": (
        {"a_value": {"number_value": float("nan")}},
        "a google.protobuf.Value holds a number that JSON does not have",
    ),
    "Any": (
        {"an_any": {"type_url": "x/canary"}},
        "a google.protobuf.Any has an unknown type, or a value that is not of this type",
    ),
    "Timestamp": ({"a_timestamp": {"seconds": 10**12}}, KNOWN.format("Timestamp")),
    "Duration": ({"a_duration": {"seconds": 1, "nanos": -1}}, KNOWN.format("Duration")),
    "FieldMask": ({"a_mask": {"paths": ["canary_1"]}}, KNOWN.format("FieldMask")),
    "FieldMask of two paths in one": (
        {"a_mask": {"paths": ["canary,b"]}},
        KNOWN.format("FieldMask"),
    ),
    "FieldMask with space around a path": (
        {"a_mask": {"paths": [" canary"]}},
        KNOWN.format("FieldMask"),
    ),
    "FieldMask of no path": ({"a_mask": {"paths": [""]}}, KNOWN.format("FieldMask")),
}


@pytest.mark.parametrize("name", NO_JSON)
def test_what_has_no_json(name: str) -> None:
    """A message that JSON cannot hold is no answer; what it holds is not told."""
    members, told = NO_JSON[name]
    answers, make = writer("Known")
    with pytest.raises(ResponseError) as raised:
        answers.write(make(**members), JSON)
    assert str(raised.value) == told


def test_what_nests_without_end() -> None:
    """A message that nests more deeply than can be written is no answer."""
    answers, make = writer("Known")
    held = Any()
    for _ in range(3000):
        held = Any(type_url="x/google.protobuf.Any", value=held.SerializeToString())
    message = make(an_any={"type_url": held.type_url, "value": held.value})
    with pytest.raises(ResponseError, match=r"^it nests too deeply$"):
        answers.write(message, JSON)


def test_text_that_is_not_utf8() -> None:
    """Text of proto2 may be any bytes, which JSON cannot hold."""
    kind = FieldDescriptorProto.TYPE_STRING
    file = FileDescriptorProto(name="old.proto", package="old.v1", syntax="proto2")
    file.message_type.add(name="Old").field.add(name="text", number=1, type=kind, label=1)
    old = ".old.v1.Old"
    does = method("Do", HttpRule(get="/v1/x"), takes=old[1:], gives=old[1:])
    file.service.add(name="Olds", method=[does])
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    (rule,) = read_rules([pool.FindServiceByName("old.v1.Olds")], SchemaViolations())
    message = GetMessageClass(rule.method.output_type).FromString(b"\x0a\x01\xff")
    with pytest.raises(ResponseError):
        ResponseWriter(rule, JsonWriter()).write(message, JSON)


VENDOR = "application/vnd.library.v1+json"
ACCEPTED: Mapping[tuple[str, ...], str] = {
    (): JSON,
    ("",): JSON,
    ("*/*",): JSON,
    ("application/*",): JSON,
    ("text/html, application/*;q=0.5",): JSON,
    ("text/html", "application/json;q=0.001"): JSON,
    ("APPLICATION/JSON ; charset=utf-16",): JSON,
    ('text/x;a=",";q=0.9, application/json',): JSON,
    (VENDOR,): VENDOR,
    (f"{VENDOR};q=0.5, {JSON};q=0.4",): VENDOR,
    (f"{VENDOR}, {JSON}",): JSON,
    (f"{VENDOR};q=0, */*",): JSON,
    ("nonsense",): JSON,
}


@pytest.mark.parametrize(("accept", "chosen"), ACCEPTED.items(), ids=repr)
def test_accepted(accept: tuple[str, ...], chosen: str) -> None:
    """JSON is answered to who accepts it, by weight, under the name that it is accepted by."""
    assert writer("Shelf")[0].choose(accept) == chosen


REFUSED = ("text/html", "application/json;q=0", "*/*;q=0", "application/*;q=0, */*", "text/json")


@pytest.mark.parametrize("accept", [*REFUSED, "application/problem+json", f"{JSON};q=0,*/*"])
def test_not_acceptable(accept: str) -> None:
    """Who accepts no JSON is told that there is nothing else."""
    with pytest.raises(NotAcceptableError) as raised:
        writer("Shelf")[0].choose([accept])
    assert raised.value.detail == "Accept application/json; there is no other media type."


@pytest.mark.parametrize("of", RAW)
def test_any_accept_for_content(of: tuple[str, str]) -> None:
    """What type content has is known only when it is there, so that nothing is refused before."""
    answers = writer(*of)[0]
    assert answers.choose(["text/html;q=0"]) is None
    assert answers.choose([]) is None
