"""Path templates: the language of the paths in `google.api.http` rules.

The grammar, as google/api/http.proto gives it:

    Template = "/" Segments [ Verb ] ;
    Segments = Segment { "/" Segment } ;
    Segment  = "*" | "**" | LITERAL | Variable ;
    Variable = "{" FieldPath [ "=" Segments ] "}" ;
    FieldPath = IDENT { "." IDENT } ;
    Verb     = ":" LITERAL ;

So far literals are read; whatever else the grammar has is refused by name.
"""

import re
from dataclasses import dataclass

# pchar of RFC 3986 section 3.3, less those that mean something in a template.
_LITERAL = re.compile(r"[A-Za-z0-9._~!$&'()+,;=@-]+")


class TemplateError(ValueError):
    """A template that cannot be served; the text names the column, counted from 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A path template as the sequence of its literal segments."""

    text: str
    segments: tuple[str, ...]


def parse(text: str) -> Template:
    """Return the template that `text` is. Raises TemplateError."""
    if not text.startswith("/"):
        raise TemplateError("column 1: a template starts with '/'")
    segments = tuple(text[1:].split("/"))
    column = 2
    for segment in segments:
        found = _LITERAL.match(segment)
        end = found.end() if found else 0
        if end != len(segment) or not segment:
            raise TemplateError(f"column {column + end}: {_explain(segment[end : end + 1])}")
        column += len(segment) + 1
    return Template(text=text, segments=segments)


def _explain(character: str) -> str:
    return _EXPLANATIONS.get(character, f"{character!r} cannot stand in a segment")


_EXPLANATIONS = {
    "": "a segment must not be empty",
    "{": "variables are not supported yet",
    "*": "wildcards are not supported yet",
    ":": "verbs are not supported yet",
}
