"""Staged incidents: the alerts that fire, and those that do not, on series that were scraped."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.alerts import expressions, incidents
from tests.alerts.expressions import RULES
from tests.alerts.incidents import Incident, Stage
from tests.alerts.recording import Recording
from tests.sidecar_process import ROOT, find_tool, run

PAGE = (ROOT / "docs/operations.md").read_text("utf-8")
_FIRED = 'max by (alertname, limit, side) (max_over_time(ALERTS{alertstate="firing"}[1d]))'
DOWN, BUDGET = "AuthApiDown", "ErrorBudgetFast"


@dataclass(frozen=True, kw_only=True)
class Case:
    """An incident, and the alerts that fire at any time in it, with one of their labels."""

    play: Incident
    fires: tuple[str, ...] = ()


CASES: Mapping[str, Case] = {
    "no fault": Case(play=incidents.nothing),
    "auth-api down": Case(play=incidents.auth_api_down, fires=(DOWN, BUDGET)),
    "auth-api slow": Case(play=incidents.auth_api_slow, fires=("AuthApiSlow",)),
    "auth-api resets connections": Case(play=incidents.auth_api_resetting, fires=(BUDGET,)),
    "wrong certificate of the auth-api": Case(
        play=incidents.wrong_certificate, fires=(DOWN, BUDGET)
    ),
    "no DNS": Case(play=incidents.no_dns, fires=("DnsFailing", BUDGET)),
    "somebody guesses secrets": Case(
        play=incidents.guesser, fires=('Throttled{limit="address_failures"}',)
    ),
    "a partner has a wrong secret": Case(
        play=incidents.wrong_secret, fires=('Throttled{limit="client_failures"}',)
    ),
    "more calls than the limit": Case(play=incidents.shedding, fires=(BUDGET, "Shedding")),
    "log unread": Case(play=incidents.log_unread, fires=("LogLinesDropped",)),
    "certificates expire": Case(
        play=incidents.certificates_expire,
        fires=(
            'CertificateExpired{side="auth_api"}',
            'CertificateExpiresSoon{side="rest"}',
            'CertificateExpiresVerySoon{side="grpc"}',
        ),
    ),
    "replicas differ": Case(play=incidents.replicas_differ, fires=("ReplicasDiffer",)),
    "shutdown under load": Case(play=incidents.drain_under_load),
    "shutdown without end": Case(play=incidents.drain_without_end, fires=("NoneReady", "NotReady")),
    "restarted again and again": Case(play=incidents.restarted, fires=("Restarting",)),
    "no sidecar left": Case(play=incidents.gone, fires=("NoneReady", "NotReady")),
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
    pairs = dict(re.findall(r'(\w+)="([^"]*)"', labels))
    name = pairs.pop("alertname").removeprefix("KarmoSidecar")
    return name + "".join(f'{{{label}="{value}"}}' for label, value in pairs.items())


@pytest.mark.tools
@pytest.mark.parametrize("name", CASES)
async def test_an_incident(name: str, tmp_path: Path) -> None:
    """The alerts of the case fire, and no other, on what a real sidecar showed."""
    find_tool("promtool")
    stage = Stage()
    await CASES[name].play(stage, tmp_path)
    assert await fired(stage.recording, tmp_path) == CASES[name].fires
