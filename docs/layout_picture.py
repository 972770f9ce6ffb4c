"""Draw docs/architecture.svg: the packages and modules of `sidecar/`, and what may import what.

`make docs` runs this script; with `--check` it changes nothing and fails if the picture is
stale.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

from docs.generated_file import write_or_check
from docs.layout_boxes import LINE, PADDING, Box, Graph, read_box, read_graph
from docs.layout_rows import MARGIN, WIDTH, Link, Slot, arrange, place, read_links

PICTURE = Path(__file__).with_name("architecture.svg")
TIP = 7  # the size of the tip of an arrow in pixels
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
                boxes[slot.name],
                slot.width,
                centers[slot],
                top=tops[slot.row],
                height=heights[slot.row],
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


def _draw_box(box: Box, width: int, center: float, *, top: int, height: int) -> Iterator[str]:
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
    return write_or_check(PICTURE, draw(read_graph()))


if __name__ == "__main__":
    sys.exit(main())
