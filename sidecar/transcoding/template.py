"""Path templates of `google.api.http` rules.

https://github.com/googleapis/googleapis/blob/master/google/api/http.proto

    Template = "/" Segments [ Verb ] ;
    Segments = Segment { "/" Segment } ;
    Segment  = "*" | "**" | LITERAL | Variable ;
    Variable = "{" FieldPath [ "=" Segments ] "}" ;
    FieldPath = IDENT { "." IDENT } ;
    Verb     = ":" LITERAL ;

Other implementations accept more, and so does this one: literals may follow `**`, a verb may
have colons in it, and "/" alone is a template.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from sidecar.transcoding.percent import decode_but_slashes, decode_segment


class TemplateError(ValueError):
    """A template that cannot be served. The text has the column, counted from 1."""


class Wildcard(Enum):
    """A segment that matches one segment (ONE) or any number of them (ANY)."""

    ONE = "*"
    ANY = "**"


# A literal is decoded, so that it equals every way to write it.
Segment: TypeAlias = str | Wildcard


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """A variable of a template, which sets the field at `field_path`.

    `part` is the slice of a path's segments that it captures, `decode` decodes their text.
    `column` is where the field path begins in the template, counted from 1.
    """

    field_path: tuple[str, ...]
    part: slice
    decode: Callable[[str], str]
    column: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A path template. `verb` is empty if there is none."""

    text: str
    segments: tuple[Segment, ...]
    variables: tuple[Variable, ...]
    verb: str

    def capture(self, raw_segments: Sequence[str]) -> tuple[str, ...]:
        """Return the decoded text of each variable in a path that matches.

        `raw_segments` are the segments of the path, still encoded, without the verb.
        """
        return tuple(
            variable.decode("/".join(raw_segments[variable.part])) for variable in self.variables
        )


def parse(text: str) -> Template:
    """Return the template in `text`. Raises TemplateError."""
    return _Parser(text).parse()


# Excluded: template syntax, characters that begin another part of a URL, and invisible ones.
_LITERAL = re.compile(r"[^/{}*:?#\x00-\x20\x7f]+")
_VERB = re.compile(r"[^/{}*?#\x00-\x20\x7f]+")
_IDENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class _Parser:
    """Parser of one template, from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._segments: list[Segment] = []
        # Field path, first segment, segment after the last, column.
        self._spans: list[tuple[tuple[str, ...], int, int, int]] = []

    def parse(self) -> Template:
        self._expect("/", "a template starts with '/'")
        if self._text != "/":
            self._read_segments(self._read_segment)
        verb = self._read(_VERB, "a verb must not be empty") if self._accept(":") else ""
        if self._at < len(self._text):
            raise self._error(_AFTER_VERB if verb else _explain(self._text[self._at]))
        return Template(
            text=self._text,
            segments=tuple(self._segments),
            variables=tuple(self._variable(*span) for span in self._spans),
            verb=verb,
        )

    def _read_segments(self, read_segment: Callable[[], None]) -> None:
        read_segment()
        while self._accept("/"):
            read_segment()

    def _read_segment(self) -> None:
        if self._accept("{"):
            self._read_variable()
        else:
            self._read_plain_segment()

    def _read_plain_segment(self) -> None:
        column = self._at
        if self._accept("**"):
            self._add(Wildcard.ANY, column)
        elif self._accept("*"):
            self._add(Wildcard.ONE, column)
        else:
            self._add(self._read(_LITERAL, "a segment must not be empty"), column)

    def _add(self, segment: Segment, column: int) -> None:
        if Wildcard.ANY in self._segments and isinstance(segment, Wildcard):
            raise self._error("only literals may follow '**'", column)
        self._segments.append(segment)

    def _read_variable(self) -> None:
        column, first = self._at, len(self._segments)
        names = [self._read_ident()]
        while self._accept("."):
            names.append(self._read_ident())
        if any(tuple(names) == span[0] for span in self._spans):
            raise self._error("a field can be set by one variable only", column)
        if self._accept("="):
            self._read_segments(self._read_plain_segment)
        else:
            self._add(Wildcard.ONE, column)
        self._expect("}", "a variable ends with '}' and cannot contain another one")
        self._spans.append((tuple(names), first, len(self._segments), column + 1))

    def _variable(self, path: tuple[str, ...], first: int, stop: int, column: int) -> Variable:
        """Return the variable. Segments after `**` are counted from the end of a path."""
        length = len(self._segments)
        elastic = self._segments.index(Wildcard.ANY) if Wildcard.ANY in self._segments else length
        start = first if first <= elastic else first - length
        end = stop if stop <= elastic else (stop - length or None)
        # A variable of several segments keeps %2F: decoded, it would look like a slash between
        # segments. The template decides this, however many segments match.
        is_multi = stop - first > 1 or first == elastic
        decode = decode_but_slashes if is_multi else decode_segment
        return Variable(field_path=path, part=slice(start, end), decode=decode, column=column)

    def _read_ident(self) -> str:
        match = _IDENT.match(self._text, self._at)
        if match is None:
            raise self._error("a field name is expected here")
        self._at = match.end()
        return match[0]

    def _read(self, pattern: re.Pattern[str], if_empty: str) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            is_empty = self._text[self._at : self._at + 1] in {"", "/", ":", "}"}
            raise self._error(if_empty if is_empty else _explain(self._text[self._at]))
        try:
            literal = decode_segment(match[0])
        except ValueError:
            raise self._error("a literal must be valid percent-encoded UTF-8") from None
        self._at = match.end()
        return literal

    def _accept(self, token: str) -> bool:
        is_there = self._text.startswith(token, self._at)
        if is_there:
            self._at += len(token)
        return is_there

    def _expect(self, token: str, explanation: str) -> None:
        if not self._accept(token):
            raise self._error(explanation)

    def _error(self, explanation: str, at: int | None = None) -> TemplateError:
        return TemplateError(f"column {(self._at if at is None else at) + 1}: {explanation}")


def _explain(character: str) -> str:
    return _EXPLANATIONS.get(character, f"{character!r} is not allowed here")


_ONE_ALONE = "a segment is exactly one literal, wildcard or variable"
_EXPLANATIONS = {"{": _ONE_ALONE, "*": _ONE_ALONE}
_AFTER_VERB = "a verb ends the template; within a segment a colon is written as %3A"
