"""Comments of a schema, which running descriptors do not have, by the names of its elements."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)

# The full name of an element, such as karmo.auth.v1.TokenService, and its comment.
Comments: TypeAlias = Mapping[str, str]
# Field numbers and indexes that lead to an element in its file (descriptor.proto, Location).
_Path: TypeAlias = tuple[int, ...]
# The lists of elements inside an element. The values of an enum have no comment here.
_PARTS: Mapping[type, Sequence[str]] = {
    FileDescriptorProto: ("message_type", "enum_type", "service"),
    DescriptorProto: ("field", "nested_type", "enum_type"),
    ServiceDescriptorProto: ("method",),
}


def read(files: FileDescriptorSet) -> Comments:
    """Return the leading comments in `files`, as Markdown.

    Empty without source information (protoc --include_source_info).
    """
    return dict(pair for file in files.file for pair in _read_file(file))


def _read_file(file: FileDescriptorProto) -> Iterator[tuple[str, str]]:
    names = dict(_names(file, (), file.package))
    for location in file.source_code_info.location:
        name = names.get(tuple(location.path))
        if name is not None and location.leading_comments:
            yield name, _text(location.leading_comments)


def _names(element: Any, path: _Path, name: str) -> Iterator[tuple[_Path, str]]:
    """Yield the path and the full name of each element in `element`."""
    for part in _PARTS.get(type(element), ()):
        number = element.DESCRIPTOR.fields_by_name[part].number
        for index, inner in enumerate(getattr(element, part)):
            inner_path, inner_name = (*path, number, index), _join(name, inner.name)
            yield inner_path, inner_name
            yield from _names(inner, inner_path, inner_name)


def _join(*parts: str) -> str:
    return ".".join(filter(None, parts))


def _text(comment: str) -> str:
    """Return the text of a comment: without the blank before each line, each paragraph one line.

    A paragraph that begins with a sign of a list, a quote or a table keeps its lines.
    """
    lines = [line.removeprefix(" ").rstrip() for line in comment.strip("\n").split("\n")]
    return "\n\n".join(map(_join_lines, _paragraphs(lines)))


def _paragraphs(lines: Iterable[str]) -> Iterator[list[str]]:
    paragraph: list[str] = []
    for line in [*lines, ""]:
        if line:
            paragraph.append(line)
        elif paragraph:
            yield paragraph
            paragraph = []


def _join_lines(lines: Sequence[str]) -> str:
    is_structured = lines[0][:1] in set("*-|>#") or lines[0].startswith("    ")
    return ("\n" if is_structured else " ").join(lines)
