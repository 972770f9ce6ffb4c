"""The rules that come nearest to a path that no rule serves."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from sidecar.transcoding.errors import RequestError
from sidecar.transcoding.percent import decode_segment
from sidecar.transcoding.router import Router
from sidecar.transcoding.rules import Rule
from sidecar.transcoding.template import Segment, Wildcard, parse

_VERB = re.compile(r":[^/]*$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Near:
    """A rule, and how the path differs from its paths."""

    rule: Rule
    difference: str


def find_nearest(raw_path: str, rules: Sequence[Rule]) -> tuple[Near, ...]:
    """Return the rules that serve `raw_path` but for one difference, or else those like it.

    These have the longest prefix of segments in common with it, at least one literal. None is
    near if no rule has. `raw_path` is percent-encoded and can be decoded.
    """
    differing = tuple(
        Near(rule=rule, difference=difference)
        for rule in rules
        for difference in _differences(raw_path, rule)
    )
    return differing or tuple(_with_prefix(raw_path, rules))


def _differences(raw_path: str, rule: Rule) -> Iterator[str]:
    """Yield the first difference without which `rule` serves the path, if there is one."""
    for difference, takes in _DIFFERENCES.items():
        if takes(raw_path, rule):
            yield difference
            return


def _serves(rule: Rule, raw_path: str) -> bool:
    router = Router[None]()
    router.add(rule, None)
    try:
        router.find(rule.http_method, raw_path)
    except RequestError:
        return False
    return True


def _without_slashes(raw_path: str, rule: Rule) -> bool:
    path = re.sub("/{2,}", "/", raw_path)
    return any(_serves(rule, each) for each in (path, path.rstrip("/"), f"{path}/"))


def _in_other_case(raw_path: str, rule: Rule) -> bool:
    template = parse(rule.template.text.lower())
    return _serves(replace(rule, template=template), raw_path.lower())


def _with_other_verb(raw_path: str, rule: Rule) -> bool:
    verb = f":{rule.template.verb}" if rule.template.verb else ""
    return _serves(rule, _VERB.sub("", raw_path) + verb)


_DIFFERENCES: Mapping[str, Callable[[str, Rule], bool]] = MappingProxyType(
    {
        "the path has a slash too many or too few": _without_slashes,
        "the path is in another case": _in_other_case,
        "the path has another verb after its last colon, or none": _with_other_verb,
    }
)


def _with_prefix(raw_path: str, rules: Iterable[Rule]) -> Iterator[Near]:
    segments = [decode_segment(raw) for raw in raw_path[1:].split("/")]
    lengths = [(rule, _common(rule.template.segments, segments)) for rule in rules]
    longest = max((length for _, length in lengths), default=0)
    for rule, length in lengths:
        if length == longest > 0:
            yield Near(rule=rule, difference=f"segments in common: {length}")


def _common(template: Sequence[Segment], segments: Sequence[str]) -> int:
    """Return the length of the common prefix, or 0 if no literal is in it."""
    length = 0
    for pattern, segment in zip(template, segments, strict=False):
        if pattern is Wildcard.ANY or not (pattern == segment or pattern is Wildcard.ONE):
            break
        length += 1
    has_literal = any(isinstance(pattern, str) for pattern in template[:length])
    return length if has_literal else 0
