"""Draw docs/architecture.svg: the packages and modules of `sidecar/`, and what may import what.

The arrows are PERMITTED in tests/test_layers.py. The captions are the first words of the
docstrings. `make docs` runs this script; with `--check` it changes nothing and fails if the
picture is stale.
"""

import ast
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from graphlib import TopologicalSorter
from html import escape
from itertools import combinations, pairwise
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from tests.test_layers import MODULES, PERMITTED

PICTURE = Path(__file__).with_name("architecture.svg")
# Most boxes use several of these. They say so in small type, because so many arrows would hide
# the others.
COMMON = frozenset({"call", "client_address", "logs", "problems", "secret", "settings", "spans"})
# All in pixels. A box with more than MANY arrows is wide, for these to go straight down.
WIDTH, MARGIN = 1000, 16
BOX_WIDTH, WIDE, MANY = 122, 740, 6
LINE, PADDING, TIP = 15, 8, 7
# How many characters fit into a line of a box, also of a wide font, and the lines of a caption.
CAPTION_CHARACTERS, USES_CHARACTERS, CAPTION_LINES = 16, 19, 4
STYLE = """
text { font-family: sans-serif; font-size: 12px; fill: #1f2933; text-anchor: middle }
.name { font-size: 14px; font-weight: bold }
.uses { font-size: 11px; fill: #47662b }
.legend { text-anchor: start }
.card { fill: #ffffff; stroke: #d5dae1 }
.package { fill: #e7effc; stroke: #5b82c7 }
.module { fill: #f8f4ea; stroke: #b09a72 }
.common { fill: #ecf4e2; stroke: #84a35e }
.arrow { fill: none; stroke: #66758c; stroke-width: 1.3 }
.tip { fill: #66758c }
"""
LEGEND = (
    ("package", 60, "package"),
    ("module", 150, "module"),
    ("common", 235, "used by many; the boxes that use it name it"),
)

Graph = Mapping[str, frozenset[str]]


class Slot(NamedTuple):
    """A place in a row: the box of `name`, or without a width the passage of arrows to it."""

    row: int
    name: str
    width: int


Link = tuple[Slot, Slot]
Rows = Sequence[list[Slot]]


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


def read_links(graph: Graph) -> tuple[set[Slot], list[Link]]:
    """Return the boxes and passages, and the arrows in pieces from one row to the next.

    The row of a box is the length of the longest path to it from the top. Arrows to the same
    box share its passages.
    """
    rows = dict.fromkeys(graph, 0)
    for name in reversed(tuple(TopologicalSorter(graph).static_order())):
        for target in graph[name]:
            rows[target] = max(rows[target], rows[name] + 1)
    arrows = {
        name: imported if name in COMMON else imported - COMMON for name, imported in graph.items()
    }
    boxes = {
        name: Slot(rows[name], name, WIDE if len(imported) > MANY else BOX_WIDTH)
        for name, imported in arrows.items()
    }
    links: set[Link] = set()
    for name, imported in arrows.items():
        for target in imported:
            passages = (Slot(row, target, 0) for row in range(rows[name] + 1, rows[target]))
            links.update(pairwise((boxes[name], *passages, boxes[target])))
    return {*boxes.values(), *(slot for link in links for slot in link)}, sorted(links)


def arrange(slots: set[Slot], links: Sequence[Link]) -> Rows:
    """Return the rows, each in an order in which few arrows cross and most are short."""
    rows: list[list[Slot]] = [[] for _ in range(1 + max(slot.row for slot in slots))]
    for slot in sorted(slots):
        rows[slot.row].append(slot)
    swaps = [(row, *pair) for row in rows for pair in combinations(range(len(row)), 2)]
    least, is_better = rate(rows, links), True
    while is_better:
        is_better = False
        for row, one, other in swaps:
            row[one], row[other] = row[other], row[one]
            rating = rate(rows, links)
            if rating < least:
                least, is_better = rating, True
            else:
                row[one], row[other] = row[other], row[one]
    return rows


def rate(rows: Rows, links: Sequence[Link]) -> tuple[int, float]:
    """Return how many arrows cross, and how far all of them go to the side."""
    centers = place(rows, links)
    ends = [(upper.row, centers[upper], centers[lower]) for upper, lower in links]
    crossings = sum(
        row == other_row and (above - other_above) * (below - other_below) < 0
        for (row, above, below), (other_row, other_above, other_below) in combinations(ends, 2)
    )
    return crossings, sum(abs(above - below) for _, above, below in ends)


def place(rows: Rows, links: Sequence[Link]) -> Mapping[Slot, float]:
    """Return the middle of each slot.

    A row takes the whole width, but one or two boxes stand under those that import them.
    """
    centers: dict[Slot, float] = {}
    for row in rows:
        taken = sum(slot.width for slot in row)
        room, left = WIDTH - 2 * MARGIN, float(MARGIN)
        if len(row) <= 2:
            above = [centers[upper] for upper, lower in links if lower in row]
            room = 3 * taken // 2
            left = (mean(above) if above else WIDTH / 2) - room / 2
            left = min(max(left, MARGIN), WIDTH - MARGIN - room)
        gap = (room - taken) / len(row)
        for slot in row:
            centers[slot] = left + (gap + slot.width) / 2
            left += gap + slot.width
    return centers


def draw(graph: Graph) -> str:
    """Return the picture as SVG."""
    slots, links = read_links(graph)
    rows = arrange(slots, links)
    centers = place(rows, links)
    boxes = {name: read_box(name, imported) for name, imported in graph.items()}
    tops, heights, y = [], [], 2 * MARGIN
    for number, row in enumerate(rows):
        tops.append(y)
        heights.append(max(boxes[slot.name].height for slot in row if slot.width))
        arrows = sum(upper.row == number for upper, _ in links)
        y += heights[-1] + min(28 + 2 * arrows, 54)
    elements = [
        *_draw_arrows(links, centers, tops, heights),
        *(
            element
            for slot in sorted(slots)
            if slot.width
            for element in _draw_box(
                boxes[slot.name], slot.width, centers[slot], tops[slot.row], heights[slot.row]
            )
        ),
        *_draw_legend(y),
    ]
    body, height = "\n".join(elements), y + 2 * MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"'
        f' width="{WIDTH}" height="{height}" role="img">\n'
        "<title>The packages and modules of sidecar/, and what they may import</title>\n"
        f"<style>{STYLE}</style>\n"
        f'<marker id="tip" viewBox="0 0 {TIP} {TIP}" refY="{TIP / 2}" markerWidth="{TIP}"'
        f' markerHeight="{TIP}" markerUnits="userSpaceOnUse" orient="auto">'
        f'<path class="tip" d="M0 0 {TIP} {TIP / 2} 0 {TIP}z"/></marker>\n'
        f'<rect class="card" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>\n'
        f"{body}\n</svg>\n"
    )


def _draw_arrows(
    links: Sequence[Link],
    centers: Mapping[Slot, float],
    tops: Sequence[int],
    heights: Sequence[int],
) -> Iterator[str]:
    leaving, entering = _ports(links, centers, 0), _ports(links, centers, 1)
    for link in links:
        upper, lower = link
        start, end = tops[upper.row] + heights[upper.row], tops[lower.row]
        path = f"M{leaving[link]:.0f} {start if upper.width else tops[upper.row]}V{start}"
        end -= TIP if lower.width else 0
        middle = (start + end) // 2
        x = f"{entering[link]:.0f}"
        path += f"C{leaving[link]:.0f} {middle} {x} {middle} {x} {end}"
        tip = ' marker-end="url(#tip)"' if lower.width else ""
        yield f'<path class="arrow" d="{path}"{tip}/>'


def _ports(links: Sequence[Link], centers: Mapping[Slot, float], end: int) -> Mapping[Link, float]:
    """Return where each link meets its box at `end`, in the order of their other ends."""
    ports = {}
    for slot in {link[end] for link in links}:
        own = [link for link in links if link[end] == slot]
        own.sort(key=lambda link: centers[link[1 - end]])
        for number, link in enumerate(own, start=1):
            ports[link] = centers[slot] + slot.width * (number / (len(own) + 1) - 0.5)
    return ports


def _draw_box(box: Box, width: int, center: float, top: int, height: int) -> Iterator[str]:
    yield (
        f'<rect class="{box.kind}" x="{center - width / 2:.0f}" y="{top}"'
        f' width="{width}" height="{height}" rx="6"/>'
    )
    lines = [
        ("name", box.name),
        *(("caption", line) for line in box.caption),
        *(("uses", line) for line in box.uses),
    ]
    for number, (kind, line) in enumerate(lines, start=1):
        y = top + PADDING - 4 + number * LINE + (3 if kind == "uses" else 0)
        yield f'<text class="{kind}" x="{center:.0f}" y="{y}">{escape(line)}</text>'


def _draw_legend(y: int) -> Iterator[str]:
    for kind, x, meaning in LEGEND:
        yield f'<rect class="{kind}" x="{x - 24}" y="{y - 11}" width="18" height="14" rx="3"/>'
        yield f'<text class="legend" x="{x}" y="{y}">{meaning}</text>'
    yield f'<path class="arrow" d="M560 {y - 4}H585" marker-end="url(#tip)"/>'
    yield f'<text class="legend" x="600" y="{y}">may import, all or a part of it</text>'


def main() -> int:
    """Write the picture, or check it; return the exit status."""
    picture = draw(read_graph())
    if "--check" in sys.argv:
        return int(not PICTURE.exists() or PICTURE.read_text("utf-8") != picture)
    PICTURE.write_text(picture, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
