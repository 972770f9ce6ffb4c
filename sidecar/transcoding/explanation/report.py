"""Rules and explanations as lines of text."""

import json
from collections.abc import Iterable, Iterator

from sidecar.transcoding.errors import NotServedError, Violation
from sidecar.transcoding.explanation.bindings import Binding
from sidecar.transcoding.explanation.explainer import Explanation
from sidecar.transcoding.explanation.nearest import Near
from sidecar.transcoding.rules import FieldPath, Rule
from sidecar.transcoding.status import phrase

_COLUMNS = ("METHOD", "PATH", "SERVED BY", "BODY", "RESPONSE")
# google/api/http.proto writes * for the whole message.
_WHOLE, _NOTHING = "*", "-"


def list_routes(rules: Iterable[Rule], pages: Iterable[tuple[str, str]] = ()) -> Iterator[str]:
    """Yield the lines of a table of `rules`, and of `pages`, by HTTP methods and path."""
    rows = [
        _COLUMNS,
        *(_row(rule) for rule in rules),
        *((methods, path, "page", _NOTHING, _NOTHING) for methods, path in pages),
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def describe(explanation: Explanation) -> Iterator[str]:
    """Yield the lines of `explanation`: a name and a value each, without control characters."""
    rule, timeout = explanation.rule, explanation.timeout
    reasons = [*map(_locate, explanation.violations)] or [explanation.detail]
    lines: Iterable[tuple[str, Iterable[str]]] = (
        ("result", [_result(explanation)]),
        ("rule", [f"{_route(rule)}, body: {_part(rule.body)}"] if rule else []),
        ("method", [_method(rule)] if rule else []),
        ("field", map(_assign, explanation.bindings)),
        ("metadata", (f"{name}: {value}" for name, value in explanation.metadata)),
        ("timeout", [] if timeout is None else [f"{round(timeout, 3):g} s"]),
        ("reason", filter(None, reasons)),
        ("header", (f"{name}: {value}" for name, value in explanation.headers.items())),
        ("ignored", map(_locate, explanation.ignored)),
        ("nearest", map(_compare, explanation.nearest)),
    )
    for name, values in lines:
        yield from (line(name, value) for value in values)


def line(name: str, value: str) -> str:
    """Return a line of a description."""
    return f"{name:<8}  {value}"


def _row(rule: Rule) -> tuple[str, ...]:
    method, body, response = rule.method, _part(rule.body), _part(rule.response_body)
    if method.client_streaming:
        body = f"stream of {body}"
    if method.client_streaming or not rule.is_served:
        response = str(NotServedError.status)
    elif method.server_streaming:
        response = f"stream of {response}"
    return rule.http_method, rule.template.text, _method(rule), body, response


def _route(rule: Rule) -> str:
    return f"{rule.http_method} {rule.template.text}"


def _method(rule: Rule) -> str:
    return f"{rule.method.containing_service.full_name}/{rule.method.name}"


def _part(path: FieldPath | None) -> str:
    if path is None:
        return _NOTHING
    return path[0].name if path else _WHOLE


def _result(explanation: Explanation) -> str:
    if explanation.status is None:
        return "the method would be called; the service can still refuse the values"
    verb = "refused" if explanation.is_refused else "answered without a call"
    return f"{verb}: {explanation.status} {phrase(explanation.status)}"


def _assign(binding: Binding) -> str:
    text = json.dumps(binding.value, ensure_ascii=False)
    # What is not printable could change the terminal.
    text = text if text.isprintable() else json.dumps(binding.value)
    return f"{binding.field or 'message'} = {text} from the {binding.source}"


def _locate(violation: Violation) -> str:
    return f"{violation.detail} ({violation.pointer})" if violation.pointer else violation.detail


def _compare(near: Near) -> str:
    return f"{_route(near.rule)} ({near.difference})"
