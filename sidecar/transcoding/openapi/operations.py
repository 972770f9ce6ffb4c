"""Operations of OpenAPI, one for each rule: parameters, request body and response."""

from collections.abc import Iterator, Sequence
from typing import cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from sidecar.transcoding.body import Shape, shape_of
from sidecar.transcoding.body_formats import FORM, JSON
from sidecar.transcoding.fields import is_http_body
from sidecar.transcoding.openapi.comments import Comments
from sidecar.transcoding.openapi.field_behavior import Behavior, behavior_of
from sidecar.transcoding.openapi.leaves import label, leaves
from sidecar.transcoding.openapi.names import Use
from sidecar.transcoding.openapi.paths import PathParameter
from sidecar.transcoding.openapi.schemas import Schema, Schemas
from sidecar.transcoding.rules import FieldPath, Rule
from sidecar.transcoding.strict_json import JsonTree

_BYTES: Schema = {"*/*": {}}


class Operations:
    """Makes the operations of a document from its `schemas` and `comments`."""

    def __init__(self, schemas: Schemas, comments: Comments) -> None:
        self._schemas = schemas
        self._comments = comments

    def of(self, rule: Rule, path: Sequence[PathParameter], operation_id: str) -> Schema:
        """Return the Operation Object of `rule`. `path` are the parameters of its path."""
        method = rule.method
        comment = self._comments.get(method.full_name, "")
        summary, _, description = comment.partition("\n\n")
        parameters = [self._in_path(parameter) for parameter in path]
        parameters += [self._in_query(leaf) for leaf in self._queried(rule)]
        body = self._request_body(rule)
        return {
            "operationId": operation_id,
            "tags": [method.containing_service.name],
            **({"summary": summary.removesuffix(".")} if summary else {}),
            **({"description": description} if description else {}),
            **({"deprecated": True} if method.GetOptions().deprecated else {}),
            **({"parameters": list[JsonTree](parameters)} if parameters else {}),
            **({"requestBody": body} if body else {}),
            "responses": {"200": self._response(rule)},
        }

    def _in_path(self, parameter: PathParameter) -> Schema:
        schema: Schema = {"type": "string"}
        comment = None
        if parameter.field is not None:
            comment = self._comments.get(parameter.field.full_name)
            if parameter.is_whole and not parameter.is_long:
                schema = self._schemas.value(parameter.field, Use.REQUEST)
        if parameter.is_long:
            comment = "\n\n".join(filter(None, (comment, "It may contain slashes.")))
        return {
            "name": parameter.name,
            "in": "path",
            "required": True,
            **({"description": comment} if comment else {}),
            "schema": schema,
        }

    def _in_query(self, path: FieldPath) -> Schema:
        field = path[-1]
        comment = self._comments.get(field.full_name)
        return {
            "name": label(path),
            "in": "query",
            **({"required": True} if _is_required(path) else {}),
            **({"description": comment} if comment else {}),
            **({"deprecated": True} if field.GetOptions().deprecated else {}),
            "schema": self._schemas.value(field, Use.REQUEST),
        }

    def _queried(self, rule: Rule) -> Iterator[FieldPath]:
        """Yield the fields that neither the path nor the body sets."""
        if rule.body == ():
            return
        without = [*rule.variables, *([rule.body] if rule.body else [])]
        yield from leaves(rule.method.input_type, without)

    def _request_body(self, rule: Rule) -> Schema | None:
        shape = shape_of(rule)
        if shape is Shape.NOTHING:
            return None
        content = self._content(rule, shape)
        is_required = _needs_body(rule)
        return {"content": content, **({"required": True} if is_required else {})}

    def _content(self, rule: Rule, shape: Shape) -> Schema:
        if shape is Shape.RAW:
            return dict(_BYTES)
        json = self._json_body(rule)
        if shape is Shape.VALUE:
            return {JSON: {"schema": json}}
        # The form first: OAuth clients send it, and generators of clients take the first one.
        return {FORM: {"schema": self._form(rule)}, JSON: {"schema": json}}

    def _json_body(self, rule: Rule) -> Schema:
        if rule.body:
            return self._schemas.value(rule.body[0], Use.REQUEST)
        message = rule.method.input_type
        taken = frozenset(path[0].name for path in rule.variables if len(path) == 1)
        if taken:  # the path gives them
            return self._schemas.object(message, Use.REQUEST, without=taken)
        return self._schemas.message(message, Use.REQUEST)

    def _form(self, rule: Rule) -> Schema:
        chain = rule.body or ()
        # The shape of the body is OBJECT, so its field is a message.
        message = cast("Descriptor", chain[0].message_type) if chain else rule.method.input_type
        found = [path[len(chain) :] for path in leaves(message, rule.variables, chain)]
        required: list[JsonTree] = [label(path) for path in found if _is_required(path)]
        return {
            "type": "object",
            "properties": {label(path): self._schemas.described_value(path[-1]) for path in found},
            **({"required": required} if required else {}),
        }

    def _response(self, rule: Rule) -> Schema:
        field = rule.response_body[0] if rule.response_body else None
        element = field or rule.method.output_type
        description = self._comments.get(element.full_name, "OK")
        if is_http_body(element):
            return {"description": description, "content": dict(_BYTES)}
        schema = (
            self._schemas.value(field, Use.RESPONSE)
            if field
            else self._schemas.message(rule.method.output_type, Use.RESPONSE)
        )
        return {"description": description, "content": {JSON: {"schema": schema}}}


def _is_required(path: FieldPath) -> bool:
    return all(_is_marked(field) for field in path)


def _is_marked(field: FieldDescriptor) -> bool:
    return field.is_required or Behavior.REQUIRED in behavior_of(field)


def _needs_body(rule: Rule) -> bool:
    fields = rule.body or rule.method.input_type.fields
    taken = {path[0].name for path in rule.variables}
    return any(_is_marked(field) for field in fields if field.name not in taken)
