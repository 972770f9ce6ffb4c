"""Framings of a stream: how its messages, and its failure, become one body.

* A JSON array: one element for each message (RFC 8259 section 5).
* Lines of JSON: one line for each message (https://github.com/ndjson/ndjson-spec).
* Events: one for each message, with its number as the id
  (https://html.spec.whatwg.org/multipage/server-sent-events.html).
* Content: the bytes of each google.api.HttpBody as they are.

The failure of a stream that has begun is the last element, line or event. Content has no form
for it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from sidecar.transcoding.media_type import EVENT_STREAM, NDJSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Framing:
    """One framing.

    * `item` returns the bytes of a message, from its number and its JSON or content. The first
      message of an array or of lines has the number 1.
    * `failure` returns the end of a body after at least one message, from the JSON of a problem.
      It is None if the body cannot hold one.
    * `end` is the end of any other body with messages, and `empty` the body without any.
    * `keep_alive` may be sent between two items. It is empty if nothing may.
    * `headers` are further header fields of the response.
    * `is_numbered`: clients see the numbers.
    """

    item: Callable[[int, bytes], bytes]
    failure: Callable[[bytes], bytes] | None
    end: bytes = b""
    empty: bytes = b""
    keep_alive: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    is_numbered: bool = False


def framing_of(media_type: str | None) -> Framing:
    """Return the framing of a stream in `media_type`; None stands for content."""
    return _CONTENT if media_type is None else _FRAMINGS.get(media_type, _ARRAY)


def _element(number: int, json: bytes) -> bytes:
    return (b"[" if number == 1 else b",") + json


def _last_element(problem: bytes) -> bytes:
    return b"," + problem + b"]"


def _line(_number: int, json: bytes) -> bytes:
    return _on_one_line(json) + b"\n"


def _last_line(problem: bytes) -> bytes:
    return _line(0, problem)


def _event(number: int, json: bytes) -> bytes:
    return b"id: %d\ndata: %b\n\n" % (number, _on_one_line(json))


def _last_event(problem: bytes) -> bytes:
    # Without an id: a client that reconnects sends the id of the last message.
    return b"event: problem\ndata: %b\n\n" % _on_one_line(problem)


def _on_one_line(json: bytes) -> bytes:
    """Return `json` without anything that a reader could take for the end of a line.

    Between the values of JSON a line break is a space. Inside of strings it is escaped already,
    but for the line ends of Unicode, at which some readers of text divide lines too.
    """
    for end, escaped in _LINE_ENDS:
        if end in json:
            json = json.replace(end, escaped)
    return json


# NEXT LINE, LINE SEPARATOR and PARAGRAPH SEPARATOR, in UTF-8.
_LINE_ENDS = (
    (b"\r", b" "),
    (b"\n", b" "),
    (b"\xc2\x85", b"\\u0085"),
    (b"\xe2\x80\xa8", b"\\u2028"),
    (b"\xe2\x80\xa9", b"\\u2029"),
)
# nginx would hold items back until it has many. Content may be a file, whose service decides.
_UNBUFFERED = MappingProxyType({"X-Accel-Buffering": "no"})
_ARRAY = Framing(item=_element, failure=_last_element, end=b"]", empty=b"[]", headers=_UNBUFFERED)
_CONTENT = Framing(item=lambda _number, content: content, failure=None)
_FRAMINGS: Mapping[str, Framing] = MappingProxyType(
    {
        NDJSON: Framing(item=_line, failure=_last_line, headers=_UNBUFFERED),
        EVENT_STREAM: Framing(
            item=_event,
            failure=_last_event,
            keep_alive=b": keep-alive\n\n",
            headers=_UNBUFFERED,
            is_numbered=True,
        ),
    }
)
