"""Staged incidents: the alerts that fire, and those that do not, on series that were scraped."""

import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.alerts import expressions, incidents_of_calls, incidents_of_processes, prometheus
from tests.alerts.expressions import RULES
from tests.alerts.recording import Recording
from tests.alerts.stage import Incident, Stage
from tests.sidecar_process import ROOT, find_tool, run

PAGE = (ROOT / "docs/operations.md").read_text("utf-8")
_FIRED = 'max by (alertname, limit, listener) (max_over_time(ALERTS{alertstate="firing"}[1d]))'
DOWN, BUDGET = "AuthApiDown", "ErrorBudgetFast"


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of a panel of the dashboard, and the limits of a value that it has once at least."""

    panel: str
    labels: Mapping[str, str] = field(default_factory=dict)
    low: float = 0.001
    high: float = math.inf


@dataclass(frozen=True, kw_only=True)
class Case:
    """An incident, the alerts that fire at any time in it, and what the dashboard shows."""

    play: Incident
    fires: tuple[str, ...] = ()
    shows: Line


def fails_by(fault: str) -> Line:
    """Return the line of exchanges that fail by `fault`."""
    return Line(panel="Exchanges that fail", labels={"error_type": fault})


def throttled(limit: str) -> Line:
    """Return the line of calls that are refused by `limit`."""
    return Line(panel="Throttled calls", labels={"limit": limit})


DAY = 86400.0
CASES: Mapping[str, Case] = {
    "no fault": Case(
        play=incidents_of_calls.nothing,
        shows=Line(panel="Requests by status", labels={"http_response_status_code": "200"}),
    ),
    "auth-api down": Case(
        play=incidents_of_calls.auth_api_down, fires=(DOWN, BUDGET), shows=fails_by("fail_fast")
    ),
    "auth-api slow": Case(
        play=incidents_of_calls.auth_api_slow,
        fires=("AuthApiSlow",),
        shows=Line(panel="Duration of exchanges", low=1.0),
    ),
    "auth-api resets connections": Case(
        play=incidents_of_calls.auth_api_resetting, fires=(BUDGET,), shows=fails_by("closed")
    ),
    "wrong certificate of the auth-api": Case(
        play=incidents_of_calls.wrong_certificate, fires=(DOWN, BUDGET), shows=fails_by("tls")
    ),
    "no DNS": Case(
        play=incidents_of_calls.no_dns, fires=("DnsFailing", BUDGET), shows=fails_by("dns")
    ),
    "DNS fails, calls are served": Case(
        play=incidents_of_calls.dns_failing,
        fires=("DnsFailing",),
        shows=Line(panel="DNS look-ups"),
    ),
    "somebody guesses secrets": Case(
        play=incidents_of_calls.guesser,
        fires=('Throttled{limit="address_failures"}',),
        shows=throttled("address_failures"),
    ),
    "a partner has a wrong secret": Case(
        play=incidents_of_calls.wrong_secret,
        fires=('Throttled{limit="client_failures"}',),
        shows=throttled("client_failures"),
    ),
    "more calls than the limit": Case(
        play=incidents_of_calls.shedding,
        fires=(BUDGET, "Shedding"),
        shows=Line(panel="Failed calls by reason", labels={"error_type": "OVERLOADED"}),
    ),
    "log unread": Case(
        play=incidents_of_processes.log_unread,
        fires=("LogLinesDropped",),
        shows=Line(panel="Dropped log lines"),
    ),
    "log reader stalled": Case(
        play=incidents_of_processes.log_stalled,
        fires=("LogLinesDropped",),
        shows=Line(panel="Dropped log lines"),
    ),
    "certificates expire": Case(
        play=incidents_of_processes.certificates_expire,
        fires=(
            'CertificateExpired{listener="auth_api"}',
            'CertificateExpiresSoon{listener="rest"}',
            'CertificateExpiresVerySoon{listener="grpc"}',
        ),
        shows=Line(panel="Certificates", labels={"listener": "grpc"}, high=2 * DAY),
    ),
    "replicas differ": Case(
        play=incidents_of_processes.replicas_differ,
        fires=("ReplicasDiffer",),
        shows=Line(panel="Calls in flight", labels={"instance": "b"}, low=64.0, high=64.0),
    ),
    "shutdown under load": Case(
        play=incidents_of_processes.drain_under_load,
        shows=Line(panel="Phase", labels={"phase": "lame_duck", "instance": "a"}),
    ),
    "shutdown without end": Case(
        play=incidents_of_processes.drain_without_end,
        fires=("NoneReady", "NotReady"),
        shows=Line(panel="Phase", labels={"phase": "drain"}),
    ),
    "restarted again and again": Case(
        play=incidents_of_processes.restarted,
        fires=("Restarting",),
        shows=Line(panel="Time since the start", high=60.0),
    ),
    "no sidecar left": Case(
        play=incidents_of_processes.gone,
        fires=("NoneReady", "NotReady"),
        shows=Line(panel="Scraped", low=0.0, high=0.0),
    ),
}


async def fired(recording: Recording, directory: Path) -> tuple[str, ...]:
    """Return the alerts that fire at any time, by promtool."""
    names = expressions.used_by_rules().selected.keys()
    expected = {"expr": _FIRED, "eval_time": f"{recording.minutes}m", "exp_samples": []}
    test = {
        "interval": "2m",
        "input_series": recording.for_promtool(names),
        "promql_expr_test": [expected],
    }
    file = directory / "test.yaml"
    # JSON is YAML.
    whole = {"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [test]}
    file.write_text(json.dumps(whole), "utf-8")
    end = await run(find_tool("promtool"), "test", "rules", file)
    if end.status == 0:
        return ()  # as expected: none
    # It prints what it got instead.
    got = end.stderr.partition("got:")[2].replace("\\", "")
    assert got, end.stderr
    return tuple(sorted(_name(labels) for labels in re.findall(r"\{([^}]*)\}", got)))


def _name(labels: str) -> str:
    """Return an alert as the cases have it."""
    pairs: dict[str, str] = dict(re.findall(r'(\w+)="([^"]*)"', labels))
    name = pairs.pop("alertname").removeprefix("KarmoSidecar")
    return name + "".join(f'{{{label}="{value}"}}' for label, value in pairs.items())


async def is_shown(recording: Recording, line: Line, directory: Path) -> bool:
    """Return whether Prometheus gives the dashboard that line for what was recorded."""
    end = time.time() // 60 * 60
    start = end - 60 * recording.minutes
    await prometheus.load(directory, recording.as_openmetrics(end))
    values: list[float] = []
    async with prometheus.serving(directory) as server:
        for query in expressions.panels()[line.panel]:
            whole = expressions.with_values(query, interval="5m")
            for labels, samples in await server.lines(whole, start, end, 60):
                if line.labels.items() <= labels.items():
                    values += [value for _, value in samples]
    return any(line.low <= value <= line.high for value in values)


@pytest.mark.tools
@pytest.mark.parametrize("name", CASES)
async def test_an_incident(name: str, tmp_path: Path) -> None:
    """The alerts of the case fire, and no other, on what a real sidecar showed."""
    find_tool("promtool")
    stage = Stage()
    await CASES[name].play(stage, tmp_path)
    assert await fired(stage.recording, tmp_path) == CASES[name].fires
    assert await is_shown(stage.recording, CASES[name].shows, tmp_path)


_ROW = re.compile(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
_TABLE = PAGE.partition("| incident | alerts |")[2].partition("\n\n")[0]


def test_every_incident_has_its_row() -> None:
    """docs/operations.md says of each staged incident which alerts fire, and names the panel."""
    rows = {name: (alerts, shown) for name, alerts, shown in _ROW.findall(_TABLE)}
    rows.pop("---", None)
    assert list(rows) == list(CASES)
    for name, case in CASES.items():
        alerts, shown = rows[name]
        named = re.findall(r"\(#(\w+)\)", alerts)
        assert named == [f"karmosidecar{fires.partition('{')[0].lower()}" for fires in case.fires]
        assert f'"{case.shows.panel}"' in shown
        assert all(f"`{value}`" in shown for value in case.shows.labels.values()), name
