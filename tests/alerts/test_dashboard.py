"""Tests of the dashboard: its queries have an answer where a real sidecar is scraped."""

import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest

from tests.alerts import expressions, prometheus
from tests.alerts.expressions import with_values
from tests.alerts.stage import WRONG, Stage, some_client
from tests.alerts.test_alerts import (
    PAGE,
    labels_of,
    missing,
    scrape_everything,
    settings_with_certificates,
)
from tests.faults.conditions import eventually
from tests.patience import HANG
from tests.sidecar_process import ROOT
from tests.test_cli import STORE
from tests.ways import open_deployment

PANELS = expressions.panels()


def test_the_dashboard_is_current() -> None:
    """The JSON is what its script writes."""
    script = ROOT / "deploy/grafana/dashboard.py"
    ended = subprocess.run([sys.executable, script, "--check"], check=False, cwd=ROOT)
    assert ended.returncode == 0, "run `make docs`"


async def test_every_metric_of_the_dashboard_exists(tmp_path: Path) -> None:
    """A real scrape has every metric and label that the dashboard uses."""
    present = labels_of(await scrape_everything(tmp_path))
    used = expressions.used_by_dashboard()
    assert missing(used, present) == []
    assert set[str]().union(*used.grouped.values()) <= set[str]().union(*present.values())


async def test_every_own_metric_is_in_the_dashboard(tmp_path: Path) -> None:
    """No metric of the sidecar is left out."""
    page = await scrape_everything(tmp_path)
    own = {name for name in labels_of(page) if name.startswith("karmo_sidecar_")}
    histograms = re.compile("_(bucket|count|sum)$")
    shown = {histograms.sub("", name) for name in expressions.used_by_dashboard().selected}
    assert {histograms.sub("", name) for name in own} - shown == {
        "karmo_sidecar_dns_look_ups_finished_total",
        "karmo_sidecar_dns_look_up_seconds_total",
        "karmo_sidecar_auth_api_connections_closed_total",
    }


def test_every_named_panel_exists() -> None:
    """The panels that the alerts and their steps name are in the dashboard."""
    section = PAGE.partition("## Alerts\n")[2].partition("\n## Stopping")[0]
    named = {" ".join(name.split()) for name in re.findall(r'"([A-Z][^"]+)"', section)}
    assert len(named) >= 16
    assert named <= PANELS.keys()


def test_the_lines_of_a_panel_are_explained() -> None:
    """A panel in the table of lines has a row with the name of each of its lines."""
    table = PAGE.partition("### Lines of the panels\n")[2].partition("\n* ")[0]
    rows = dict(re.findall(r'^\| "([^"]+)" \| (.+) \|$', table, re.MULTILINE))
    assert len(rows) >= 8
    names = {
        title: [re.sub(r"\{\{\w+\}\}", "", name).strip(" :") for name in expressions.lines()[title]]
        for title in rows
    }
    assert [name for title in rows for name in names[title] if name not in rows[title]] == []


@pytest.mark.tools
async def test_every_query_has_an_answer(tmp_path: Path) -> None:
    """Each query of each panel has a value, by Prometheus, of sidecars with calls of every kind."""
    stage = Stage()
    async with (
        open_deployment(max_client_failures="1") as one,
        open_deployment(**settings_with_certificates(tmp_path), **STORE) as other,
        prometheus.serving(tmp_path, one.addresses.admin, other.addresses.admin) as server,
    ):
        stage.add(one)
        partner = some_client()

        async def has_answers() -> bool:
            one.upstream.reset()
            await stage.call(partner)
            one.upstream.reply = WRONG
            await stage.call(partner)
            one.upstream.reply = b"nonsense\r\n\r\n"
            await stage.call(some_client())
            silent.clear()
            for title, queries in PANELS.items():
                for query in queries:
                    whole = with_values(query, interval="10s")
                    if not await server.ask("query", query=whole):
                        silent.append(f"{title}: {whole}")
            return not silent

        silent: list[str] = []
        try:
            await eventually(has_answers, within=HANG)
        except TimeoutError:
            assert silent == []


def test_the_picture_is_of_these_queries() -> None:
    """Each panel of docs/dashboard.svg holds the queries of the dashboard that drew it."""
    picture = (ROOT / "docs/dashboard.svg").read_text("utf-8")
    drawn = re.findall(r"<desc>(.*?)</desc>\n<text[^>]*>(.*?)</text>", picture, re.DOTALL)
    assert len(drawn) >= 4
    for queries, title in drawn:
        assert unescape(queries).splitlines() == PANELS[title], "run docs/dashboard_picture.py"
