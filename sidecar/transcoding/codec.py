"""Bodies on the wire: which can be read, and how an answer is written.

What is in a body is not known here: a request's becomes `Content`, and an
answer's comes from the compiled writers.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

from google.protobuf.message import Message

from sidecar.transcoding import json_writer, media_type, strict_json
from sidecar.transcoding.body import Content, Form, Json, Raw, Shape, is_http_body
from sidecar.transcoding.errors import (
    Fault,
    MalformedRequestError,
    NotAcceptableError,
    UnsupportedMediaTypeError,
)
from sidecar.transcoding.json_writer import JsonWriter
from sidecar.transcoding.percent import decode_form
from sidecar.transcoding.rules import Rule

FORM, JSON = "application/x-www-form-urlencoded", media_type.JSON
# From the bytes of a body, which may be none. Raises MalformedRequestError.
Reader: TypeAlias = Callable[[bytes], Content]


def choose_reader(
    shape: Shape, content_type: Sequence[str], content_encoding: Iterable[str]
) -> Reader:
    """Return what reads a body of `shape` with these header fields.

    Raises UnsupportedMediaTypeError for a media type, charset or coding that
    there is no reader for.
    """
    if any(coding.strip().lower() not in {"", "identity"} for coding in content_encoding):
        raise UnsupportedMediaTypeError(
            "Send the body without Content-Encoding.", headers={"Accept-Encoding": "identity"}
        )
    if shape is Shape.NOTHING:
        return _refuse
    if shape is Shape.RAW:
        return lambda body: Raw(content_type=", ".join(content_type), data=body)
    return _choose_text_reader(_READERS[shape], content_type)


def _choose_text_reader(readers: Mapping[str, Reader], content_type: Sequence[str]) -> Reader:
    named = media_type.parse(content_type[0]) if len(content_type) == 1 else None
    reader = readers.get(JSON if named.is_json else named.essence) if named else None
    supported = ", ".join(readers)
    if named is None or reader is None:
        raise UnsupportedMediaTypeError(
            f"Send the body as one of {supported}.", headers={"Accept": supported}
        )
    if not named.is_utf8:
        raise UnsupportedMediaTypeError("Send the body in UTF-8.", headers={"Accept": supported})
    return reader


def parse_form(text: str) -> list[tuple[str, str]]:
    """Return the pairs of `text`, which is application/x-www-form-urlencoded.

    Raises ValueError for a malformed escape and for bytes that are not UTF-8.
    """
    pairs = [part.partition("=") for part in text.split("&") if part]
    return [(decode_form(name), decode_form(value)) for name, _, value in pairs]


def _refuse(body: bytes) -> Content:
    if body:  # google/api/http.proto: without `body` in the rule there is no body
        raise MalformedRequestError("Send the request without a body.")
    return None


def _read_json(body: bytes) -> Content:
    if not body:
        return None
    try:
        return Json(value=strict_json.parse(body))
    except ValueError as error:
        raise _unreadable(f"The body is not JSON: {error}.") from None


def _read_form(body: bytes) -> Content:
    if not body:
        return None
    if _is_json_object(body):  # what curl -d makes of it, for one
        raise _unreadable(f"The body is JSON; send it with Content-Type: {JSON}.")
    try:
        return Form(pairs=parse_form(body.decode()))
    except ValueError:
        raise _unreadable("The body must hold well-formed percent escapes of UTF-8 only.") from None


def _is_json_object(body: bytes) -> bool:
    with suppress(ValueError):
        return body.lstrip().startswith(b"{") and bool(strict_json.parse(body))
    return False


def _unreadable(detail: str) -> MalformedRequestError:
    return MalformedRequestError.of([Fault(detail=detail, pointer="")])


_READERS: Mapping[Shape, Mapping[str, Reader]] = MappingProxyType(
    {
        Shape.OBJECT: MappingProxyType({FORM: _read_form, JSON: _read_json}),
        # A form has names, which a value alone has not.
        Shape.VALUE: MappingProxyType({JSON: _read_json}),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The content of an answer, and its media type, if that is known."""

    content: bytes
    content_type: str | None


class AnswerWriter:
    """Writes the answers of one rule: its message, one field of that, or what HttpBody holds."""

    def __init__(self, rule: Rule, json: JsonWriter) -> None:
        """Prepare for `rule`, whose types `json` compiles."""
        field = rule.response_body[0] if rule.response_body else None
        self._is_raw = is_http_body(field or rule.method.output_type)
        self._name = field.name if field else None
        self._write = json.field(field) if field else json.message(rule.method.output_type)

    def choose(self, accept: Sequence[str]) -> str | None:
        """Return the media type of the answers for a client that sent `Accept` fields.

        None stands for whatever the service tells. Raises NotAcceptableError.
        """
        if self._is_raw:
            return None
        chosen = media_type.choose_json(accept)
        if chosen is None:
            raise NotAcceptableError(JSON)
        return chosen

    def write(self, message: Message, chosen: str | None) -> Answer:
        """Return the answer that `message` is. Raises ValueError if it has no JSON."""
        if self._is_raw:
            body: Any = getattr(message, self._name) if self._name else message
            if body.content_type and not _is_media_type(body.content_type):
                raise ValueError("the content_type of a google.api.HttpBody is no media type")
            return Answer(content=body.data, content_type=body.content_type or None)
        return Answer(content=json_writer.encode(self._write(message)), content_type=chosen)


def _is_media_type(text: str) -> bool:
    # A quoted string of a parameter could hold the end of the line, and begin another field.
    return text.isascii() and text.isprintable() and media_type.parse(text) is not None
