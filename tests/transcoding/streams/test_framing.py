"""Framings: bodies made of messages, and of a problem, are read again as those."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.transcoding.protojson import writer
from sidecar.transcoding.streams.framing import Framing, framing_of
from tests.transcoding.streams.event_stream import Event, read_events

ARRAY, LINES, EVENTS = "application/json", "application/x-ndjson", "text/event-stream"
VENDOR = "application/vnd.example+json"
NO_BUFFER = {"X-Accel-Buffering": "no"}


def body_of(framing: Framing, items: Sequence[bytes], problem: bytes | None = None) -> bytes:
    """Return the body of `items` that ends well, or with `problem`."""
    if not items:
        return framing.empty
    framed = b"".join(framing.item(number, item) for number, item in enumerate(items, 1))
    if problem is None:
        return framed + framing.end
    assert framing.failure is not None
    return framed + framing.failure(problem)


BODIES = {
    (ARRAY, 0, False): b"[]",
    (ARRAY, 2, False): b'[{"a":1},{"a":2}]',
    (ARRAY, 1, True): b'[{"a":1},{"status":500}]',
    (VENDOR, 1, False): b'[{"a":1}]',
    (LINES, 0, False): b"",
    (LINES, 2, False): b'{"a":1}\n{"a":2}\n',
    (LINES, 1, True): b'{"a":1}\n{"status":500}\n',
    (EVENTS, 0, False): b"",
    (EVENTS, 2, False): b'id: 1\ndata: {"a":1}\n\nid: 2\ndata: {"a":2}\n\n',
    (EVENTS, 1, True): b'id: 1\ndata: {"a":1}\n\nevent: problem\ndata: {"status":500}\n\n',
    (None, 0, False): b"",
    (None, 2, False): b'{"a":1}{"a":2}',
}


@pytest.mark.parametrize(("media_type", "count", "fails"), BODIES, ids=repr)
def test_body(media_type: str | None, count: int, fails: bool) -> None:
    """Each framing has its form, for no, one and two messages, and for a problem after them."""
    items = [b'{"a":%d}' % number for number in range(1, count + 1)]
    problem = b'{"status":500}' if fails else None
    assert body_of(framing_of(media_type), items, problem) == BODIES[media_type, count, fails]


def test_content_has_no_form_for_a_problem() -> None:
    """Bytes of their own cannot hold a problem; the other framings can."""
    assert framing_of(None).failure is None
    assert None not in {framing_of(each).failure for each in (ARRAY, LINES, EVENTS)}


@pytest.mark.parametrize("media_type", [ARRAY, LINES, None])
def test_only_events_have_comments(media_type: str | None) -> None:
    """Only events have something to send between messages."""
    assert framing_of(media_type).keep_alive == b""


@pytest.mark.parametrize(
    ("media_type", "expected"),
    [
        (ARRAY, NO_BUFFER),
        (VENDOR, NO_BUFFER),
        (LINES, NO_BUFFER),
        (EVENTS, NO_BUFFER),
        (None, {}),
    ],
)
def test_proxies_do_not_hold_items_back(media_type: str | None, expected: dict[str, str]) -> None:
    """A message reaches the client when it is sent, so nginx is told not to wait for more."""
    assert dict(framing_of(media_type).headers) == expected


def test_a_comment_is_no_event() -> None:
    """What is sent between two events changes neither."""
    framing = framing_of(EVENTS)
    assert framing.keep_alive
    body = framing.item(1, b"{}") + framing.keep_alive + framing.item(2, b"[]")
    assert read_events(body) == [Event(data="{}", id="1"), Event(data="[]", id="2")]


# With everything that some reader takes for the end of a line.
TEXTS = st.text(st.sampled_from('a"\\:[]{},\0\t\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029é\U0001f600'))
TREES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
# Line breaks between the values are what a renderer of errors may write.
ENCODERS = (
    writer.encode,
    lambda tree: json.dumps(tree, indent="\r\n", ensure_ascii=False).encode(),
)


@given(st.lists(TREES, max_size=4), st.none() | TREES.map(lambda tree: [tree]), st.booleans())
def test_round_trip(trees: list[Any], problem: list[Any] | None, is_pretty: bool) -> None:
    """Whatever messages and problem are framed, their readers get the same ones in order."""
    encode = ENCODERS[is_pretty]
    items, last = [encode(tree) for tree in trees], encode(problem) if problem else None
    expected = [*trees, *([problem] if problem and trees else [])]
    assert json.loads(body_of(framing_of(ARRAY), items, last)) == expected
    lines = body_of(framing_of(LINES), items, last).decode()
    assert [json.loads(line) for line in lines.split("\n")[:-1]] == expected
    assert [json.loads(line) for line in lines.splitlines()] == expected  # by Unicode's line ends
    events = read_events(body_of(framing_of(EVENTS), items, last))
    assert [json.loads(event.data) for event in events] == expected
    ids = [str(number) for number in range(1, len(trees) + 1)]
    assert [event.id for event in events if event.type == "message"] == ids
    assert [event.type for event in events if event.type != "message"] == (
        ["problem"] if problem and trees else []
    )


@given(st.lists(st.binary(max_size=5), min_size=1, max_size=4))
def test_content_as_it_is(pieces: list[bytes]) -> None:
    """Content is the bytes of its pieces, one after the other."""
    assert body_of(framing_of(None), pieces) == b"".join(pieces)
