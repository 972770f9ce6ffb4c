"""System parameters in queries: passed over, but for the format of the response."""

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from google.api.http_pb2 import HttpRule
from google.protobuf import any_pb2
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from sidecar.transcoding import JsonFormat
from sidecar.transcoding.binding import Binder
from sidecar.transcoding.errors import SchemaViolations
from sidecar.transcoding.parameters import ParameterReader
from sidecar.transcoding.protojson.reader import JsonReader
from sidecar.transcoding.rules import read_rules
from tests.transcoding.asgi import Exchange, with_body
from tests.transcoding.binders import assert_bound, bind, binder, faults_of
from tests.transcoding.library import descriptor, method, post, service
from tests.transcoding.serving import Context, Serve

INT = "$alt=json;enum-encoding=int"
# Whether enum values are to be numbers.
PASSED_OVER: Mapping[str, bool] = {
    INT: True,
    "%24alt=json%3Benum-encoding%3Dint": True,
    "%24%61lt=json%3benum%2Dencoding=int&$fields=a": True,
    "$alt=json": False,
    "$prettyPrint=true&$fields=a,b&$fields=c&$.xgafv=2": False,
    "$=1&$&$x.y=%zz": False,
    "$Alt=json;enum-encoding=int": False,
}


@pytest.mark.parametrize("told", ["/v1 *", "/v1"])
@pytest.mark.parametrize("query", PASSED_OVER)
def test_passed_over(query: str, told: str) -> None:
    """System parameters set no field and are no violation, whatever the body may be."""
    made = binder(told, "Shelf")
    assert_bound(bind(made, "", query), "")
    assert made.asks_enum_numbers(query) is PASSED_OVER[query]


def test_beside_fields() -> None:
    """The other parameters of the query are read as without system parameters."""
    made = binder("/{name}")
    query = f"title=a&{INT}&tags=b&$unique=1&tags=c"
    assert_bound(bind(made, "n", query), '{"name":"n","title":"a","tags":["b","c"]}')
    assert not made.asks_enum_numbers("title=$alt&tags=json;enum-encoding=int")


VALUES = "must be json or json;enum-encoding=int."
REFUSED: Mapping[str, list[str]] = {
    "$alt=proto": [f"?$alt $alt in the query {VALUES}"],
    "$alt=": [f"?$alt $alt in the query {VALUES}"],
    "$alt=%zz": [f"?$alt $alt in the query {VALUES}"],
    "$alt=json;enum-encoding=name": [f"?$alt $alt in the query {VALUES}"],
    f"$alt=json&{INT}": ["?$alt $alt in the query must be given once only."],
    **{
        f"{name}=x": [f"?{name} {name} in the query must be the name of a field."]
        for name in ("alt", "key", "callback", "access_token", "fields", "prettyPrint")
    },
}


@pytest.mark.parametrize("query", REFUSED)
def test_refused(query: str) -> None:
    """A format that is not served, two formats, and the short names of others are refused."""
    assert faults_of(binder("/v1 *", "Shelf"), "", query) == REFUSED[query]
    lenient = binder("/v1 *", "Shelf", ignore_unknown=True)
    assert_bound(bind(lenient, "", query), "")


def test_the_last_format_counts() -> None:
    """Where the last of several values counts, so does the last format."""
    made = binder("/v1 *", "Shelf", ignore_duplicates=True)
    for query, is_asked in ((f"$alt=json&{INT}", True), (f"{INT}&$alt=json", False)):
        assert_bound(bind(made, "", query), "")
        assert made.asks_enum_numbers(query) is is_asked


def test_not_in_a_form() -> None:
    """In a form such a name is a field or nothing."""
    assert faults_of(binder("/v1 *", "Shelf"), "", "", "a=1&$alt=json") != []


def test_fields_with_such_names() -> None:
    """A field whose JSON name begins with $ is that field, also for what is in it."""
    kinds, file = FieldDescriptorProto, FileDescriptorProto(name="odd.proto", package="odd.v1")
    odd = file.message_type.add(name="Odd")
    odd.field.add(name="alt", json_name="$alt", number=1, label=1, type=kinds.TYPE_STRING)
    odd.field.add(name="part", json_name="$part", number=2, label=1, type_name=".odd.v1.Odd")
    called = method("Do", HttpRule(get="/v1"), takes="odd.v1.Odd", gives="odd.v1.Odd")
    file.service.add(name="Odds", method=[called])
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    (rule,) = read_rules([pool.FindServiceByName("odd.v1.Odds")], SchemaViolations())
    made = Binder(rule, JsonReader(), ParameterReader())
    query = "$alt=json;enum-encoding=int&$part.$alt=x&$other=y"
    message: Any = bind(made, "", query)
    assert (message.alt, message.part.alt) == ("json;enum-encoding=int", "x")
    assert not made.asks_enum_numbers(query)
    assert faults_of(made, "", "$part.x=1") == [
        "A parameter in the query must be the name of a field."
    ]


# Responses

MOODS: ServiceDescriptor = service(
    method("Open", post("/v1/moods"), gives="Book"),
    method(
        "Mood",
        HttpRule(get="/v1/mood", response_body="mood"),
        gives="Book",
    ),
)
WATCHED: ServiceDescriptor = service(
    method("Watch", HttpRule(get="/v1/watch"), gives="Scalars", streams="server")
)
Book = GetMessageClass(descriptor("Book", of=MOODS))
Scalars = GetMessageClass(descriptor("Scalars", of=WATCHED))


async def tell_moods(_request: Any, _context: Context) -> Message:
    """Answer with an enum in every place, and with its JSON name elsewhere."""
    held = GetMessageClass(descriptor("Scalars", of=MOODS))(a_mood=1)
    packed = any_pb2.Any()
    packed.Pack(held)
    return Book(
        mood=2,
        title="MOOD_MERRY",
        lists={"moods": [0, 1, 7]},
        maps={"bools": {True: 1}},
        known={"an_any": {"type_url": packed.type_url, "value": packed.value}, "maybe_null": 0},
    )


@pytest.mark.parametrize(("query", "is_numbered"), [("", False), ("$alt=json", False), (INT, True)])
async def test_response(serve: Serve, query: str, is_numbered: bool) -> None:
    """Enum values are numbers in the response to a request that asks for them, and in no other."""
    app = await serve(tell_moods, library=MOODS)
    exchange = with_body(b"{}", path="/v1/moods", query=query.encode())
    answer = await exchange.run(app)
    body = json.loads(answer.body)
    moods = [body["mood"], *body["lists"]["moods"], body["maps"]["bools"]["true"]]
    moods.append(body["known"]["anAny"]["aMood"])
    names = ["MOOD_GLOOMY", "MOOD_UNSPECIFIED", "MOOD_MERRY", 7, "MOOD_MERRY", "MOOD_MERRY"]
    assert moods == ([2, 0, 1, 7, 1, 1] if is_numbered else names)
    assert (body["title"], body["copies"], body["known"]["maybeNull"]) == ("MOOD_MERRY", "0", None)
    part = await Exchange(method="GET", path="/v1/mood", query=query.encode()).run(app)
    assert json.loads(part.body) == (2 if is_numbered else "MOOD_GLOOMY")


async def test_the_other_choices_of_the_service_stay(serve: Serve) -> None:
    """The request changes only how enum values are written."""
    chosen = JsonFormat(proto_names=True, omit_defaults=True)
    app = await serve(tell_moods, library=MOODS, json_format=chosen)
    answer = await with_body(b"{}", path="/v1/moods", query=INT.encode()).run(app)
    body = json.loads(answer.body)
    assert (body["mood"], body["known"]["an_any"]["a_mood"], "copies" in body) == (2, 1, False)


async def watch(_request: Any, _context: Context) -> AsyncIterator[Message]:
    """Answer with two moods."""
    for mood in (1, 2):
        yield Scalars(a_mood=mood)


@pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson"])
async def test_stream(serve: Serve, accept: str) -> None:
    """Every message of a stream is written so."""
    app = await serve(watch, library=WATCHED)
    headers = [("Accept", accept)]
    for query, moods in ((INT, [1, 2]), ("", ["MOOD_MERRY", "MOOD_GLOOMY"])):
        exchange = Exchange(method="GET", path="/v1/watch", query=query.encode(), headers=headers)
        text = (await exchange.run(app)).body.decode()
        is_array = accept == "application/json"
        told = json.loads(text if is_array else f"[{','.join(text.splitlines())}]")
        assert [item["aMood"] for item in told] == moods
