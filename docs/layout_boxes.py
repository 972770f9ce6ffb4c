"""The boxes of docs/architecture.svg: what each imports, and its text.

The arrows are PERMITTED in tests/test_layers.py. The captions are the first words of the
docstrings.
"""

import ast
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tests.test_layers import MODULES, PERMITTED

# Most boxes use several of these. They say so in small type, because so many arrows would hide
# the others.
COMMON = frozenset({"call", "client_address", "logs", "problems", "secret", "settings", "spans"})
# All in pixels: a line of text, and the space around the text.
LINE, PADDING = 15, 8
# How many characters fit into a line of a box, also of a wide font, and the lines of a caption.
CAPTION_CHARACTERS, USES_CHARACTERS, CAPTION_LINES = 16, 19, 4

Graph = Mapping[str, frozenset[str]]


class Box(NamedTuple):
    """The text of a box, and its CSS class."""

    kind: str
    name: str
    caption: Sequence[str]
    uses: Sequence[str]

    @property
    def height(self) -> int:
        """The height of the box in pixels."""
        return LINE * (1 + len(self.caption) + len(self.uses)) + 2 * PADDING


def read_graph() -> Graph:
    """Return what each module or package at the top of `sidecar/` may import of the others."""
    graph: dict[str, frozenset[str]] = {}
    for name, imported in PERMITTED.items():
        top, *tops = (entry.partition(".")[0] for entry in (name, *imported))
        graph[top] = graph.get(top, frozenset()).union(tops) - {top}
    return graph


def read_box(name: str, imported: frozenset[str]) -> Box:
    """Return the box of a module or package, whose caption is in its docstring."""
    docstring = ast.get_docstring(ast.parse(MODULES[name])) or ""
    noun = re.split(r"[:;,\n]|\.(?:\s|$)", docstring.replace("`", ""))[0]
    noun = re.sub(r"^(?:The|An?) ", "", noun)
    caption = re.sub(r"^[A-Z](?=[a-z])", lambda capital: capital[0].lower(), noun)
    is_package = any(module.startswith(f"{name}.") for module in MODULES)
    used = () if name in COMMON else sorted(imported & COMMON)
    return Box(
        kind="common" if name in COMMON else "package" if is_package else "module",
        name=name,
        caption=_wrap(caption if caption != name else "", CAPTION_CHARACTERS, CAPTION_LINES),
        uses=_wrap(f"uses {', '.join(used)}" if used else "", USES_CHARACTERS),
    )


def _wrap(text: str, characters: int, lines: int | None = None) -> Sequence[str]:
    return textwrap.wrap(
        text, characters, break_on_hyphens=False, max_lines=lines, placeholder=" ..."
    )
