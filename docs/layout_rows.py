"""The rows of docs/architecture.svg: where each box stands, so that few arrows cross."""

from collections.abc import Mapping, Sequence
from graphlib import TopologicalSorter
from itertools import combinations, pairwise
from statistics import mean
from typing import NamedTuple

from docs.layout_boxes import COMMON, Graph

# All in pixels. A box with more than MANY arrows is wide, for these to go straight down.
WIDTH, MARGIN = 1000, 16
BOX_WIDTH, WIDE, MANY = 122, 740, 6


class Slot(NamedTuple):
    """A place in a row: the box of `name`, or without a width the passage of arrows to it."""

    row: int
    name: str
    width: int


Link = tuple[Slot, Slot]
Rows = Sequence[list[Slot]]


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
