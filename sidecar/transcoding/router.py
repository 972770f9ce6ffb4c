"""Routing: from the raw path and the method of a request to the rule that it meets.

google/api/http.proto tells what matches. Which of several matches wins it does
not: at each segment that is a literal before `*`, and `*` before `**`, with a
way back where one leads nowhere, or to no rule for the method.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from sidecar.transcoding.errors import (
    MalformedRequestError,
    MethodNotAllowedError,
    PathNotFoundError,
    Violation,
)
from sidecar.transcoding.percent import decode_segment
from sidecar.transcoding.rules import Rule
from sidecar.transcoding.template import Segment, Wildcard

Target = TypeVar("Target")

# What a segment is not as it was sent, or must not have in it.
_DECODED = re.compile("[%\0]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Match(Generic[Target]):
    """What serves a request, and the texts of the variables in its path, in their order."""

    target: Target
    variables: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Route(Generic[Target]):
    rule: Rule
    target: Target


# What is at the end of a template: by verb, then by method.
_Ends: TypeAlias = dict[str, dict[str, _Route[Target]]]

_Raw: TypeAlias = tuple[str, ...]


class _Node(Generic[Target]):
    """What the templates have in common up to one segment, and where they go from there."""

    __slots__ = ("ends", "literals", "one", "tails")

    def __init__(self) -> None:
        self.literals: dict[str, _Node[Target]] = {}
        self.one: _Node[Target] | None = None
        # What is behind `**`, by the number of the literals there, and by themselves.
        self.tails: dict[int, dict[Sequence[Segment], _Ends[Target]]] = {}
        self.ends: _Ends[Target] = {}


class Router(Generic[Target]):
    """Finds what serves a path and a method. The order in which it was filled does not matter."""

    def __init__(self) -> None:
        self._root: _Node[Target] = _Node()
        self._verbs: dict[str, int] = {}  # and how many colons are in each

    def add(self, rule: Rule, target: Target) -> None:
        """Let `target` serve what meets `rule`. Raises ValueError where another one does."""
        template = rule.template
        methods = self._ends(template.segments).setdefault(template.verb, {})
        other = methods.get(rule.http_method)
        if other is not None:
            raise ValueError(f"another rule serves the same requests: {other.rule.name}")
        methods[rule.http_method] = _Route(rule=rule, target=target)
        if template.verb:
            self._verbs[template.verb] = template.verb.count(":")

    def find(self, method: str, raw_path: str) -> Match[Target]:
        """Return what serves `method` at `raw_path`, which is still percent-encoded.

        Raises PathNotFoundError, MethodNotAllowedError, and MalformedRequestError
        for a path that cannot be decoded.
        """
        path = _Path.of(raw_path)
        # RFC 9110 section 9.3.2: HEAD is GET without the content.
        wanted = (method, "GET", "*") if method == "HEAD" else (method, "*")
        allowed: set[str] = set()
        for raw, methods in self._matches(path):
            route = next((methods[name] for name in wanted if name in methods), None)
            if route is not None:
                return Match(target=route.target, variables=route.rule.template.capture(raw))
            allowed |= methods.keys()
        if not allowed:
            raise PathNotFoundError
        raise MethodNotAllowedError(_allow(allowed))

    def _ends(self, segments: tuple[Segment, ...]) -> _Ends[Target]:
        node = self._root
        for at, segment in enumerate(segments):
            if segment is Wildcard.ANY:
                tail = segments[at + 1 :]
                return node.tails.setdefault(len(tail), {}).setdefault(tail, {})
            if segment is Wildcard.ONE:
                node.one = node.one or _Node()
                node = node.one
            else:
                node = node.literals.setdefault(segment, _Node())
        return node.ends

    def _matches(self, path: "_Path") -> Iterator[tuple[_Raw, Mapping[str, _Route[Target]]]]:
        """Yield the segments without a verb, and the methods, of all that matches, best first."""
        for verb, rest in self._verbs_of(path):
            for ends in _walk(self._root, rest.segments):
                if verb in ends:
                    yield rest.raw, ends[verb]

    def _verbs_of(self, path: "_Path") -> Iterator[tuple[str, "_Path"]]:
        """Yield each verb that may be at the end, the longest first, and what is before it."""
        if self._verbs and path.raw:
            # No more colons than a verb has, or a segment of nothing else would take long.
            head, *parts = path.raw[-1].rsplit(":", max(self._verbs.values()) + 1)
            for at in range(len(parts)):
                verb, last = decode_segment(":".join(parts[at:])), ":".join([head, *parts[:at]])
                if verb in self._verbs:
                    yield verb, path.with_last(last)
        yield "", path


@dataclass(frozen=True, slots=True, kw_only=True)
class _Path:
    """The segments of a path, of which "/" has none, as they were sent and decoded."""

    raw: _Raw
    segments: _Raw

    @classmethod
    def of(cls, raw_path: str) -> "_Path":
        """Split before decoding, so that %2F never separates segments."""
        if not raw_path.startswith("/"):
            raise PathNotFoundError
        raw = tuple(raw_path[1:].split("/")) if raw_path != "/" else ()
        try:
            raw_path.encode("ascii")
            segments = tuple(map(decode_segment, raw)) if _DECODED.search(raw_path) else raw
        except ValueError:
            detail = "The path must hold well-formed percent escapes of UTF-8 only, and no NUL."
            raise MalformedRequestError.of([Violation(detail=detail)]) from None
        return cls(raw=raw, segments=segments)

    def with_last(self, raw: str) -> "_Path":
        """Return the path with another last segment."""
        return _Path(raw=(*self.raw[:-1], raw), segments=(*self.segments[:-1], decode_segment(raw)))


def _walk(root: _Node[Target], segments: _Raw) -> Iterator[_Ends[Target]]:
    """Yield the ends of all templates that match, in the order of their precedence."""
    ways: list[tuple[_Node[Target], int, bool]] = [(root, 0, False)]
    while ways:  # the last is tried first
        node, at, is_tail = ways.pop()
        if is_tail:
            yield from _tails(node, segments[at:])
            continue
        if node.tails:
            ways.append((node, at, True))
        if at == len(segments):
            yield node.ends
            continue
        # RFC 3986 section 3.3: a segment may be empty. `*` and literals match none that is,
        # so that a slash at the end makes another path; `**` matches whatever is left.
        if node.one is not None and segments[at]:
            ways.append((node.one, at + 1, False))
        literal = node.literals.get(segments[at])
        if literal is not None:
            ways.append((literal, at + 1, False))


def _tails(node: _Node[Target], segments: _Raw) -> Iterator[_Ends[Target]]:
    """Yield what is behind `**` at `node` and matches the end of `segments`, longest first."""
    for length in sorted(node.tails, reverse=True):
        tail = segments[len(segments) - length :]
        if len(tail) == length and tail in node.tails[length]:
            yield node.tails[length][tail]


def _allow(methods: set[str]) -> str:
    """Return the value of an Allow field (RFC 9110 section 10.2.1)."""
    names = {*methods, *(["HEAD"] if "GET" in methods else [])} - {"OPTIONS"}
    return ", ".join([*sorted(names), "OPTIONS"])
