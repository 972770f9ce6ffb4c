"""Parameters: the message that names and texts stand for, or everything that is wrong with them."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TypeAlias

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given
from hypothesis import strategies as st

from sidecar.transcoding.errors import MalformedRequestError, Violation, Violations
from sidecar.transcoding.parameters import ParameterReader, find, label
from tests.properties import any_text, many
from tests.transcoding.library import descriptor, service

Pairs: TypeAlias = Sequence[tuple[str, str | None]]

LIBRARY = service()
BOOK = descriptor("Book", LIBRARY)
READER = ParameterReader()


def report(name: str | None, predicate: str) -> Violation:
    """Return the fault of a field by its name, or of ? where the name is not to be shown."""
    return Violation(detail=f"{name or '?'} {predicate}")


def read(
    pairs: Pairs, of: Descriptor = BOOK, *, by: ParameterReader = READER
) -> tuple[Message, list[str]]:
    """Return the message that is made of `pairs`, and what is wrong with them."""
    violations = Violations()
    arguments = by.read(by.fields(of), pairs, violations, report)
    return GetMessageClass(of)(**arguments), [violation.detail for violation in violations]


def book(**members: object) -> Message:
    """Return a book of the same pool."""
    return GetMessageClass(BOOK)(**members)


def pairs_of(query: str) -> Pairs:
    """Return the pairs of a query that has no escapes."""
    return [(name, text) for name, _, text in (one.partition("=") for one in query.split("&"))]


def assert_read(query: str, members: dict[str, object]) -> None:
    """Assert that a query is read as the JSON `members` are by protobuf's own library."""
    wanted = json_format.ParseDict(members, GetMessageClass(BOOK)(), descriptor_pool=BOOK.file.pool)
    assert read(pairs_of(query)) == (wanted, [])


def nested(kind: str, **members: object) -> dict[str, object]:
    """Return the members of a book with such a field."""
    return {kind: members}


NAMES: Mapping[str, dict[str, object]] = {
    "title=a": {"title": "a"},
    "title=": {},
    "shelf.name=a&shelf.theme=b": nested("shelf", name="a", theme="b"),
    "shelf.shelfCode=a": nested("shelf", shelfCode="a"),
    "shelf.shelf_code=a": nested("shelf", shelfCode="a"),
    "shelf.name=": nested("shelf"),
    "tree.left.left.left.name=a": nested("tree", left={"left": {"left": {"name": "a"}}}),
    "tree.left.name=a&tree.name=b": nested("tree", left={"name": "a"}, name="b"),
    "tags=a": {"tags": ["a"]},
    "tags=b&title=x&tags=a&tags=b&tags=": {"title": "x", "tags": ["b", "a", "b", ""]},
    "tags=a,b": {"tags": ["a,b"]},
    "lists.manyBytes=AQ&lists.many_bytes=Ag": nested("lists", manyBytes=["AQ==", "Ag=="]),
    "choice.byTitle=": nested("choice", byTitle=""),
    "choice.byCode=0&choice.hint=a": nested("choice", byCode=0, hint="a"),
    "choice.byShelf.name=a&choice.byShelf.theme=b": nested(
        "choice", byShelf={"name": "a", "theme": "b"}
    ),
}


@pytest.mark.parametrize(("query", "members"), NAMES.items(), ids=repr)
def test_names(query: str, members: dict[str, object]) -> None:
    """A name is a path of fields, in either form of each; a repeated field repeats its name."""
    assert_read(query, members)


# What a text is as the JSON value of the field, for a field of each type.
TEXTS: Mapping[str, dict[str, object]] = {
    "a_double=1.5": {"aDouble": 1.5},
    "a_float=1e3": {"aFloat": 1000.0},
    "an_int32=-2147483648": {"anInt32": -(2**31)},
    "an_int64=9223372036854775807": {"anInt64": 2**63 - 1},
    "a_uint64=18446744073709551615": {"aUint64": 2**64 - 1},
    "a_bool=true": {"aBool": True},
    "a_string= null\t": {"aString": " null\t"},
    'a_string="a"': {"aString": '"a"'},
    "a_bytes=+/8=": {"aBytes": "+/8="},
    "a_mood=MOOD_GLOOMY": {"aMood": 2},
    "a_mood=2": {"aMood": 2},
    "a_mood=99": {"aMood": 99},
}
OPTIONAL: Mapping[str, dict[str, object]] = {
    "a_double=0": {"aDouble": 0},
    "a_string=": {"aString": ""},
    "a_bytes=": {"aBytes": ""},
    "a_mood=0": {"aMood": 0},
}
KNOWN: Mapping[str, dict[str, object]] = {
    "a_timestamp=2020-01-01T00:00:00.5+01:00": {"aTimestamp": "2019-12-31T23:00:00.5Z"},
    'a_timestamp="2020-01-01T00:00:00Z"': {"aTimestamp": "2020-01-01T00:00:00Z"},
    "a_duration=-1.5s": {"aDuration": "-1.5s"},
    'a_duration="1s"': {"aDuration": "1s"},
    "a_mask=a,bC.d": {"aMask": "a,bC.d"},
    'a_mask="a"': {"aMask": "a"},
    "a_mask=": {"aMask": ""},
    'a_struct={"a":[1,null]}': {"aStruct": {"a": [1, None]}},
    "a_list=[]": {"aList": []},
    "a_value=null": {"aValue": None},
    'a_value="a"': {"aValue": "a"},
    "a_value=1": {"aValue": 1},
    "maybe_null=NULL_VALUE": {"maybeNull": "NULL_VALUE"},
    "maybe_null=null": {"maybeNull": "NULL_VALUE"},
    "a_double=NaN": {"aDouble": "NaN"},
    'a_float="1.5"': {"aFloat": 1.5},
    "an_int64=0": {"anInt64": 0},
    'a_uint64="18446744073709551615"': {"aUint64": 2**64 - 1},
    "a_bool=false": {"aBool": False},
    'a_bool="true"': {"aBool": True},
    "a_string=": {"aString": ""},
    # For a string the quotes may be part of the value, so that they always are.
    'a_string="a"': {"aString": '"a"'},
    'a_string="': {"aString": '"'},
    "some_bytes=": {"someBytes": ""},
    'some_bytes="-_8"': {"someBytes": "+/8="},
}
LISTS: Mapping[str, dict[str, object]] = {
    "int32s=2&lists.int32s=1": {"int32s": [2, 1]},
    "moods=MOOD_MERRY&lists.moods=2": {"moods": [1, 2]},
    "times=2020-01-01T00:00:00Z&lists.times=2021-01-01T00:00:00Z": {
        "times": ["2020-01-01T00:00:00Z", "2021-01-01T00:00:00Z"]
    },
    "values=1&lists.values=null": {"values": [1, None]},
    "string_values=&lists.stringValues=a": {"stringValues": ["", "a"]},
    "nulls=null&lists.nulls=0": {"nulls": [0, 0]},
}
TABLES = {"scalars": TEXTS, "optionals": OPTIONAL, "known": KNOWN, "lists": LISTS}
CASES = [
    (kind, query, members) for kind, table in TABLES.items() for query, members in table.items()
]


@pytest.mark.parametrize(("kind", "query", "members"), CASES, ids=repr)
def test_texts(kind: str, query: str, members: dict[str, object]) -> None:
    """A text is the JSON of its field; what is text in JSON may have its quotes or not."""
    assert_read(f"{kind}.{query}", {kind: members})


NO_FIELD = "must be the name of a field"
ONLY_JSON = "cannot be given as a parameter, only in a JSON body"
NAME_FIELDS = "is a message; name one of its fields after a dot"
ONCE = "must be given once only"
ESCAPES = "must be valid percent-encoded UTF-8"
A_TIME = "must be a time as in RFC 3339, such as 2026-01-31T12:00:00Z"
INT32 = "must be an integer from -2147483648 to 2147483647"
INT64 = "must be an integer from -9223372036854775808 to 9223372036854775807"

# From a name that no field has to what of it is shown.
UNKNOWN: Mapping[str, str] = {
    "nope": "nope",
    "Title": "Title",
    "shelf.nope": "shelf.nope",
    "title.": "title.",
    ".title": ".title",
    "shelf..name": "shelf..name",
    # Of what JSON alone can say.
    "shelves.name": "shelves.name",
    "by_name.x": "by_name.x",
    "maps.strings.a": "maps.strings.a",
    "known.an_any.type_url": "known.an_any.type_url",
    "known.a_timestamp.seconds": "known.a_timestamp.seconds",
    "known.a_string.value": "known.a_string.value",
    # Odd ones.
    "": "?",
    " title": "?",
    "tags[]": "?",
    "tags[0]": "?",
    "$alt": "?",
    "title\r\nx": "?",
    "nöpe": "?",
    "x" * 64: "x" * 64,
    "x" * 65: "?",
}


@pytest.mark.parametrize(("name", "shown"), UNKNOWN.items(), ids=repr)
def test_unknown_names(name: str, shown: str) -> None:
    """A name that no field has is told, unless it could be more than a name to who reads it."""
    assert read([(name, "canary"), ("title", "a")]) == (book(title="a"), [f"{shown} {NO_FIELD}"])


# From a query to the faults of its fields.
WRONG: Mapping[str, tuple[str, ...]] = {
    # What has no text
    "shelf=x": (f"shelf {NAME_FIELDS}",),
    "shelves=x": (f"shelves {ONLY_JSON}",),
    "by_name=x": (f"byName {ONLY_JSON}",),
    "known.an_any={}": (f"known.anAny {ONLY_JSON}",),
    "known.an_empty=": (f"known.anEmpty {ONLY_JSON}",),
    # Texts
    "scalars.a_bool=1": ("scalars.aBool must be true or false",),
    "scalars.a_bytes=*": ("scalars.aBytes must be bytes in base64",),
    "scalars.a_double=x": ("scalars.aDouble must be a number",),
    "scalars.a_string=\ud800": ("scalars.aString must be a string that UTF-8 can encode",),
    "mood=merry": ("mood must be one of MOOD_UNSPECIFIED, MOOD_MERRY, MOOD_GLOOMY",),
    "printed=2020-01-01": (f"printed {A_TIME}",),
    "printed=null": (f"printed {A_TIME}",),
    'printed="': ("printed must be JSON",),
    "known.a_duration=1": ("known.aDuration must be a duration in seconds, such as 1.5s",),
    "known.a_struct=[]": ("known.aStruct must be an object",),
    "known.a_value=x": ("known.aValue must be JSON",),
    "known.a_null=x": ("known.aNull must be null",),
    "known.an_int32=null": (f"known.anInt32 {INT32}",),
    'known.some_bytes="': ("known.someBytes must be bytes in base64",),
    'known.a_bool=""true""': ("known.aBool must be true or false",),
    "lists.int32s=1&lists.int32s=": (f"lists.int32s {INT32}",),
    # Several
    "title=a&title=b": (f"title {ONCE}",),
    "shelf.shelfCode=a&shelf.shelf_code=a": (f"shelf.shelfCode {ONCE}",),
    "known.a_value=1&known.aValue=null": (f"known.aValue {ONCE}",),
    "choice.byTitle=a&choice.by_title=a": (f"choice.byTitle {ONCE}",),
    "choice.byTitle=&choice.byCode=1": ("choice.byCode must not be given together with byTitle",),
    "choice.byCode=0&choice.byShelf.name=a": (
        "choice.byShelf.name must not be given together with byCode",
    ),
    "choice.byNothing=null&choice.byValue=null": (
        "choice.byValue must not be given together with byNothing",
    ),
    "nope=1&copies=canary&title=a&title=b&nope=2": (
        f"nope {NO_FIELD}",
        f"copies {INT64}",
        f"title {ONCE}",
        f"nope {NO_FIELD}",
    ),
}


@pytest.mark.parametrize(("query", "violations"), WRONG.items(), ids=repr)
def test_wrong(query: str, violations: tuple[str, ...]) -> None:
    """Everything that is wrong is told in order, by the JSON names of the fields."""
    assert read(pairs_of(query))[1] == [*violations]


def test_a_text_that_could_not_be_decoded() -> None:
    """Such a text is told of at a name that is known, be it of a field with a text or without."""
    pairs: Pairs = [("title", None), ("shelf", None), ("tags", "a"), ("nope", None)]
    violations = [f"title {ESCAPES}", f"shelf {ESCAPES}", f"nope {NO_FIELD}"]
    assert read(pairs) == (book(tags=["a"]), violations)


def test_a_name_that_is_known_is_told_however_long_or_odd() -> None:
    """What is shown of the schema's own names has no limit: a client cannot make them up."""
    name = ".".join(["tree", *["left"] * 30, "leaf"])
    assert read([(name, "x")])[1] == [f"{name} must be JSON"]
    odd = descriptor("Odd", LIBRARY)
    assert read([("path", "a"), ("a/b~c", "b")], odd)[1] == [f"a/b~c {ONCE}"]


def test_unknown_names_may_be_ignored() -> None:
    """Where the option says so they are passed over, and nothing else is."""
    lax = ParameterReader(ignore_unknown=True)
    pairs = [*pairs_of("nope=1&title=a&shelf.x=1&=&title.x=1&tags[]=1"), ("y", None)]
    assert read(pairs, by=lax) == (book(title="a"), [])
    wrong = [*pairs_of("x=1&shelves=x&title=a&title=b"), ("name", None)]
    violations = [f"shelves {ONLY_JSON}", f"title {ONCE}", f"name {ESCAPES}"]
    assert read(wrong, by=lax)[1] == violations


def test_duplicates_may_be_ignored() -> None:
    """Where the option says so the last value counts, by either name, and nothing else changes."""
    lax = ParameterReader(ignore_duplicates=True)
    query = "title=a&shelf.shelfCode=x&title=b&shelf.shelf_code=y&tags=a&tags=b&title="
    wanted = book(title="", shelf={"shelf_code": "y"}, tags=["a", "b"])
    assert read(pairs_of(query), by=lax) == (wanted, [])
    times = "printed=2020-01-01T00:00:00Z&printed=1970-01-01T00:00:01Z"
    assert read(pairs_of(times), by=lax) == (book(printed={"seconds": 1}), [])
    wrong = "copies=x&copies=1&nope=1&choice.byTitle=a&choice.byCode=1"
    rivals = "choice.byCode must not be given together with byTitle"
    assert read(pairs_of(wrong), by=lax)[1] == [f"copies {INT64}", f"nope {NO_FIELD}", rivals]


# Depth and length


def leaf_at(depth: int) -> str:
    """Return the name of a google.protobuf.Value in `depth` messages."""
    return ".".join(["tree", *["left"] * (depth - 2), "leaf"])


@pytest.mark.parametrize(("depth", "violations"), [(99, []), (100, []), (101, [f"? {NO_FIELD}"])])
def test_deepest_name(depth: int, violations: list[str]) -> None:
    """A name of a hundred fields is read, which is as deep as the service can read it again."""
    message, found = read([(leaf_at(depth).replace("leaf", "name"), "a")])
    assert found == violations
    assert type(message).FromString(message.SerializeToString()) == message


@pytest.mark.parametrize("brackets", [1, 2, 3, 48, 49])
def test_deepest_value(brackets: int) -> None:
    """JSON at the end of a name is read as long as the service can read it again."""
    text, most = "[" * brackets + "]" * brackets, 101 - 2 * brackets
    message, violations = read([(leaf_at(most), text)])
    assert violations == []
    assert type(message).FromString(message.SerializeToString()) == message
    assert read([(leaf_at(most + 1), text)])[1] == [f"{leaf_at(most + 1)} must not nest so deeply"]


HOSTILE: Mapping[str, tuple[Pairs, int]] = {
    "dots": ([("." * 100_000, "")], 1),
    "much too deep": ([("tree." + "left." * 20_000 + "name", "a")], 1),
    "many unknown": ([(f"x{number}", "") for number in range(10_000)], 100),
    "many of one": ([("title", "")] * 13_000, 100),
    "many deep": ([("tree" + ".left" * 98 + ".name", "a")] * 90, 89),
    "many of a oneof": ([("choice.byTitle", ""), ("choice.byCode", "1")] * 2, 3),
    "many elements": ([("tags", "")] * 13_000, 0),
    "digits": ([("copies", "1" * 65_536)], 1),
    "brackets": ([("known.aValue", "[" * 65_536)], 1),
}


@pytest.mark.parametrize(("pairs", "number"), HOSTILE.values(), ids=HOSTILE)
def test_hostile(pairs: Pairs, number: int) -> None:
    """What a query of 64 KiB can hold is read or refused, each parameter once, until enough is."""
    violations = Violations()
    with suppress(MalformedRequestError):
        READER.read(READER.fields(BOOK), pairs, violations, report)
    assert len(violations) == number


# Types


def type_of(*fields: FieldDescriptorProto) -> Descriptor:
    """Return a type with those fields, in a pool of its own."""
    file = FileDescriptorProto(name="a.proto", package="library.v1", syntax="proto3")
    file.message_type.add(name="Book", field=fields)
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return pool.FindMessageTypeByName("library.v1.Book")


def field_of(name: str, number: int, json_name: str) -> FieldDescriptorProto:
    """Return a string with a JSON name of its own."""
    kind = FieldDescriptorProto.TYPE_STRING
    return FieldDescriptorProto(name=name, number=number, json_name=json_name, type=kind)


def test_json_name_goes_first() -> None:
    """Where one field has the name of another as its JSON name, the name is that one's."""
    type_ = type_of(field_of("a", 1, "b"), field_of("b", 2, "c"))
    message, violations = read([("a", "1"), ("c", "2")], type_)
    assert violations == []
    assert message == GetMessageClass(type_)(a="1", b="2")
    assert read([("b", "1")], type_)[0] == GetMessageClass(type_)(a="1")


def test_types_of_one_name_in_two_pools() -> None:
    """A reader knows a type by itself, and not by its name."""
    reader = ParameterReader()
    other = type_of(field_of("nope", 1, "nope"))
    assert read([("nope", "a")], other, by=reader)[1] == []
    assert read([("nope", "a")], by=reader)[1] == [f"nope {NO_FIELD}"]
    assert read([("printed", "1970-01-01T00:00:00Z")], by=reader)[1] == []
    again = descriptor("Book")
    assert read([("printed", "1970-01-01T00:00:00Z")], again, by=reader)[1] == []


def test_label() -> None:
    """The label of a field is its dotted path of JSON names, whatever names led to it."""
    chain = find(READER.fields(BOOK), "shelf.shelf_code")
    assert chain is not None
    assert label(chain) == "shelf.shelfCode"


part = st.sampled_from(
    ["title", "tags", "shelf", "name", "known", "aValue", "choice", "byCode", "byTitle", "left"]
)
names = st.lists(part | any_text, max_size=4).map(".".join)


@many
@given(st.lists(st.tuples(names, any_text | st.none()), max_size=6), st.booleans(), st.booleans())
def test_any_parameters(pairs: Pairs, unknown: bool, duplicates: bool) -> None:
    """Any parameters at all are a message that can be sent, or faults that quote no value."""
    reader = ParameterReader(ignore_unknown=unknown, ignore_duplicates=duplicates)
    message, violations = read(pairs, by=reader)
    assert type(message).FromString(message.SerializeToString()) == message
    assert len(violations) <= len(pairs)
