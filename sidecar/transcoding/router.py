"""Routing: from the raw path and the method of a request to the rule that it meets."""

from collections.abc import Mapping
from typing import Generic, TypeVar

from sidecar.transcoding.errors import (
    Fault,
    MalformedRequestError,
    MethodNotAllowedError,
    PathNotFoundError,
)
from sidecar.transcoding.percent import decode
from sidecar.transcoding.rules import Rule

Target = TypeVar("Target")


class Router(Generic[Target]):
    """Finds what serves a path and a method. The order in which it was filled does not matter."""

    def __init__(self) -> None:
        self._paths: dict[tuple[str, ...], dict[str, Target]] = {}

    def add(self, rule: Rule, target: Target) -> None:
        """Let `target` serve what meets `rule`. Raises ValueError where another one does."""
        methods = self._paths.setdefault(rule.template.segments, {})
        if rule.http_method in methods:
            raise ValueError(f"{rule.http_method} {rule.template.text} is served by another rule")
        methods[rule.http_method] = target

    def find(self, method: str, raw_path: str) -> Target:
        """Return what serves `method` at `raw_path`, which is still percent-encoded.

        Raises PathNotFoundError, MethodNotAllowedError, and MalformedRequestError
        for a path with a malformed escape.
        """
        methods = self._find_path(raw_path)
        # RFC 9110 section 9.3.2: HEAD is GET without the content.
        target = methods.get("GET" if method == "HEAD" else method)
        if target is None:
            raise MethodNotAllowedError(_allow(methods))
        return target

    def allow(self, raw_path: str) -> str:
        """Return the value of the Allow field for `raw_path`. Raises as `find` does."""
        return _allow(self._find_path(raw_path))

    def _find_path(self, raw_path: str) -> Mapping[str, Target]:
        if not raw_path.startswith("/"):
            raise PathNotFoundError
        # Split before decoding, so that %2F never separates segments.
        raw_segments = raw_path[1:].split("/")
        try:
            segments = tuple(decode(segment) for segment in raw_segments)
        except ValueError:
            detail = "The path must hold well-formed percent escapes of UTF-8 only."
            raise MalformedRequestError.of([Fault(detail=detail)]) from None
        methods = self._paths.get(segments)
        if methods is None:
            raise PathNotFoundError
        return methods


def _allow(methods: Mapping[str, object]) -> str:
    names = [*methods, *(["HEAD"] if "GET" in methods else []), "OPTIONS"]
    return ", ".join(names)
