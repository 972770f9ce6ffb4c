"""Response bodies: a message or one of its fields in JSON, or the content of an HttpBody.

In a stream of responses each message is written like this; `streams.framing` makes one body of
them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from sidecar.transcoding import media_type
from sidecar.transcoding.errors import NotAcceptableError, ResponseError
from sidecar.transcoding.fields import is_http_body
from sidecar.transcoding.media_type import EVENT_STREAM, JSON, NDJSON
from sidecar.transcoding.protojson import writer as json_writer
from sidecar.transcoding.protojson.writer import JsonWriter
from sidecar.transcoding.rules import Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseBody:
    """Content of a response, and its media type or None if that is not known."""

    content: bytes
    content_type: str | None


class ResponseWriter:
    """Writes the responses of one rule: the message, one field of it, or an HttpBody.

    A stream of responses has a media type of its own for each framing.
    """

    def __init__(self, rule: Rule, json: JsonWriter) -> None:
        """Prepare for `rule`; `json` compiles the writers of its types."""
        field = rule.response_body[0] if rule.response_body else None
        self._is_raw = is_http_body(field or rule.method.output_type)
        self._name = field.name if field else None
        self._write = json.field(field) if field else json.message(rule.method.output_type)
        self._framings = (NDJSON, EVENT_STREAM) if rule.method.server_streaming else ()

    def choose(self, accept: Sequence[str]) -> str | None:
        """Return the media type of the response for a client that sent these `Accept` fields.

        Returns None if the service decides on it, as for an HttpBody. Raises NotAcceptableError
        if the client accepts no JSON.
        """
        if self._is_raw:
            return None
        chosen = media_type.choose_json(accept, self._framings)
        if chosen is None:
            raise NotAcceptableError(" or ".join((JSON, *self._framings)))
        return chosen

    def write(self, message: Message, chosen: str | None) -> ResponseBody:
        """Return the response body for `message` in the media type `chosen`.

        Raises ResponseError if JSON cannot hold the message, or if the content_type of an
        HttpBody is malformed.
        """
        if self._is_raw:
            body = self._raw(message)
            if body.content_type and not _is_media_type(body.content_type):
                raise ResponseError("the content_type of a google.api.HttpBody is not a media type")
            chosen = body.content_type or None
        return ResponseBody(content=self.write_content(message), content_type=chosen)

    def write_content(self, message: Message) -> bytes:
        """Return the content for `message` alone, for a stream whose media type is sent already.

        Raises ResponseError if JSON cannot hold the message.
        """
        if self._is_raw:
            data: bytes = self._raw(message).data
            return data
        try:
            return json_writer.encode(self._write(message))
        except (ValueError, TypeError) as error:  # TypeError: bytes, for text that is not UTF-8
            raise ResponseError(str(error)) from error
        except RecursionError as error:
            raise ResponseError("it nests too deeply") from error

    def _raw(self, message: Message) -> Any:
        """Return the HttpBody in `message`."""
        return getattr(message, self._name) if self._name else message


def _is_media_type(text: str) -> bool:
    # A quoted parameter could hold a line break, which would begin another header field.
    return text.isascii() and text.isprintable() and media_type.parse(text) is not None
