"""The rules and the dashboard in `deploy/`, and the metrics and labels that their queries use."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from tests.sidecar_process import ROOT

RULES = ROOT / "deploy/prometheus/karmo-sidecar.rules.yaml"
DASHBOARD = ROOT / "deploy/grafana/karmo-sidecar.json"
JOB = "karmo-sidecar"
# What Prometheus adds to each series that it scrapes, and the metric that it makes itself.
TARGET_LABELS = frozenset({"job", "instance"})
UP = "up"
_KEYWORDS = frozenset({"and", "or", "unless", "by", "without", "on", "ignoring", "bool", "offset"})
_SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\s*\{([^}]*)\}")
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")
_NAME = re.compile(r"(?<![\w:.])([a-zA-Z_:][\w:]*)(?!\s*\()\b(?!\s*\()")


@dataclass(slots=True)
class Used:
    """Labels that queries use, by metric: in its selectors, and in groupings over it."""

    selected: dict[str, set[str]] = field(default_factory=dict)
    grouped: dict[str, set[str]] = field(default_factory=dict)

    def add(self, expression: str) -> None:
        """Add the metrics and labels of an expression."""
        text = re.sub(r'"[^"]*"', '""', expression)
        for name, matchers in _SELECTOR.findall(text):
            self.selected.setdefault(name, set()).update(re.findall(r"(\w+)\s*[=!]", matchers))
        grouped = {
            label for labels in _GROUPING.findall(text) for label in re.findall(r"\w+", labels)
        }
        for pattern in (r"\{[^}]*\}", r"\[[^\]]*\]", r'""'):
            text = re.sub(pattern, " ", text)
        text = _GROUPING.sub(" ", text)
        names = [name for name in _NAME.findall(text) if name not in _KEYWORDS]
        for name in names:
            self.selected.setdefault(name, set())
            self.grouped.setdefault(name, set()).update(grouped)


def rules() -> Iterator[Mapping[str, Any]]:
    """Yield every rule."""
    for group in yaml.safe_load(RULES.read_text("utf-8"))["groups"]:
        yield from group["rules"]


def alerts() -> Mapping[str, Mapping[str, Any]]:
    """Return the alerts by name."""
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def panels() -> Mapping[str, list[str]]:
    """Return the queries of the dashboard by the title of their panel."""
    return _of_targets("expr")


def lines() -> Mapping[str, list[str]]:
    """Return the names of the lines of the dashboard by the title of their panel."""
    return _of_targets("legendFormat")


def _of_targets(member: str) -> Mapping[str, list[str]]:
    dashboard = json.loads(DASHBOARD.read_text("utf-8"))
    return {
        panel["title"]: [target[member] for target in panel["targets"]]
        for panel in dashboard["panels"]
        if panel["type"] != "row"
    }


def with_values(query: str, *, interval: str, job: str = JOB) -> str:
    """Return a query of the dashboard with values for its variables."""
    values = {"$__rate_interval": interval, "$job": job, "$instance": ".*"}
    for name, value in values.items():
        query = query.replace(name, value)
    return query


def used_by_rules() -> Used:
    """Return what the rules use of what is scraped."""
    used = Used()
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    for rule in rules():
        used.add(rule["expr"])
    for name in recorded:
        used.selected.pop(name, None)
        used.grouped.pop(name, None)
    return used


def used_by_dashboard() -> Used:
    """Return what the dashboard uses of what is scraped."""
    used = Used()
    for queries in panels().values():
        for query in queries:
            used.add(with_values(query, interval="5m"))
    return used
