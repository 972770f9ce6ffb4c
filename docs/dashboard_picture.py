"""Draw docs/dashboard.svg: some panels of the dashboard, over an outage that really happens.

A sidecar serves calls, and its auth-api refuses connections for a while. Prometheus scrapes it
each second and answers the queries of deploy/grafana/karmo-sidecar.json. Needs `prometheus` and
`promtool`, and takes 90 seconds, so `make docs` does not run it. Run it when queries have changed:

    python docs/dashboard_picture.py
"""

import asyncio
import itertools
import json
import math
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.alerts import prometheus
from tests.alerts.expressions import DASHBOARD, with_values
from tests.faults.chaos import Chaos
from tests.sidecar_process import serving
from tests.upstream import TOKEN, Upstream, answer
from tests.ways import Sent, Way, open_ways

PICTURE = Path(__file__).with_name("dashboard.svg")
PANELS = (
    "Requests by status",
    "Calls by code",
    "Share of failed calls",
    "Exchanges that fail",
    "Duration of served requests",
    "Auth-api down",
)
# Seconds: before the outage, of it, and after it. Then the seconds that a rate is over.
BEFORE, OUTAGE, AFTER, WINDOW = 25, 20, 35, 5
# Seconds that the auth-api takes for a token, and between two calls of a protocol.
TAKES, PAUSES = (0.02, 0.06, 0.03, 0.09), {"form": 0.04, "grpc": 0.08}
# All in pixels.
WIDTH, PANEL_WIDTH, PANEL_HEIGHT, LEFT, TOP, GRAPH_WIDTH, GRAPH_HEIGHT = (
    1000, 500, 250, 62, 40, 415, 120,
)  # fmt: skip
COLORS = ("#2f6db5", "#c2452d", "#3c8a4e", "#8a5bb0", "#b5852f", "#4a9aa3")
STYLE = """
text { font-family: sans-serif; font-size: 11px; fill: #1f2933 }
.title { font-size: 14px; font-weight: bold }
.y { text-anchor: end }
.x { text-anchor: middle }
.card { fill: #ffffff; stroke: #d5dae1 }
.grid { stroke: #e4e8ee }
.outage { fill: #fbe9e7 }
.line { fill: none; stroke-width: 1.8; stroke-linejoin: round }
"""


class Drawn(NamedTuple):
    """A panel with the lines of its answers: names, and points in seconds and values."""

    panel: Mapping[str, Any]
    lines: Mapping[str, Sequence[tuple[float, float]]]


_takes = itertools.cycle(TAKES)


async def give_token(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer with a token, after some milliseconds."""
    await asyncio.sleep(next(_takes))
    writer.write(answer(200, TOKEN))
    await writer.drain()


async def call_for_ever(way: Way, pause: float) -> None:
    """Send calls of many clients, a new one after each pause."""

    async def call(number: int) -> None:
        fields = {"client_id": f"partner-{number % 50}", "client_secret": "secret"}
        await way(Sent(fields={"grant_type": "client_credentials"} | fields))

    async with asyncio.TaskGroup() as calls:
        for number in itertools.count():
            calls.create_task(call(number))
            await asyncio.sleep(pause)


async def record(directory: Path) -> Sequence[Drawn]:
    """Let the outage happen, and return what the panels show of it."""
    async with Upstream() as upstream, Chaos(upstream.url.split("/")[2]) as chaos:
        upstream.script = give_token
        url = upstream.url.replace(chaos.target, chaos.address)
        async with (
            serving("serve", auth_api_token_url=url) as sidecar,
            open_ways(sidecar.addresses) as ways,
            prometheus.serving(directory, sidecar.addresses["admin"]) as server,
        ):
            calls = [asyncio.create_task(call_for_ever(ways[way], PAUSES[way])) for way in PAUSES]
            await asyncio.sleep(2 * WINDOW)  # until each rate has its window
            start = time.time()
            await asyncio.sleep(BEFORE)
            chaos.refuse()
            chaos.reset()
            await asyncio.sleep(OUTAGE)
            await chaos.accept()
            await asyncio.sleep(AFTER)
            panels = {panel["title"]: panel for panel in dashboard_panels()}
            drawn = [await ask(server, panels[title], start) for title in PANELS]
            for task in calls:
                task.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
    return drawn


def dashboard_panels() -> Sequence[Mapping[str, Any]]:
    """Return the panels of the dashboard."""
    panels: Sequence[Mapping[str, Any]] = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
    return panels


async def ask(server: prometheus.Prometheus, panel: Mapping[str, Any], start: float) -> Drawn:
    """Return what a panel shows from `start` on."""
    lines: dict[str, Sequence[tuple[float, float]]] = {}
    for target in panel["targets"]:
        query = with_values(target["expr"], interval=f"{WINDOW}s")
        end = start + BEFORE + OUTAGE + AFTER
        for labels, samples in await server.lines(query, start, end, 1):
            name = _name(target["legendFormat"], labels)
            points = [(at - start, value) for at, value in samples if math.isfinite(value)]
            if any(value for _, value in points) or len(panel["targets"]) == 1:
                lines[name] = points
    return Drawn(panel, lines)


def _name(legend: str, labels: Mapping[str, str]) -> str:
    """Return the name of a line; the port of the only sidecar is another each time."""
    for label, value in ({**labels, "instance": "sidecar"}).items():
        legend = legend.replace(f"{{{{{label}}}}}", value)
    return re.sub(r"{{\w+}}", "", legend).strip()


def draw(panels: Sequence[Drawn]) -> str:
    """Return the picture as SVG."""
    height = PANEL_HEIGHT * -(-len(panels) // 2) + 12
    body = "\n".join(
        element
        for number, drawn in enumerate(panels)
        for element in _panel(drawn, number % 2 * PANEL_WIDTH, number // 2 * PANEL_HEIGHT)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"'
        f' width="{WIDTH}" height="{height}" role="img">\n'
        "<title>Panels of the dashboard over an outage of the auth-api</title>\n"
        f"<style>{STYLE}</style>\n"
        f'<rect class="card" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>\n'
        f"{body}\n</svg>\n"
    )


def _panel(drawn: Drawn, x: int, y: int) -> Iterator[str]:
    most = max((value for points in drawn.lines.values() for _, value in points), default=1.0)
    top = _round_up(most) if most else 1.0
    yield f'<g transform="translate({x} {y})">'
    queries = "\n".join(target["expr"] for target in drawn.panel["targets"])
    yield f"<desc>{escape(queries)}</desc>"
    yield f'<text class="title" x="{LEFT}" y="26">{escape(drawn.panel["title"])}</text>'
    yield (
        f'<rect class="outage" x="{_x(BEFORE):.1f}" y="{TOP}"'
        f' width="{_x(OUTAGE) - _x(0):.1f}" height="{GRAPH_HEIGHT}"/>'
    )
    for part in (0.0, 0.5, 1.0):
        at = TOP + GRAPH_HEIGHT * (1 - part)
        yield f'<path class="grid" d="M{LEFT} {at:.1f}h{GRAPH_WIDTH}"/>'
        label = _label(top * part, drawn.panel["fieldConfig"]["defaults"]["unit"])
        yield f'<text class="y" x="{LEFT - 6}" y="{at + 4:.1f}">{label}</text>'
    for seconds in range(0, BEFORE + OUTAGE + AFTER + 1, 20):
        place = f'x="{_x(seconds):.1f}" y="{TOP + GRAPH_HEIGHT + 15}"'
        yield f'<text class="x" {place}>{seconds} s</text>'
    for number, (name, points) in enumerate(sorted(drawn.lines.items())):
        color = COLORS[number % len(COLORS)]
        yield f'<path class="line" stroke="{color}" d="{_path(points, top)}"/>'
        below = TOP + GRAPH_HEIGHT + 34 + number * 15
        yield f'<path class="line" stroke="{color}" d="M{LEFT} {below - 4}h14"/>'
        yield f'<text x="{LEFT + 19}" y="{below}">{escape(name)}</text>'
    yield "</g>"


def _x(seconds: float) -> float:
    return LEFT + GRAPH_WIDTH * seconds / (BEFORE + OUTAGE + AFTER)


def _path(points: Sequence[tuple[float, float]], top: float) -> str:
    """Return a path through the points, with a gap where there was no answer."""
    parts, before = [], -math.inf
    for at, value in points:
        y = TOP + GRAPH_HEIGHT * (1 - value / top)
        parts.append(f"{'L' if at - before < 1.5 else 'M'}{_x(at):.1f} {y:.1f}")
        before = at
    return "".join(parts)


def _round_up(value: float) -> float:
    """Return the next larger one of 1, 2 and 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value * 0.999)


def _label(value: float, unit: str) -> str:
    if unit == "percentunit":
        return f"{100 * value:g} %"
    if unit == "s":
        return f"{1000 * value:g} ms"
    return f"{value:g}{' /s' if unit == 'reqps' else ''}"


def main() -> None:
    """Write the picture."""
    with tempfile.TemporaryDirectory() as directory:
        PICTURE.write_text(draw(asyncio.run(record(Path(directory)))), "utf-8")


if __name__ == "__main__":
    main()
