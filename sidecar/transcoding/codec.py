"""Bodies: from the bytes and media type of a request to its members, and from a message to JSON."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from types import MappingProxyType

from google.protobuf import json_format
from google.protobuf.message import Message

from sidecar.transcoding import media_type, strict_json
from sidecar.transcoding.errors import Fault, MalformedRequestError, UnsupportedMediaTypeError
from sidecar.transcoding.percent import decode_form
from sidecar.transcoding.strict_json import JsonObject, JsonValue

JSON = "application/json"
Reader = Callable[[bytes], JsonValue]


def choose_reader(content_type: list[str], content_encoding: list[str]) -> Reader:
    """Return what reads a body with these header fields.

    The reader raises MalformedRequestError; this raises UnsupportedMediaTypeError,
    for a media type, charset or coding that there is no reader for.
    """
    if any(coding.strip().lower() not in {"", "identity"} for coding in content_encoding):
        raise UnsupportedMediaTypeError(
            "Send the body without Content-Encoding.", headers={"Accept-Encoding": "identity"}
        )
    named = media_type.parse(content_type[0]) if len(content_type) == 1 else None
    reader = _READERS.get(named.essence) if named else None
    if named is None or reader is None:
        supported = ", ".join(_READERS)
        raise UnsupportedMediaTypeError(
            f"Send the body as one of {supported}.", headers={"Accept": supported}
        )
    if not named.is_utf8:
        raise UnsupportedMediaTypeError(
            "Send the body in UTF-8.", headers={"Accept": ", ".join(_READERS)}
        )
    return reader


def to_json(message: Message) -> bytes:
    """Return `message` as canonical JSON; fields without presence are always there."""
    return json_format.MessageToJson(
        message, indent=None, ensure_ascii=False, always_print_fields_with_no_presence=True
    ).encode()


def parse_form(text: str) -> list[tuple[str, str]]:
    """Return the pairs of `text`, which is application/x-www-form-urlencoded.

    Raises ValueError for a malformed escape and for bytes that are not UTF-8.
    """
    pairs = [part.partition("=") for part in text.split("&") if part]
    return [(decode_form(name), decode_form(value)) for name, _, value in pairs]


def _read_json(body: bytes) -> JsonValue:
    try:
        return strict_json.parse(body) if body else JsonObject()
    except ValueError as error:
        raise _unreadable(f"The body is not JSON: {error}.") from None


def _read_form(body: bytes) -> JsonValue:
    if _is_json_object(body):  # what curl -d makes of it, for one
        raise _unreadable(f"The body is JSON; send it with Content-Type: {JSON}.")
    try:
        return JsonObject(parse_form(body.decode()))
    except ValueError:
        raise _unreadable("The body must hold well-formed percent escapes of UTF-8 only.") from None


def _is_json_object(body: bytes) -> bool:
    with suppress(ValueError):
        return body.lstrip().startswith(b"{") and bool(strict_json.parse(body))
    return False


def _unreadable(detail: str) -> MalformedRequestError:
    return MalformedRequestError.of([Fault(detail=detail, pointer="")])


_READERS: Mapping[str, Reader] = MappingProxyType(
    {"application/x-www-form-urlencoded": _read_form, JSON: _read_json}
)
