"""Write deploy/grafana/karmo-sidecar.json, the dashboard for Grafana 9 or later.

`panels` has what it shows. `make docs` runs this script; with `--check` it changes nothing and
fails if the file is stale.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from deploy.grafana.panels import ROWS, Panel
from deploy.grafana.queries import OURS
from docs.generated_file import write_or_check

FILE = Path(__file__).with_name("karmo-sidecar.json")
COLUMNS, WIDTH, HEIGHT = 24, 8, 8
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


def panels() -> Iterator[Mapping[str, Any]]:
    """Yield the rows and their panels, with places on the grid."""
    y, identity = 0, 0
    for title, row in ROWS.items():
        identity += 1
        place = {"x": 0, "y": y, "w": COLUMNS, "h": 1}
        yield {"id": identity, "type": "row", "title": title, "gridPos": place, "panels": []}
        y += 1
        for number, panel in enumerate(row):
            identity += 1
            x = number * WIDTH % COLUMNS
            place = {"x": x, "y": y + number * WIDTH // COLUMNS * HEIGHT, "w": WIDTH, "h": HEIGHT}
            yield draw(panel) | {"id": identity, "gridPos": place}
        y += -(-len(row) * WIDTH // COLUMNS) * HEIGHT


def draw(panel: Panel) -> dict[str, Any]:
    """Return a panel as Grafana's JSON."""
    targets = [
        {"refId": chr(ord("A") + number), "expr": query, "legendFormat": legend}
        | {"datasource": DATASOURCE}
        for number, (legend, query) in enumerate(panel.queries.items())
    ]
    return {
        "type": "timeseries",
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}},
        "targets": targets,
    }


def variable(name: str, **options: Any) -> Mapping[str, Any]:
    """Return a variable of the dashboard whose values are those of a label."""
    query = options.pop("query")
    return {
        "name": name,
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
    } | options


def dashboard() -> Mapping[str, Any]:
    """Return the dashboard."""
    of_job = f'label_values({OURS}build_info{{job="$job"}}, instance)'
    return {
        "uid": "karmo-sidecar",
        "title": "karmo-sidecar",
        "tags": ["karmo-sidecar"],
        "schemaVersion": 37,
        "timezone": "utc",
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus"},
                variable("job", query=f"label_values({OURS}build_info, job)"),
                variable("instance", query=of_job, multi=True, includeAll=True, allValue=".*"),
            ]
        },
        "panels": list(panels()),
    }


def main() -> int:
    """Write the dashboard, or check it; return the exit status."""
    return write_or_check(FILE, json.dumps(dashboard(), indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
