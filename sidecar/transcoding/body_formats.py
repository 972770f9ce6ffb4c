"""Readers of request bodies, chosen by media type.

They return `Content`, and other modules bind it to fields.
"""

import codecs
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import TypeAlias

from sidecar.transcoding import media_type, strict_json
from sidecar.transcoding.body import Content, Form, Json, Raw, Shape
from sidecar.transcoding.errors import MalformedRequestError, UnsupportedMediaTypeError, Violation
from sidecar.transcoding.percent import decode_form

FORM, JSON = "application/x-www-form-urlencoded", media_type.JSON
_BYTE_ORDER_MARK = codecs.BOM_UTF8
# Takes the bytes of a body, possibly none, and returns its content. Raises MalformedRequestError.
Reader: TypeAlias = Callable[[bytes], Content]


def choose_reader(
    shape: Shape, content_type: Sequence[str], content_encoding: Iterable[str]
) -> Reader:
    """Return the reader for a body of `shape` with these header fields.

    Raises UnsupportedMediaTypeError for a media type, charset or content coding that has no
    reader.
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
    parsed = media_type.parse(content_type[0]) if len(content_type) == 1 else None
    reader = readers.get(JSON if parsed.is_json else parsed.essence) if parsed else None
    supported = ", ".join(readers)
    if parsed is None or reader is None:
        fault = "The Content-Type is malformed. " if any(content_type) and parsed is None else ""
        raise UnsupportedMediaTypeError(
            f"{fault}Send the body as {' or '.join(readers)}.", headers={"Accept": supported}
        )
    if not parsed.is_utf8:
        raise UnsupportedMediaTypeError(
            "Send the body in UTF-8, with charset=utf-8 or without a charset in Content-Type.",
            headers={"Accept": supported},
        )
    return reader


def parse_form(text: str) -> list[tuple[str, str]]:
    """Return the names and values in `text`, which is application/x-www-form-urlencoded.

    Raises ValueError for a malformed escape and for bytes that are not UTF-8.
    """
    pairs = [part.partition("=") for part in text.split("&") if part]
    return [(decode_form(name), decode_form(value)) for name, _, value in pairs]


def _refuse(body: bytes) -> Content:
    if body:  # google/api/http.proto: a rule without `body` takes none
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
    if body.startswith(_BYTE_ORDER_MARK):  # it would be part of the first name
        raise _unreadable("The body begins with a byte order mark; send it without.")
    if _is_json_object(body):  # curl -d, for one, sends JSON with this media type
        raise _unreadable(f"The body is JSON; send it with Content-Type: {JSON}.")
    try:
        return Form(pairs=parse_form(body.decode()))
    except ValueError:
        raise _unreadable("The body must be valid percent-encoded UTF-8.") from None


def _is_json_object(body: bytes) -> bool:
    with suppress(ValueError):
        return body.lstrip().startswith(b"{") and bool(strict_json.parse(body))
    return False


def _unreadable(detail: str) -> MalformedRequestError:
    return MalformedRequestError.of([Violation(detail=detail, pointer="")])


_READERS: Mapping[Shape, Mapping[str, Reader]] = MappingProxyType(
    {
        Shape.OBJECT: MappingProxyType({FORM: _read_form, JSON: _read_json}),
        # A form consists of names and values, so it cannot hold a value alone.
        Shape.VALUE: MappingProxyType({JSON: _read_json}),
    }
)
