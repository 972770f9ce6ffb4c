"""What Google's own client makes of a message by the rules comes back as the same message."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import pytest
import requests
from google.api.http_pb2 import HttpRule
from google.api_core import rest_helpers
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.transcoding.binding import Binder
from sidecar.transcoding.body_formats import choose_reader
from sidecar.transcoding.errors import SchemaViolations
from sidecar.transcoding.parameters import ParameterReader
from sidecar.transcoding.protojson.reader import JsonReader
from sidecar.transcoding.router import Router
from sidecar.transcoding.rules import read_rules
from tests.properties import many
from tests.transcoding.library import descriptor, method, service
from tests.transcoding.samples import TEXTS, WRAPPERS, Strategy, arguments, int64s, moods, numbers


def prune(message: Message) -> None:
    """Take out the messages that are there and empty, for which a query has no text."""
    for field, value in message.ListFields():
        type_ = field.message_type
        if type_ and not field.is_repeated and type_.file.name != WRAPPERS:
            prune(value)
            if not value.ListFields() and type_.full_name not in TEXTS:
                message.ClearField(field.name)


# Paths: the client quotes all but slashes. It refuses empty values and the segments "." and
# "..", and it writes what is no string as Python does: "True" and "b'a'", so that booleans,
# bytes and messages have no part here. NUL we refuse.
segments = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=8
).filter(lambda text: text not in {".", ".."})
trails = st.lists(segments, min_size=1, max_size=3).map("/".join)
shelves = segments.map(lambda name: f"shelves/{name}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A rule, what makes the values of its path, and the message that its body is, if any."""

    rule: HttpRule
    path: Mapping[str, Strategy]
    body: str = ""


WAYS: Mapping[str, Way] = {
    "Get": Way(
        rule=HttpRule(get="/v1/get/{name}/{copies}/{scalars.a_double}"),
        path={"name": segments, "copies": int64s, "scalars.a_double": numbers},
    ),
    "Dotted": Way(
        rule=HttpRule(get="/v1/dotted/{shelf.name=shelves/*}/themes/{shelf.theme}"),
        path={"shelf.name": shelves, "shelf.theme": segments},
    ),
    "Deep": Way(
        rule=HttpRule(delete="/v1/deep/{mood}/{tree.left.name=**}"),
        path={"tree.left.name": trails, "mood": moods},
    ),
    "Rest": Way(rule=HttpRule(get="/v1/rest/{name=**}:read"), path={"name": trails}),
    "Create": Way(rule=HttpRule(post="/v1/create", body="*"), path={}, body="*"),
    "Verb": Way(
        rule=HttpRule(post="/v1/verb/{name}:read:all", body="*"), path={"name": segments}, body="*"
    ),
    "Replace": Way(
        rule=HttpRule(put="/v1/replace/{shelf.name=**}/all", body="*"),
        path={"shelf.name": trails},
        body="*",
    ),
    "Update": Way(
        rule=HttpRule(patch="/v1/update/{name=shelves/*}/{title}", body="shelf"),
        path={"name": shelves, "title": segments},
        body="shelf",
    ),
    "Inner": Way(
        rule=HttpRule(patch="/v1/inner/{tree.name}/{mood}", body="tree"),
        path={"tree.name": segments, "mood": moods},
        body="tree",
    ),
    "Find": Way(
        rule=HttpRule(
            get="/v1/find/{name=shelves/*}",
            additional_bindings=[
                HttpRule(get="/v1/find/{title}/by"),
                HttpRule(post="/v1/find", body="*"),
            ],
        ),
        path={"name": shelves | segments | st.just(""), "title": segments | st.just("")},
    ),
}
LIBRARY = service(*(method(name, way.rule, takes="Book") for name, way in WAYS.items()))
BOOK = descriptor("Book", LIBRARY)


def _router() -> Router[tuple[str, Binder]]:
    router, violations = Router[tuple[str, Binder]](), SchemaViolations()
    json, parameters = JsonReader(), ParameterReader()
    for rule in read_rules([LIBRARY], violations):
        router.add(rule, (rule.method.name, Binder(rule, json, parameters)))
    violations.check()
    return router


ROUTER = _router()


@st.composite
def messages(draw: st.DrawFn, way: Way) -> Message:
    """Return a message that a request by the rule can carry: all of it, or what has a text."""
    made: Any = GetMessageClass(BOOK)(**draw(arguments(BOOK, in_query=way.body != "*")))
    if way.body != "*":
        prune(made)
    if way.body not in {"", "*"}:
        # Which the client sends even if it is not there.
        made.ClearField(way.body)
        inner = getattr(made, way.body)
        inner.SetInParent()
        inner.MergeFrom(type(inner)(**draw(arguments(inner.DESCRIPTOR))))
    for path, strategy in way.path.items():
        *parents, name = path.split(".")
        parent = made
        for each in parents:
            parent = getattr(parent, each)
        setattr(parent, name, draw(strategy))
    return cast("Message", made)


def sent(rule: HttpRule, message: Message, *, numeric: bool) -> requests.PreparedRequest:
    """Return the request for `message` that Google's own clients for REST would send.

    With `numeric` it has the numbers of enum values, and asks for them.
    """
    options = [
        {
            "method": pattern,
            "uri": getattr(one, pattern),
            **({"body": one.body} if one.body else {}),
        }
        for one in (rule, *rule.additional_bindings)
        for pattern in [str(one.WhichOneof("pattern"))]
    ]
    transcoded, body, query = rest_helpers.transcode_request(
        options, message, rest_numeric_enums=numeric
    )
    return requests.Request(
        transcoded["method"].upper(),
        f"http://library.test{transcoded['uri']}",
        params=rest_helpers.flatten_query_params(query, strict=True),  # type: ignore[no-untyped-call] # has no types
        data=body,
    ).prepare()


def received(request: requests.PreparedRequest) -> tuple[str, Message, bool]:
    """Return the name of the method that the request stands for, and its message.

    The third part is whether it asks for the numbers of enum values.
    """
    path, _, query = request.path_url.partition("?")
    found = ROUTER.find(str(request.method), path)
    name, binder = found.target
    body = request.body.encode() if isinstance(request.body, str) else b""
    content = choose_reader(binder.body.shape, ["application/json"], [])(body)
    message = binder.bind(found.variables, query, content)
    return name, message, binder.asks_enum_numbers(query)


@pytest.mark.parametrize("name", WAYS)
@settings(many, max_examples=25)
@given(data=st.data(), numeric=st.booleans())
def test_round_trip(name: str, data: st.DataObject, *, numeric: bool) -> None:
    """A message that becomes path, query and body by the rules comes back as it was."""
    way = WAYS[name]
    message = data.draw(messages(way))
    method_name, made, is_numeric = received(sent(way.rule, message, numeric=numeric))
    assert (method_name, is_numeric) == (name, numeric)
    # Not by equality, which NaN has not.
    assert made.SerializeToString(deterministic=True) == message.SerializeToString(
        deterministic=True
    )
