"""Binding: the message that path, query and body stand for, or all that is wrong with them."""

from collections.abc import Mapping

import pytest
from google.api.http_pb2 import HttpRule
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from hypothesis import given
from hypothesis import strategies as st

from sidecar.transcoding.binding import Binder
from sidecar.transcoding.body import Json, Raw
from sidecar.transcoding.errors import MalformedRequestError, SchemaViolations
from sidecar.transcoding.parameters import ParameterReader
from sidecar.transcoding.protojson.reader import JsonReader
from sidecar.transcoding.rules import read_rules
from tests.properties import any_text, many
from tests.transcoding.binders import assert_bound, bind, binder, faults_of
from tests.transcoding.library import method

# The body

BODIES: Mapping[str, str] = {
    "": "",
    "{}": "",
    '{"name":"a","theme":"b","shelfCode":"c"}': '{"name":"a","theme":"b","shelfCode":"c"}',
    '{"shelf_code":"c"}': '{"shelfCode":"c"}',
    '{"name":null,"theme":"b"}': '{"theme":"b"}',
    '{"name":"","theme":"b"}': '{"theme":"b"}',
    '{"name":"é\\u0000\\n\\ud83d\\ude00"}': '{"name":"é\\u0000\\n\U0001f600"}',
    '{"name":" a "}': '{"name":" a "}',
    "name=a&theme=b+%2B&shelf_code=%20": '{"name":"a","theme":"b +","shelfCode":" "}',
}


@pytest.mark.parametrize(("body", "message"), BODIES.items(), ids=repr)
def test_body(body: str, message: str) -> None:
    """Members set the fields of their names, in either form of the name."""
    assert_bound(bind(binder("/v1 *", "Shelf"), "", "", body), message)


def test_presence() -> None:
    """A field that knows whether it was sent is told, even by an empty value but not by null."""
    made = binder("/v1 *", "Note")
    assert bind(made, "", "", '{"text":""}').HasField("text")
    assert bind(made, "", "", "text=").HasField("text")
    assert not bind(made, "", "", '{"text":null}').HasField("text")
    assert not bind(made, "", "", "{}").HasField("text")
    assert not bind(made, "").HasField("text")
    assert bind(binder("/v1", "Note"), "", "text").HasField("text")
    assert binder("/v1/{text=**}", "Note").bind([""], "", None).HasField("text")


def test_message_without_fields() -> None:
    """A message may have no fields."""
    assert_bound(bind(binder("/v1 *", "Nothing"), "", "", "{}"), "")


def test_each_message_is_new() -> None:
    """One call leaves nothing behind for the next."""
    made = binder("/{shelf.name} *")
    first = bind(made, "a", "", '{"title":"b","tags":["c"]}')
    assert_bound(bind(made, "d"), '{"shelf":{"name":"d"}}')
    assert_bound(first, '{"shelf":{"name":"a"},"title":"b","tags":["c"]}')


# Path, query and body

TIME = "2020-01-01T00:00:00Z"
VALUES: Mapping[tuple[str, str], str] = {
    ("scalars.a_double", "-1.5e3"): '{"scalars":{"aDouble":-1500}}',
    ("scalars.a_float", "NaN"): '{"scalars":{"aFloat":"NaN"}}',
    ("scalars.an_int32", "-5"): '{"scalars":{"anInt32":-5}}',
    ("scalars.an_int64", f"{2**63 - 1}"): f'{{"scalars":{{"anInt64":"{2**63 - 1}"}}}}',
    ("scalars.a_uint32", "4294967295"): '{"scalars":{"aUint32":4294967295}}',
    ("scalars.a_uint64", f"{2**64 - 1}"): f'{{"scalars":{{"aUint64":"{2**64 - 1}"}}}}',
    ("scalars.a_sint32", "-1"): '{"scalars":{"aSint32":-1}}',
    ("scalars.a_sint64", "-1"): '{"scalars":{"aSint64":"-1"}}',
    ("scalars.a_fixed32", "1"): '{"scalars":{"aFixed32":1}}',
    ("scalars.a_fixed64", "1"): '{"scalars":{"aFixed64":"1"}}',
    ("scalars.a_sfixed32", "-1"): '{"scalars":{"aSfixed32":-1}}',
    ("scalars.a_sfixed64", "-1"): '{"scalars":{"aSfixed64":"-1"}}',
    ("scalars.a_bool", "true"): '{"scalars":{"aBool":true}}',
    ("scalars.a_string", "a/b+c%20?&"): '{"scalars":{"aString":"a/b+c%20?&"}}',
    ("scalars.a_bytes", "-_8"): '{"scalars":{"aBytes":"+/8="}}',
    ("mood", "MOOD_MERRY"): '{"mood":1}',
    ("mood", "99"): '{"mood":99}',
    ("optionals.an_int32", "0"): '{"optionals":{"anInt32":0}}',
    ("printed", TIME): f'{{"printed":"{TIME}"}}',
    ("printed", f'"{TIME}"'): f'{{"printed":"{TIME}"}}',
    ("known.a_duration", "1.5s"): '{"known":{"aDuration":"1.5s"}}',
    ("known.a_mask", "a,bC"): '{"known":{"aMask":"a,bC"}}',
    ("known.an_int64", "0"): '{"known":{"anInt64":"0"}}',
    ("known.a_string", "a"): '{"known":{"aString":"a"}}',
    ("known.a_bool", '"false"'): '{"known":{"aBool":false}}',
    ("known.some_bytes", "AQ"): '{"known":{"someBytes":"AQ=="}}',
    ("choice.by_code", "0"): '{"choice":{"byCode":0}}',
}


@pytest.mark.parametrize(("of", "message"), VALUES.items(), ids=repr)
def test_value_in_the_path(of: tuple[str, str], message: str) -> None:
    """A variable gives a field of any scalar type, or of one that is text in JSON."""
    field, text = of
    assert_bound(binder(f"/v1/{{{field}}}").bind([text], "", None), message)


WRONG_VALUES: Mapping[tuple[str, str], str] = {
    ("copies", "canary"): f"copies in the path must be an integer from {-(2**63)} to {2**63 - 1}.",
    ("scalars.a_bool", "True"): "scalars.aBool in the path must be true or false.",
    ("scalars.a_bytes", "canary!"): "scalars.aBytes in the path must be bytes in base64.",
    ("scalars.a_double", "1,5"): "scalars.aDouble in the path must be a number.",
    (
        "mood",
        "canary",
    ): "mood in the path must be one of MOOD_UNSPECIFIED, MOOD_MERRY, MOOD_GLOOMY.",
    ("known.a_duration", "1"): (
        "known.aDuration in the path must be a duration in seconds, such as 1.5s."
    ),
    ("known.a_value", "canary"): "known.aValue in the path must be JSON.",
}


@pytest.mark.parametrize(("of", "violation"), WRONG_VALUES.items(), ids=repr)
def test_wrong_value_in_the_path(of: tuple[str, str], violation: str) -> None:
    """A text that its field cannot take is told by the name of the field, and is not quoted."""
    field, text = of
    assert faults_of(binder(f"/v1/{{{field}}}"), text) == [violation]


DEEP = "/{tree.left.left.name}/{tree.left.name}/{tree.name}"
# From a rule, the values in the path, the query and the body to the message.
LEAVES: Mapping[tuple[str, str, str, str], str] = {
    ("/{name}/{shelf.name}", "a b", "title=c+d%2Be&shelf.theme=f&tags=g&tags=h", ""): (
        '{"name":"a","shelf":{"name":"b","theme":"f"},"title":"c d+e","tags":["g","h"]}'
    ),
    ("/{name} *", "a", "", '{"title":"b"}'): '{"name":"a","title":"b"}',
    ("/{name} *", "a", "", ""): '{"name":"a"}',
    ("/{name} *", "a", "", "title=b&shelf.name=c"): (
        '{"name":"a","title":"b","shelf":{"name":"c"}}'
    ),
    ("/{shelf.name} *", "a", "", '{"shelf":{"theme":"b"}}'): '{"shelf":{"name":"a","theme":"b"}}',
    ("/{shelf.name} *", "a", "", '{"shelf":null}'): '{"shelf":{"name":"a"}}',
    ("/{shelf.name} *", "a", "", '{"shelf":{"name":null}}'): '{"shelf":{"name":"a"}}',
    ("/{name} shelf", "a", "title=b&copies=5", '{"name":"c"}'): (
        '{"name":"a","title":"b","copies":5,"shelf":{"name":"c"}}'
    ),
    ("/{name} shelf", "a", "title=b", "name=c"): '{"name":"a","title":"b","shelf":{"name":"c"}}',
    ("/{name} shelf", "a", "title=b", ""): '{"name":"a","title":"b"}',
    ("/{name} shelf", "a", "", "null"): '{"name":"a"}',
    ("/{shelf.name} shelf", "a", "title=b", '{"theme":"c"}'): (
        '{"shelf":{"name":"a","theme":"c"},"title":"b"}'
    ),
    ("/{shelf.name} shelf", "a", "", ""): '{"shelf":{"name":"a"}}',
    ("/{shelf.name} shelf", "a", "", "null"): '{"shelf":{"name":"a"}}',
    ("/{name} title", "a", "tags=b", '"c"'): '{"name":"a","title":"c","tags":["b"]}',
    ("/{name} tags", "a", "title=b", '["c"]'): '{"name":"a","title":"b","tags":["c"]}',
    ("/{name} by_name", "a", "", '{"k":{}}'): '{"name":"a","byName":{"k":{}}}',
    ("/{name} printed", "a", "", f'"{TIME}"'): f'{{"name":"a","printed":"{TIME}"}}',
    (f"{DEEP} *", "a b c", "", '{"tree":{"left":{"leaf":1},"branches":[{}]}}'): (
        '{"tree":{"name":"c","left":{"name":"b","left":{"name":"a"},"leaf":1},"branches":[{}]}}'
    ),
    (DEEP, "a b c", "tree.left.leaf=1&tree.left.left.left.name=d", ""): (
        '{"tree":{"name":"c","left":{"name":"b","leaf":1,"left":{"name":"a","left":{"name":"d"}}}}}'
    ),
    ("/{choice.by_shelf.name}", "a", "choice.byShelf.theme=b&choice.hint=c", ""): (
        '{"choice":{"byShelf":{"name":"a","theme":"b"},"hint":"c"}}'
    ),
    ("/{choice.by_title} *", "a", "", '{"choice":{"hint":"b","byCode":null}}'): (
        '{"choice":{"byTitle":"a","hint":"b"}}'
    ),
}


@pytest.mark.parametrize(("request_", "message"), LEAVES.items(), ids=repr)
def test_leaves(request_: tuple[str, str, str, str], message: str) -> None:
    """Path, query and body give each their part of the message, however they are nested."""
    told, *parts = request_
    assert_bound(bind(binder(told), *parts), message)


def test_the_whole_body_is_a_known_type() -> None:
    """A message that has a JSON of its own is the body, and the query has no part of it."""
    made = binder("/v1 *", "google.protobuf.Timestamp")
    assert_bound(bind(made, "", "", f'"{TIME}"'), f'"{TIME}"')
    assert bind(made, "").ListFields() == []
    owned = "?seconds seconds must not be in the query; send it in the body."
    assert faults_of(made, "", "seconds=5") == [owned]


def test_content() -> None:
    """What is no JSON is passed on as it is, with its media type, beside path and query."""
    made = binder("/v1/{name} content", "Document")
    message = made.bind(["a"], "", Raw(content_type="text/x", data=b"{"))
    assert_bound(message, '{"name":"a","content":{"contentType":"text/x","data":"ew=="}}')


UNKNOWN_QUERIES: Mapping[str, list[str]] = {
    "x=canary": ["x"],
    "x": ["x"],
    "x=%zz": ["x"],
    "x=1&y=2&x=3": ["x", "y"],
    "Name=a": ["Name"],
    "x.name=a": ["x.name"],
    ".name=a": [".name"],
    **{odd: [""] for odd in ("=name", "=", "+name=a", "name[]=a", "name;theme=a", "." * 100_000)},
}


@pytest.mark.parametrize("told", ["/v1 *", "/v1"])
@pytest.mark.parametrize(("query", "names"), UNKNOWN_QUERIES.items(), ids=lambda of: repr(of)[:30])
def test_unknown_parameters(query: str, names: list[str], told: str) -> None:
    """Other parameters are refused each once by name, or passed over where the option says so."""
    reason = "in the query must be the name of a field."
    wanted = [f"?{name} {name} {reason}" if name else f"A parameter {reason}" for name in names]
    assert faults_of(binder(told, "Shelf"), "", query) == wanted
    assert_bound(bind(binder(told, "Shelf", ignore_unknown=True), "", query), "")


# Options


@pytest.mark.parametrize(
    ("told", "query", "body"),
    [
        ("/{name}", "title=x&tags=a&x=1&shelf.shelf_code=x&title=b&shelf.shelfCode=c&tags=d", ""),
        ("/{name} *", "x=1", "title=x&tags=a&shelf.shelf_code=x&title=b&shelf.shelfCode=c&tags=d"),
        (
            "/{name} *",
            "",
            '{"title":"","x":[],"tags":["a","d"],"title":"b","shelf":{"shelf_code":"x","shelfCode":"c"}}',
        ),
    ],
)
def test_ignored(told: str, query: str, body: str) -> None:
    """Where the options say so the last of several counts and unknown names do not, anywhere."""
    made = binder(told, ignore_unknown=True, ignore_duplicates=True)
    message = '{"name":"a","title":"b","tags":["a","d"],"shelf":{"shelfCode":"c"}}'
    assert_bound(bind(made, "a", query, body), message)
    assert len(faults_of(binder(told), "a", query, body)) == 3


def test_other_faults_are_not_ignored() -> None:
    """The options excuse nothing else."""
    made = binder("/{name} shelf", ignore_unknown=True, ignore_duplicates=True)
    assert faults_of(made, "a", "name=b&x=1&copies=&copies=1", '{"x":1,"name":1,"name":"c"}') == [
        "?name name must not be in the query; the path gives it.",
        f"?copies copies in the query must be an integer from {-(2**63)} to {2**63 - 1}.",
        "/name name must be a string.",
    ]


def test_deepest_value_in_the_path() -> None:
    """JSON in the path nests as deeply as the service can read it, and no deeper."""
    made = binder("/v1/{tree.left.left.leaf}")
    refused = []
    for depth in range(1, 90):
        try:
            message = bind(made, "[" * depth + "]" * depth)
        except MalformedRequestError:
            refused.append(depth)
        else:
            type(message).FromString(message.SerializeToString())
    assert refused == list(range(min(refused), 90))
    assert min(refused) > 40


# Types of other schemas


MESSAGES = {"parts": ".odd.v1.Odd", "inner": ".odd.v1.Odd", "named": ".odd.v1.Odd.NamedEntry"}


def odd() -> tuple[Binder, Binder]:
    """Return what binds a message of proto2 whose fields have each other's names.

    The first takes a body, the second a query.
    """
    file = FileDescriptorProto(name="odd.proto", package="odd.v1", syntax="proto2")
    kind, label = FieldDescriptorProto.Type, FieldDescriptorProto.Label
    file.message_type.add(name="Odd").field.extend(
        FieldDescriptorProto(
            name=name,
            number=number,
            json_name=json_name,
            type=kind.TYPE_MESSAGE if name in MESSAGES else kind.TYPE_STRING,
            type_name=MESSAGES.get(name),
            label=label.Value(f"LABEL_{many}"),
        )
        for number, (name, json_name, many) in enumerate(
            [
                ("key", "key", "REQUIRED"),
                ("a", "b", "OPTIONAL"),
                ("b", "c", "OPTIONAL"),
                ("self", "self", "OPTIONAL"),
                ("parts", "parts", "REPEATED"),
                ("named", "named", "REPEATED"),
                ("inner", "inner", "OPTIONAL"),
            ],
            start=1,
        )
    )
    entry = file.message_type[0].nested_type.add(name="NamedEntry")
    entry.options.map_entry = True
    for number, (name, type_, type_name) in enumerate(
        [("key", kind.TYPE_STRING, None), ("value", kind.TYPE_MESSAGE, ".odd.v1.Odd")], start=1
    ):
        entry.field.add(
            name=name, number=number, type=type_, type_name=type_name, label=label.LABEL_OPTIONAL
        )
    told = HttpRule(post="/v1/{b}", body="*", additional_bindings=[HttpRule(get="/v1/{b}")])
    file.service.add(
        name="Odds", method=[method("Do", told, takes="odd.v1.Odd", gives="odd.v1.Odd")]
    )
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    rules = read_rules([pool.FindServiceByName("odd.v1.Odds")], SchemaViolations())
    first, second = (Binder(rule, JsonReader(), ParameterReader()) for rule in rules)
    return first, second


ODD, ODD_WITHOUT_BODY = odd()


def test_fields_that_must_be_given() -> None:
    """A message of proto2 must have its required fields, however deep; the missing are named."""
    body = '{"key":"","parts":[{"key":"x"}],"self":"y"}'
    assert_bound(bind(ODD, "a", "", body), body.replace("{", '{"c":"a",', 1))
    assert faults_of(ODD, "a", "", '{"parts":[{"key":""},{}]}') == [
        "/key key must be given.",
        "/parts/1/key key must be given.",
    ]
    assert faults_of(ODD, "a", "", '{"key":"x","inner":{"self":"y"}}') == [
        "/inner/key key must be given."
    ]
    assert faults_of(ODD_WITHOUT_BODY, "a", "inner.self=y") == [
        "?key key must be given.",
        "?inner.key inner.key must be given.",
    ]
    named = '"named":{"a":{},"<canary>":{"self":"x"},"b":{"key":""}}'
    found = faults_of(ODD, "a", "", f'{{"key":"x","parts":[{{}}],{named}}}')
    # The key of a map is the client's, and what is odd is not shown.
    assert sorted(found) == [
        "/named key must be given.",
        "/named/a/key key must be given.",
        "/parts/0/key key must be given.",
    ]


def test_a_name_that_two_fields_have() -> None:
    """The path gives a field by its own name, elsewhere a name is first one in JSON."""
    assert_bound(bind(ODD, "x", "", '{"key":"","b":"y"}'), '{"key":"","c":"x","b":"y"}')
    assert faults_of(ODD, "x", "", '{"key":"","c":"y"}') == [
        "/c c must not be in the body; the path gives c."
    ]
    assert faults_of(ODD, "x", "c=y", '{"key":""}') == [
        "?c c must not be in the query; the path gives it."
    ]


HOSTILE: Mapping[str, int] = {
    "&" * 65_536: 0,
    "=&" * 32_768: 1,
    "%&" * 32_768: 1,
    "title=%&" * 8_192: 1,
    "title&" * 10_922: 1,
    "tags&" * 13_000: 0,
    "".join(f"x{number}&" for number in range(9_000)): 100,
    "tree." + "left." * 13_000 + "name": 1,
    f"tree.{'left.' * 98}name&" * 128: 1,
    "tags&title&" * 5_957: 1,
    "copies=" + "1" * 65_536: 1,
    "known.aValue=" + "[" * 65_536: 1,
    "%2E" * 21_845: 1,
    "$&" * 32_768: 0,
    "$alt&" * 13_107: 1,
    "$alt=json&" * 6_553: 1,
}


@pytest.mark.parametrize(("query", "violations"), HOSTILE.items(), ids=lambda of: repr(of)[:30])
def test_hostile_query(query: str, violations: int) -> None:
    """Whatever 64 KiB of a query say is read or refused; each fault is told once, up to enough."""
    made = binder("/v1")
    if violations:
        assert len(faults_of(made, "", query)) == violations
    else:
        assert type(bind(made, "", query)) is type(bind(made, ""))
        assert not made.asks_enum_numbers(query)


systems = st.lists(
    st.sampled_from(["$alt=", "%24alt=json", ";enum-encoding=int", "$x", "&", "title=a", "%zz"])
).map("".join)


@many
@given(st.lists(any_text, min_size=2, max_size=2), any_text | systems, any_text, st.booleans())
def test_any_request(path: list[str], query: str, body: str, ignore: bool) -> None:
    """Any texts at all are a message that can be sent, or are refused."""
    made = binder("/{copies}/{shelf.name} title", ignore_unknown=ignore, ignore_duplicates=ignore)
    try:
        message = made.bind(path, query, Json(value=body))
    except MalformedRequestError:
        return
    assert type(message).FromString(message.SerializeToString()) == message
    assert made.asks_enum_numbers(query) in {True, False}
