"""Operations of OpenAPI, one for each rule: parameters, request body and response."""

from collections.abc import Mapping, Sequence
from typing import cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor, ServiceDescriptor

from sidecar.transcoding.body import Shape, shape_of
from sidecar.transcoding.body_formats import FORM, JSON
from sidecar.transcoding.fields import is_http_body
from sidecar.transcoding.media_type import EVENT_STREAM, NDJSON
from sidecar.transcoding.openapi.comments import Comments
from sidecar.transcoding.openapi.field_options import (
    is_required_in_request,
    is_required_in_response,
)
from sidecar.transcoding.openapi.leaves import is_required, leaves, taken_by
from sidecar.transcoding.openapi.names import Use
from sidecar.transcoding.openapi.paths import PathParameter
from sidecar.transcoding.openapi.schemas import Schemas
from sidecar.transcoding.openapi.value_schemas import Schema, is_json_text, or_null
from sidecar.transcoding.rules import FieldPath, Rule
from sidecar.transcoding.strict_json import JsonTree

_BYTES: Schema = {"*/*": {}}
# The problem of a failed stream, if its schema is not known.
_ANY_PROBLEM: Schema = {"type": "object", "description": "A problem document (RFC 9457)."}
_STREAM = (
    "A stream: an array, or by `Accept` a line or an event for each item. If it fails after its "
    "first item, its last one is a problem document; an event has the type `problem` then."
)
_STREAM_OF_BYTES = "A stream. If it fails, the connection ends before the response is complete."
_LONG = (
    "It may be empty, and it may contain slashes. Send a slash as it is, not as `%2F`, which "
    "is not decoded."
)


class Operations:
    """Builds the operations of services with one format of JSON, whose `schemas` are given.

    A stream of responses may end with a value of one of the schemas `errors`.
    """

    def __init__(
        self,
        schemas: Schemas,
        comments: Comments,
        tags: Mapping[ServiceDescriptor, str],
        errors: Sequence[Schema],
    ) -> None:
        self._schemas = schemas
        self._comments = comments
        self._tags = tags
        self._errors = errors

    def of(self, rule: Rule, path: Sequence[PathParameter]) -> Schema:
        """Return the Operation Object of `rule`, but its id. `path` are its path parameters.

        Raises ValueError if the rule has too many parameters.
        """
        method = rule.method
        comment = self._comments.get(method.full_name, "")
        summary, _, description = comment.partition("\n\n")
        parameters = [self._in_path(parameter) for parameter in path]
        parameters += [self._in_query(leaf, rule) for leaf in _queried(rule)]
        body = self._request_body(rule)
        return {
            "tags": [self._tags[method.containing_service]],
            **({"summary": summary.removesuffix(".")} if summary else {}),
            **({"description": description} if description else {}),
            **({"deprecated": True} if method.GetOptions().deprecated else {}),
            **({"parameters": list[JsonTree](parameters)} if parameters else {}),
            **({"requestBody": body} if body else {}),
            "responses": {"200": self._response(rule)},
        }

    def _in_path(self, parameter: PathParameter) -> Schema:
        field = parameter.field
        comment = self._comments.get(field.full_name) if field is not None else None
        if parameter.is_long:
            comment = "\n\n".join(filter(None, (comment, _LONG)))
        is_value = field is not None and parameter.is_whole and not parameter.is_long
        return {
            "name": parameter.name,
            "in": "path",
            "required": True,
            **({"description": comment} if comment else {}),
            **(self._text(field) if field and is_value else {"schema": {"type": "string"}}),
        }

    def _in_query(self, path: FieldPath, rule: Rule) -> Schema:
        field = path[-1]
        comment = self._comments.get(field.full_name)
        return {
            "name": self._schemas.label(path),
            "in": "query",
            **({"required": True} if is_required(path, rule.variables) else {}),
            **({"description": comment} if comment else {}),
            **({"deprecated": True} if field.GetOptions().deprecated else {}),
            **self._text(field),
        }

    def _text(self, field: FieldDescriptor) -> Schema:
        """Return the members of a Parameter Object for the text of a field."""
        schema = self._schemas.text(field)
        return (
            {"content": {JSON: {"schema": schema}}} if is_json_text(field) else {"schema": schema}
        )

    def _request_body(self, rule: Rule) -> Schema | None:
        shape = shape_of(rule)
        if shape is Shape.NOTHING:
            return None
        if shape is Shape.RAW:
            return _body(dict(_BYTES), is_required=_is_body_required(rule))
        json, is_required = self._json_body(rule)
        content: Schema = {JSON: {"schema": json}}
        if shape is Shape.OBJECT:
            # The form first: OAuth clients send it, and generators of clients take the first one.
            content = {FORM: self._form(rule), **content}
        return _body(content, is_required=is_required)

    def _json_body(self, rule: Rule) -> tuple[Schema, bool]:
        """Return the schema of the JSON body, and whether there must be a body."""
        field = rule.body[0] if rule.body else None
        chain = rule.body or ()
        without = [
            path[len(chain) :]
            for path in taken_by(rule.variables)
            if path[: len(chain)] == chain and len(path) > len(chain)
        ]
        if without:  # the path gives fields of the message
            schema = self._schemas.object(_body_type(rule), Use.REQUEST, without=without)
            return schema, "required" in schema
        schema = (
            self._schemas.value(field, Use.REQUEST)
            if field
            else self._schemas.message(rule.method.input_type, Use.REQUEST)
        )
        return schema, _is_body_required(rule)

    def _form(self, rule: Rule) -> Schema:
        """Return the Media Type Object of a form."""
        chain = rule.body or ()
        message = _body_type(rule)
        paths, is_complete = leaves(message, taken_by(rule.variables), chain)
        names = {path: self._schemas.label(path[len(chain) :]) for path in paths}
        required: list[JsonTree] = [
            names[path] for path in paths if is_required(path, rule.variables, start=len(chain))
        ]
        is_closed = is_complete and not self._schemas.is_open(message)
        encoding: Schema = {
            names[path]: {"contentType": JSON} for path in paths if is_json_text(path[-1])
        }
        schema: Schema = {
            "type": "object",
            "properties": {names[path]: self._schemas.described_text(path[-1]) for path in paths},
            **({"required": required} if required else {}),
            **({"additionalProperties": False} if is_closed else {}),
        }
        return {"schema": schema, **({"encoding": encoding} if encoding else {})}

    def _response(self, rule: Rule) -> Schema:
        field = rule.response_body[0] if rule.response_body else None
        element = field or rule.method.output_type
        is_stream = rule.method.server_streaming
        description = self._comments.get(element.full_name, "OK")
        if is_http_body(element):
            description = f"{description}\n\n{_STREAM_OF_BYTES}" if is_stream else description
            return {"description": description, "content": dict(_BYTES)}
        schema = (
            self._response_value(field)
            if field
            else self._schemas.message(rule.method.output_type, Use.RESPONSE)
        )
        if is_stream:
            return {
                "description": f"{description}\n\n{_STREAM}",
                "content": self._stream_content(schema),
            }
        return {"description": description, "content": {JSON: {"schema": schema}}}

    def _stream_content(self, message: Schema) -> Schema:
        """Return the content of a stream: as an array, or by the schema of one line or event."""
        item: Schema = {"anyOf": [message, *(self._errors or [dict(_ANY_PROBLEM)])]}
        array: Schema = {"type": "array", "items": item}
        return {
            JSON: {"schema": array},
            NDJSON: {"schema": item},
            EVENT_STREAM: {"schema": item},
        }

    def _response_value(self, field: FieldDescriptor) -> Schema:
        """Return the schema of a field as a whole body: null if the field may be absent."""
        schema = self._schemas.value(field, Use.RESPONSE)
        may_be_absent = field.has_presence and not is_required_in_response(field)
        return or_null(schema) if may_be_absent else schema


def _queried(rule: Rule) -> Sequence[FieldPath]:
    """Return the fields that neither the path nor the body sets."""
    if rule.body == ():
        return ()
    without = taken_by(rule.variables) | ({rule.body} if rule.body else set())
    return leaves(rule.method.input_type, without).paths


def _body_type(rule: Rule) -> Descriptor:
    """Return the type of a body that is a message."""
    return cast("Descriptor", rule.body[0].message_type) if rule.body else rule.method.input_type


def _is_body_required(rule: Rule) -> bool:
    """Whether a request must have a body, if its path gives no field of the body."""
    return any(map(is_required_in_request, rule.body or rule.method.input_type.fields))


def _body(content: Schema, *, is_required: bool) -> Schema:
    return {"content": content, **({"required": True} if is_required else {})}
