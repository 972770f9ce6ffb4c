"""Binding: the message that a body and a query stand for, or everything that is wrong with them."""

from collections.abc import Mapping

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from sidecar.transcoding.binding import Binder
from sidecar.transcoding.errors import Fault, MalformedRequestError
from sidecar.transcoding.strict_json import JsonObject, JsonValue
from tests.properties import any_text, many
from tests.transcoding.library import descriptor


def bind(
    body: JsonValue, query: str = "", *, takes: str = "Shelf", ignore_unknown: bool = False
) -> dict[str, object]:
    """Return the fields of the message that is bound, those that are set."""
    message = Binder(descriptor(takes), ignore_unknown=ignore_unknown).bind(body, query)
    return fields_of(message)


def fields_of(message: Message) -> dict[str, object]:
    """Return the fields that are set."""
    return {field.name: value for field, value in message.ListFields()}


def faults_of(
    body: JsonValue, query: str = "", *, takes: str = "Shelf", ignore_unknown: bool = False
) -> tuple[Fault, ...]:
    """Return everything that is wrong."""
    with pytest.raises(MalformedRequestError) as raised:
        bind(body, query, takes=takes, ignore_unknown=ignore_unknown)
    assert raised.value.detail == raised.value.faults[0].detail
    return raised.value.faults


def members(**values: JsonValue) -> JsonObject:
    """Return an object with those members."""
    return JsonObject(values.items())


BOUND: Mapping[str, tuple[JsonObject, dict[str, object]]] = {
    "nothing": (members(), {}),
    "every field": (
        members(name="a", theme="b", shelfCode="c"),
        {"name": "a", "theme": "b", "shelf_code": "c"},
    ),
    "name of the schema": (members(shelf_code="c"), {"shelf_code": "c"}),
    "null": (members(name=None, theme="b"), {"theme": "b"}),
    "empty": (members(name="", theme="b"), {"theme": "b"}),
    "any letter": (members(name="é\0\n\U0001f600"), {"name": "é\0\n\U0001f600"}),
    "nothing is trimmed": (members(name=" a "), {"name": " a "}),
}


@pytest.mark.parametrize(("body", "fields"), BOUND.values(), ids=BOUND)
def test_body(body: JsonObject, fields: dict[str, object]) -> None:
    """Members set the fields of their names, in either form of the name."""
    assert bind(body) == fields


def test_presence() -> None:
    """A field that knows whether it was sent is told, even by an empty value but not by null."""
    binder = Binder(descriptor("Note"), ignore_unknown=False)
    assert binder.bind(members(text=""), "").HasField("text")
    assert not binder.bind(members(text=None), "").HasField("text")
    assert not binder.bind(members(), "").HasField("text")


def test_message_without_fields() -> None:
    """A message may have no fields."""
    assert bind(members(), takes="Nothing") == {}


def test_each_message_is_new() -> None:
    """One call leaves nothing behind for the next."""
    binder = Binder(descriptor("Shelf"), ignore_unknown=False)
    first = binder.bind(members(name="a"), "")
    assert fields_of(binder.bind(members(theme="b"), "")) == {"theme": "b"}
    assert fields_of(first) == {"name": "a"}


OBJECT = Fault(detail="The body must be a JSON object.", pointer="")
UNKNOWN = Fault(detail="The body has a member that no field has.", pointer="")
PARAMETER = Fault(detail="The query has a parameter that no field has.")
ESCAPES = Fault(detail="The query must hold well-formed percent escapes of UTF-8 only.")


def not_a_string(name: str) -> Fault:
    """Return the fault of a value that is no string."""
    return Fault(detail=f"{name} must be a string.", pointer=f"/{name}")


def once(name: str) -> Fault:
    """Return the fault of a field that is given again."""
    return Fault(detail=f"{name} must be given once only.", pointer=f"/{name}")


def in_query(name: str) -> Fault:
    """Return the fault of a field that is in the query."""
    return Fault(detail=f"{name} must not be in the query; send it in the body.")


WRONG: Mapping[str, tuple[JsonValue, tuple[Fault, ...]]] = {
    "array": ([], (OBJECT,)),
    "array of an object": ([members(name="a")], (OBJECT,)),
    "array of pairs": ([["name", "a"]], (OBJECT,)),
    "string": ("name=a", (OBJECT,)),
    "number": (1, (OBJECT,)),
    "true": (True, (OBJECT,)),
    "null": (None, (OBJECT,)),
    "a number for a string": (members(name=1), (not_a_string("name"),)),
    "a fraction for a string": (members(name=1.5), (not_a_string("name"),)),
    "false for a string": (members(name=False), (not_a_string("name"),)),
    "an array for a string": (members(name=["a"]), (not_a_string("name"),)),
    "an object for a string": (members(name=members()), (not_a_string("name"),)),
    "named as it was not sent": (members(shelf_code=1), (not_a_string("shelfCode"),)),
    "a lone surrogate": (
        members(name="a\ud800"),
        (Fault(detail="name must be a string that UTF-8 can encode.", pointer="/name"),),
    ),
    "twice": (JsonObject([("name", "a"), ("name", "b")]), (once("name"),)),
    "twice and equal": (JsonObject([("name", "a"), ("name", "a")]), (once("name"),)),
    "twice null": (JsonObject([("name", None), ("name", None)]), (once("name"),)),
    "thrice": (JsonObject([("name", "a")] * 3), (once("name"),)),
    "by both names": (
        JsonObject([("shelf_code", "a"), ("shelfCode", "a")]),
        (once("shelfCode"),),
    ),
    "twice and of another type": (
        JsonObject([("name", "a"), ("name", 1)]),
        (once("name"), not_a_string("name")),
    ),
    "unknown": (members(canary="a"), (UNKNOWN,)),
    "unknown null": (members(canary=None), (UNKNOWN,)),
    "empty name": (members(**{"": "a"}), (UNKNOWN,)),
    "another case": (members(Name="a"), (UNKNOWN,)),
    "odd name": (members(**{"canary\ud800\n": "a"}), (UNKNOWN,)),
    "a path for a name": (members(**{"shelf.name": "a"}), (UNKNOWN,)),
    "everything at once": (
        JsonObject([("name", 1), ("canary", 1), ("theme", "a"), ("theme", "b"), ("shelfCode", [])]),
        (not_a_string("name"), UNKNOWN, once("theme"), not_a_string("shelfCode")),
    ),
}


@pytest.mark.parametrize(("body", "faults"), WRONG.values(), ids=WRONG)
def test_wrong_body(body: JsonValue, faults: tuple[Fault, ...]) -> None:
    """Every fault of a body is told with its place, and no name or value that was sent."""
    found = faults_of(body)
    assert found == faults
    assert "canary" not in str(found)


def test_unknown_members_may_be_ignored() -> None:
    """Where the option says so, what no field has is passed over, however often it comes."""
    body = JsonObject([("x", 1), ("name", "a"), ("x", []), ("", None), ("Name", "b")])
    assert bind(body, ignore_unknown=True) == {"name": "a"}


def test_other_faults_are_not_ignored() -> None:
    """The option excuses unknown members alone."""
    body = JsonObject([("x", 1), ("name", 1), ("theme", "a"), ("theme", "a")])
    assert faults_of(body, ignore_unknown=True) == (not_a_string("name"), once("theme"))


QUERIES: Mapping[str, tuple[str, tuple[Fault, ...]]] = {
    "a field": ("name=canary", (in_query("name"),)),
    "without a value": ("name", (in_query("name"),)),
    "an empty value": ("name=", (in_query("name"),)),
    "by the JSON name": ("shelfCode=a", (in_query("shelfCode"),)),
    "by the name of the schema": ("shelf_code=a", (in_query("shelfCode"),)),
    "within a field": ("name.x.y=a", (in_query("name"),)),
    "escaped": ("n%61me=a", (in_query("name"),)),
    "escaped dot": ("name%2Ex=a", (in_query("name"),)),
    "twice": ("name=a&name=b", (in_query("name"), in_query("name"))),
    "two fields": ("&name=a&&theme=b&", (in_query("name"), in_query("theme"))),
    "malformed name": ("%zz=a", (ESCAPES,)),
    "name of no UTF-8": ("%FF=a", (ESCAPES,)),
    "malformed among others": ("%=a&name=b", (ESCAPES, in_query("name"))),
}


@pytest.mark.parametrize("ignore_unknown", [False, True])
@pytest.mark.parametrize(("query", "faults"), QUERIES.values(), ids=QUERIES)
def test_fields_in_the_query(query: str, faults: tuple[Fault, ...], ignore_unknown: bool) -> None:
    """A parameter that names a field of the body is refused always, and its value is not told."""
    found = faults_of(members(name="a"), query, ignore_unknown=ignore_unknown)
    assert found == faults
    assert "canary" not in str(found)


UNKNOWN_QUERIES: Mapping[str, int] = {
    "x=1": 1,
    "x": 1,
    "=name": 1,
    "=": 1,
    "x=name": 1,
    "x=%zz": 1,
    "Name=a": 1,
    "+name=a": 1,
    "x.name=a": 1,
    ".name=a": 1,
    "name[]=a": 1,
    "name;theme=a": 1,
    "x=1&y=2&x=3": 3,
}


@pytest.mark.parametrize(("query", "number"), UNKNOWN_QUERIES.items(), ids=repr)
def test_unknown_parameters(query: str, number: int) -> None:
    """Other parameters are refused, or passed over where the option says so."""
    assert faults_of(members(), query) == (PARAMETER,) * number
    assert bind(members(name="a"), query, ignore_unknown=True) == {"name": "a"}


@pytest.mark.parametrize("query", ["", "&", "&&&"])
def test_no_parameters(query: str) -> None:
    """A query without parameters says nothing."""
    assert bind(members(name="a"), query) == {"name": "a"}


def test_faults_of_query_and_body() -> None:
    """The faults of both are told together."""
    assert faults_of(members(name=1, x=1), "theme=a&y=1") == (
        in_query("theme"),
        PARAMETER,
        not_a_string("name"),
        UNKNOWN,
    )


def test_pointer_is_escaped() -> None:
    """A name with signs that mean something in a pointer is escaped there (RFC 6901)."""
    assert faults_of(members(**{"a/b~c": 1}), takes="Odd") == (
        Fault(detail="a/b~c must be a string.", pointer="/a~1b~0c"),
    )


UNSUPPORTED: Mapping[str, str] = {
    "Counted": "library.v1.Counted.count",
    "Lent": "library.v1.Lent.lent",
    "Cover": "library.v1.Cover.data",
    "Moody": "library.v1.Moody.mood",
    "Nested": "library.v1.Nested.shelf",
    "Tagged": "library.v1.Tagged.tags",
    "Labels": "library.v1.Labels.labels",
}


@pytest.mark.parametrize(("name", "field"), UNSUPPORTED.items(), ids=UNSUPPORTED)
def test_unsupported_field(name: str, field: str) -> None:
    """A message with a field of another kind is refused while building, by the field's name."""
    with pytest.raises(ValueError, match=r".") as raised:
        Binder(descriptor(name), ignore_unknown=False)
    assert str(raised.value) == f"{field}: only singular strings are supported yet"


def test_oneof_is_refused() -> None:
    """Of two fields that exclude each other the last would win unseen: they are not served yet."""
    with pytest.raises(ValueError, match=r"^library\.v1\.Choice\.by_title: "):
        Binder(descriptor("Choice"), ignore_unknown=False)


names = st.sampled_from(["name", "theme", "shelfCode", "shelf_code", "x"]) | any_text
values: st.SearchStrategy[JsonValue] = st.one_of(
    st.none(), st.booleans(), st.integers(), any_text, st.just(JsonObject())
)


@many
@given(st.lists(st.tuples(names, values), max_size=5).map(JsonObject), any_text)
def test_any_request(body: JsonObject, query: str) -> None:
    """Any members and any query at all are a message that says the same, or faults."""
    try:
        fields = bind(body, query, ignore_unknown=True)
    except MalformedRequestError as error:
        told = [fault.pointer for fault in error.faults]
        assert set(told) <= {None, "/name", "/theme", "/shelfCode"}
    else:
        sent = {"shelf_code" if name == "shelfCode" else name: value for name, value in body}
        kept = {name: sent.get(name) for name in ("name", "theme", "shelf_code")}
        assert fields == {name: value for name, value in kept.items() if value}
