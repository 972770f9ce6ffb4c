"""Tests of the alerts themselves: their documentation, their metrics, and their limits."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme

from tests.alerts import expressions
from tests.alerts.expressions import RULES, TARGET_LABELS, UP, Used
from tests.scraped import Scrape, scrape
from tests.sidecar_process import ROOT, find_tool, printed, run
from tests.test_cli import STORE
from tests.tls.test_reloading import Mount, pair
from tests.ways import Sent, basic, open_deployment

PAGE = (ROOT / "docs/operations.md").read_text("utf-8")
_ROW = re.compile(
    r'^\| <a id="(\w+)"></a>`(\w+)` \| (\w+) \| [^|]+ \| [^|]+ \| [^|]+ \|$', re.MULTILINE
)
SENT = Sent(fields={"grant_type": "client_credentials"}, authorization=(basic(),))


def settings_with_certificates(folder: Path) -> Mapping[str, str]:
    """Return settings of a sidecar that has a certificate of its own for the auth-api."""
    leaf = trustme.CA().issue_cert("localhost", not_after=datetime(2040, 1, 1, tzinfo=UTC))
    files = Mount(folder, pair(leaf)).files("tls")
    return {
        "auth_api_tls_certificate": str(files.certificate),
        "auth_api_tls_key": str(files.key),
        "auth_api_token_url": "https://localhost:9/",
    }


async def scrape_everything(folder: Path) -> Scrape:
    """Return a page that has every metric: of a sidecar with a certificate and a store."""
    async with open_deployment(**settings_with_certificates(folder), **STORE) as deployment:
        for way in ("form", "grpc"):
            await deployment.ways[way](SENT)
        return await scrape(deployment.addresses.admin)


def labels_of(page: Scrape) -> Mapping[str, set[str]]:
    """Return the labels of each series of a page, by its name as a query has it."""
    found: dict[str, set[str]] = {UP: set(TARGET_LABELS)}
    for family in page.families.values():
        for sample in family.samples:
            found.setdefault(sample.name, set(TARGET_LABELS)).update(sample.labels)
    return found


def missing(used: Used, present: Mapping[str, set[str]]) -> list[str]:
    """Return the metrics and labels that are used and not present."""
    gone = [name for name in used.selected if name not in present]
    for name in used.selected.keys() & present.keys():
        gone += [f"{name}{{{label}}}" for label in used.selected[name] - present[name]]
    return sorted(gone)


async def test_every_metric_of_an_alert_exists(tmp_path: Path) -> None:
    """A real scrape has every metric and label that the rules use."""
    present = labels_of(await scrape_everything(tmp_path))
    used = expressions.used_by_rules()
    assert missing(used, present) == []
    everything = set[str]().union(*present.values())
    assert set[str]().union(*used.grouped.values()) <= everything


def test_what_a_query_uses_is_found() -> None:
    """Metrics and labels are found in every place of a query, so that the test above can fail."""
    used = Used()
    used.add('sum by (a, b) (rate(one_total{c="x y",d!~"[{]z.*"}[5m]) or two) / on (e) three > 4')
    used.add("histogram_quantile(0.9, sum by (le) (rate(four_bucket[5m]))) - time()")
    assert used.selected == {
        "one_total": {"c", "d"},
        "two": set(),
        "three": set(),
        "four_bucket": set(),
    }
    assert used.grouped["two"] == {"a", "b", "e"}


def test_every_alert_has_its_row() -> None:
    """docs/operations.md has a row for each alert, in order, to which the alert links."""
    documented = {name: (anchor, severity) for anchor, name, severity in _ROW.findall(PAGE)}
    assert list(documented) == list(expressions.alerts())
    for name, alert in expressions.alerts().items():
        anchor, severity = documented[name]
        assert alert["annotations"]["runbook_url"] == f"docs/operations.md#{anchor}"
        assert alert["labels"] == {"severity": severity}
        assert severity in ("page", "ticket")
        assert alert["for"]
        assert alert["annotations"].keys() == {"summary", "description", "runbook_url"}


@pytest.mark.tools
async def test_promtool_accepts_the_rules() -> None:
    """The rules are valid for Prometheus."""
    printed(await run(find_tool("promtool"), "check", "rules", RULES))


@pytest.mark.tools
async def test_the_limits_of_the_alerts() -> None:
    """Each alert fires beyond its limit and not at it: the unit tests beside the rules pass."""
    tests = RULES.with_name("karmo-sidecar.tests.yaml")
    printed(await run(find_tool("promtool"), "test", "rules", tests))
    text = tests.read_text("utf-8")
    assert [name for name in expressions.alerts() if f"alertname: {name}\n" not in text] == []
