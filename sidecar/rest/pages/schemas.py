"""JSON Schemas as lists of members, and examples of their values."""

import json
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from sidecar.rest.pages import markdown
from sidecar.rest.pages.document import Document, Node, name_of
from sidecar.rest.pages.markup import Markup, element, join

# Keywords of JSON Schema whose values are shown, with their labels.
_LABELS: Mapping[str, str] = MappingProxyType(
    {
        "const": "Value",
        "enum": "One of",
        "x-enum-varnames": "Names, in the same order",
        "default": "Default",
        "pattern": "Pattern",
        "minLength": "Minimum length",
        "maxLength": "Maximum length",
        "minimum": "Minimum",
        "maximum": "Maximum",
        "minItems": "Minimum number of items",
        "maxItems": "Maximum number of items",
        "contentEncoding": "Encoding",
    }
)
_MARKS: Mapping[str, str] = MappingProxyType(
    {"readOnly": "only in responses", "writeOnly": "only in requests", "deprecated": "deprecated"}
)
# The same schema in other media types.
Variants = Mapping[str, Node]


class Schemas:
    """Renders the schemas of a document."""

    def __init__(self, document: Document) -> None:
        self._document = document

    def members(
        self,
        schema: Node,
        variants: Variants = MappingProxyType({}),
        seen: frozenset[str] = frozenset(),
    ) -> Markup:
        """Return the members of the object of `schema`; of a list or map, those of its values.

        `variants` are schemas of the same object in other media types. A component in `seen`
        stands inside itself and is not repeated.
        """
        name = name_of(schema)
        if name in seen:
            return Markup()
        seen |= {name} if name else frozenset()
        schema = self._document.resolve(schema)
        for key in ("items", "additionalProperties"):
            if isinstance(schema.get(key), Mapping):
                return self.members(schema[key], seen=seen)
        properties: Node = schema.get("properties", {})
        if not properties:
            return Markup()
        others = {media: self._document.resolve(each) for media, each in variants.items()}
        rows = (
            self.member(
                name,
                each,
                is_required=name in schema.get("required", ()),
                variants={media: other["properties"][name] for media, other in others.items()},
                seen=seen,
            )
            for name, each in properties.items()
        )
        return join([element("dl", *rows, class_="members"), *self._exclusions(schema)])

    def member(
        self,
        name: str,
        schema: Node,
        *,
        is_required: bool,
        description: str | None = None,
        id_: str | None = None,
        variants: Variants = MappingProxyType({}),
        seen: frozenset[str] = frozenset(),
    ) -> Markup:
        """Return the row of a member or parameter. Its schema may have the description."""
        resolved = self._document.resolve(schema)
        text = description or resolved.get("description", "")
        term = [element("code", name, class_="name"), self._type(schema, variants)]
        if is_required:
            term.append(element("strong", "required"))
        term += [element("em", mark) for key, mark in _MARKS.items() if resolved.get(key)]
        body = [markdown.render(text), self._constraints(resolved), self.members(schema, seen=seen)]
        row = (element("dt", join(term, " ")), element("dd", *body))
        return element("div", *row, class_="member", id=id_ or False)

    def type_of(self, schema: Node) -> str:
        """Return the type of a value in words."""
        schema = self._document.resolve(schema)
        for key in ("anyOf", "oneOf"):
            if key in schema:
                return " or ".join(dict.fromkeys(map(self.type_of, schema[key])))
        if "items" in schema:
            return f"array of {self.type_of(schema['items'])}"
        if isinstance(schema.get("additionalProperties"), Mapping):
            return f"map to {self.type_of(schema['additionalProperties'])}"
        types = schema.get("type", "any value")
        name = types if isinstance(types, str) else " or ".join(types)
        return f"{name} ({schema['format']})" if "format" in schema else name

    def constraints(self, schema: Node) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """Yield the label and the values of each constraint of a value."""
        schema = self._document.resolve(schema)
        for each in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
            yield from self.constraints(each)
        for key, label in _LABELS.items():
            if key in schema:
                value = schema[key]
                yield label, tuple(value) if isinstance(value, list) else (value,)
        if "items" in schema:
            for label, values in self.constraints(schema["items"]):
                yield f"{label} of an item", values

    def _type(self, schema: Node, variants: Variants) -> Markup:
        own = self.type_of(schema)
        texts: list[str] = [own]
        for media, other in variants.items():
            if self.type_of(other) != own:
                texts += ["; in ", element("code", media), f" {self.type_of(other)}"]
        return element("span", *texts, class_="type")

    def _constraints(self, schema: Node) -> Markup:
        rows = [
            element("li", f"{label}: ", join((element("code", _text(v)) for v in values), ", "))
            for label, values in self.constraints(schema)
        ]
        return element("ul", *rows, class_="constraints") if rows else Markup()

    def _exclusions(self, schema: Node) -> Iterator[Markup]:
        """Yield the pairs of members that no object has both of."""
        for part in schema.get("allOf", ()):
            codes = (element("code", name) for name in part["not"]["required"])
            yield element("p", "Send at most one of ", join(codes, " and "), ".")


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def as_json(value: object) -> str:
    """Return a value as JSON for people."""
    return json.dumps(value, ensure_ascii=False, indent=2)


def figure(title: str, text: str) -> Markup:
    """Return an example with its title; its long lines are wrapped."""
    return element("figure", element("figcaption", title), preformatted(text))


def preformatted(text: str) -> Markup:
    """Return a text whose long lines are wrapped."""
    return element("pre", element("code", text), class_="wraps")
