"""Paths of OpenAPI, made from path templates.

A parameter of OpenAPI is one segment. So a variable of several segments has a parameter for each
of its wildcards.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from google.protobuf.descriptor import FieldDescriptor

from sidecar.transcoding.protojson.json_format import JsonFormat
from sidecar.transcoding.rules import FieldPath, Rule
from sidecar.transcoding.template import Wildcard


@dataclass(frozen=True, slots=True, kw_only=True)
class PathParameter:
    """One wildcard of a template. `field` is the field whose value it is or is a part of.

    `is_whole`: it is the whole value. `is_long`: it may be several segments, slashes included.
    """

    name: str
    field: FieldDescriptor | None
    is_whole: bool
    is_long: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """A path of OpenAPI, and its parameters in order."""

    text: str
    parameters: tuple[PathParameter, ...]

    @property
    def shape(self) -> str:
        """The path without the names of its parameters. Paths of one shape are identical."""
        text = self.text
        for parameter in self.parameters:
            text = text.replace(f"{{{parameter.name}}}", "{}", 1)
        return text


def path_of(rule: Rule, json_format: JsonFormat) -> Path:
    """Return the path that the template of `rule` matches. `json_format` names its parameters."""
    segments: list[str] = []
    parameters: list[PathParameter] = []
    owners = dict(_owners(rule))
    for index, segment in enumerate(rule.template.segments):
        if isinstance(segment, str):
            segments.append(_encode(segment))
            continue
        chain, count = owners.get(index, ((), 1))
        name = ".".join(map(json_format.name_of, chain)) or "segment"
        taken = {parameter.name for parameter in parameters}
        parameter = PathParameter(
            name=_unused(name, taken, is_numbered=count > 1),
            field=chain[-1] if chain else None,
            is_whole=count == 1,
            is_long=segment is Wildcard.ANY,
        )
        parameters.append(parameter)
        segments.append(f"{{{parameter.name}}}")
    verb = f":{_encode(rule.template.verb)}" if rule.template.verb else ""
    return Path(text="/" + "/".join(segments) + verb, parameters=tuple(parameters))


def _encode(literal: str) -> str:
    """Return a literal for a path (RFC 3986 section 3.3); a colon in it would begin a verb."""
    return quote(literal, safe="!$&'()*+,;=@~")


def _owners(rule: Rule) -> Iterator[tuple[int, tuple[FieldPath, int]]]:
    """Yield, for each segment of a variable, its field path and how many segments it has."""
    indexes: Sequence[int] = range(len(rule.template.segments))
    for variable, chain in zip(rule.template.variables, rule.variables, strict=True):
        part = indexes[variable.part]
        yield from ((index, (chain, len(part))) for index in part)


def _unused(name: str, taken: set[str], *, is_numbered: bool) -> str:
    numbered = (f"{name}_{number}" for number in range(1, len(taken) + 2))
    candidates = numbered if is_numbered else iter([name, *numbered])
    return next(candidate for candidate in candidates if candidate not in taken)
