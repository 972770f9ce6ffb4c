"""Router from the path and the method of a request to its HTTP rule.

google/api/http.proto defines which paths match, but not which of several matches wins. Here, at
each segment a literal is tried before `*`, and `*` before `**`. If one leads nowhere, or to no
rule for the method, the next one is tried.
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

# `%`: needs decoding. NUL: not allowed.
_DECODED = re.compile("[%\0]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Match(Generic[Target]):
    """The target of a request, and the decoded variables of its path, in their order."""

    target: Target
    variables: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Route(Generic[Target]):
    rule: Rule
    target: Target


# Routes at the end of a template: by verb, then by method.
_Ends: TypeAlias = dict[str, dict[str, _Route[Target]]]

_Segments: TypeAlias = tuple[str, ...]


class _Node(Generic[Target]):
    """A node of the routing tree: templates that are equal up to one segment."""

    __slots__ = ("ends", "literals", "one", "tails")

    def __init__(self) -> None:
        self.literals: dict[str, _Node[Target]] = {}
        self.one: _Node[Target] | None = None
        # Ends of templates with `**`: by the number of literals after it, then by the literals.
        self.tails: dict[int, dict[Sequence[Segment], _Ends[Target]]] = {}
        self.ends: _Ends[Target] = {}


class Router(Generic[Target]):
    """Finds the target for a path and a method. The order of `add` calls does not matter."""

    def __init__(self) -> None:
        self._root: _Node[Target] = _Node()
        self._verbs: dict[str, int] = {}  # with the number of colons in each

    def add(self, rule: Rule, target: Target) -> None:
        """Route requests that match `rule` to `target`.

        Raises ValueError if another rule matches the same requests.
        """
        template = rule.template
        methods = self._ends(template.segments).setdefault(template.verb, {})
        other = methods.get(rule.http_method)
        if other is not None:
            raise ValueError(f"another rule serves the same requests: {other.rule.name}")
        methods[rule.http_method] = _Route(rule=rule, target=target)
        if template.verb:
            self._verbs[template.verb] = template.verb.count(":")

    def find(self, method: str, raw_path: str) -> Match[Target]:
        """Return the target for `method` at `raw_path`, which is still percent-encoded.

        Raises PathNotFoundError, MethodNotAllowedError, and MalformedRequestError for a path
        that cannot be decoded.
        """
        path = _Path.of(raw_path)
        # RFC 9110 section 9.3.2: HEAD is GET without the content.
        wanted = (method, "GET", "*") if method == "HEAD" else (method, "*")
        allowed: set[str] = set()
        first: _Route[Target] | None = None
        for raw, methods in self._matches(path):
            route = next((methods[name] for name in wanted if name in methods), None)
            if route is not None:
                return Match(target=route.target, variables=route.rule.template.capture(raw))
            allowed |= methods.keys()
            first = first or next(iter(methods.values()))
        if first is None:
            raise PathNotFoundError
        raise MethodNotAllowedError(_allow(allowed), template=first.rule.template.text)

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

    def _matches(self, path: "_Path") -> Iterator[tuple[_Segments, Mapping[str, _Route[Target]]]]:
        """Yield the raw segments without verb and the routes by method, best match first."""
        for verb, rest in self._verbs_of(path):
            for ends in _walk(self._root, rest.segments):
                if verb in ends:
                    yield rest.raw, ends[verb]

    def _verbs_of(self, path: "_Path") -> Iterator[tuple[str, "_Path"]]:
        """Yield each possible verb, the longest first, with the path before it."""
        if self._verbs and path.raw:
            # Split at no more colons than verbs have: a segment full of colons would take long.
            head, *parts = path.raw[-1].rsplit(":", max(self._verbs.values()) + 1)
            for at in range(len(parts)):
                verb, last = decode_segment(":".join(parts[at:])), ":".join([head, *parts[:at]])
                if verb in self._verbs:
                    yield verb, path.with_last(last)
        yield "", path


@dataclass(frozen=True, slots=True, kw_only=True)
class _Path:
    """The segments of a path, raw and decoded. The path "/" has none."""

    raw: _Segments
    segments: _Segments

    @classmethod
    def of(cls, raw_path: str) -> "_Path":
        """Split a raw path before decoding it, so that %2F never separates segments.

        Raises PathNotFoundError and MalformedRequestError.
        """
        if not raw_path.startswith("/"):
            raise PathNotFoundError
        raw = tuple(raw_path[1:].split("/")) if raw_path != "/" else ()
        try:
            raw_path.encode("ascii")
            segments = tuple(map(decode_segment, raw)) if _DECODED.search(raw_path) else raw
        except ValueError:
            detail = "The path must be valid percent-encoded UTF-8 without NUL."
            raise MalformedRequestError.of([Violation(detail=detail)]) from None
        return cls(raw=raw, segments=segments)

    def with_last(self, raw: str) -> "_Path":
        """Return the path with `raw` as its last segment."""
        return _Path(raw=(*self.raw[:-1], raw), segments=(*self.segments[:-1], decode_segment(raw)))


def _walk(root: _Node[Target], segments: _Segments) -> Iterator[_Ends[Target]]:
    """Yield the ends of all templates that match, in the order of their precedence."""
    stack: list[tuple[_Node[Target], int, bool]] = [(root, 0, False)]
    while stack:  # the last entry is tried first
        node, at, is_tail = stack.pop()
        if is_tail:
            yield from _tails(node, segments[at:])
            continue
        if node.tails:
            stack.append((node, at, True))
        if at == len(segments):
            yield node.ends
            continue
        # RFC 3986 section 3.3: a segment may be empty. `*` and literals do not match an empty
        # one, so a slash at the end makes another path. `**` matches any segments that are left.
        if node.one is not None and segments[at]:
            stack.append((node.one, at + 1, False))
        literal = node.literals.get(segments[at])
        if literal is not None:
            stack.append((literal, at + 1, False))


def _tails(node: _Node[Target], segments: _Segments) -> Iterator[_Ends[Target]]:
    """Yield the ends after `**` at `node` that match the end of `segments`, longest first."""
    for length in sorted(node.tails, reverse=True):
        tail = segments[len(segments) - length :]
        if len(tail) == length and tail in node.tails[length]:
            yield node.tails[length][tail]


def _allow(methods: set[str]) -> str:
    """Return the value of an Allow field (RFC 9110 section 10.2.1)."""
    names = {*methods, *(["HEAD"] if "GET" in methods else [])} - {"OPTIONS"}
    return ", ".join([*sorted(names), "OPTIONS"])
