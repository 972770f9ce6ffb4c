"""Scrapes of a running sidecar, parsed."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import httpx2
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.patience import HANG

HTTP = "http_server_request_duration_seconds"
RPC = "rpc_server_call_duration_seconds"
EXCHANGES = "http_client_request_duration_seconds"
# The labels of the histograms, in the order in which the tests name their values.
LABELS: Mapping[str, tuple[str, ...]] = {
    HTTP: ("http_request_method", "http_route", "http_response_status_code", "error_type"),
    RPC: ("rpc_method", "rpc_response_status_code", "error_type"),
    EXCHANGES: ("http_response_status_code", "error_type"),
}


@dataclass(frozen=True, kw_only=True)
class Scrape:
    """A page of metrics, and what it says."""

    text: str
    families: Mapping[str, Metric]

    @classmethod
    def of(cls, text: str) -> "Scrape":
        """Parse `text`, in the text format."""
        families = {family.name: family for family in text_string_to_metric_families(text)}
        return cls(text=text, families=families)

    def value(self, name: str, **labels: str) -> float:
        """Return the only value of `name` that has these labels, among others."""
        (value,) = [
            sample.value
            for family in self.families.values()
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        return value

    def counts(self, name: str) -> Mapping[tuple[str, ...], int]:
        """Return the counts of the histogram `name` that are not 0, by the values of its labels."""
        return {
            tuple(sample.labels[label] for label in LABELS[name]): int(sample.value)
            for sample in self.families[name].samples
            if sample.name == f"{name}_count" and sample.value
        }

    def by(self, name: str, label: str, **labels: str) -> Mapping[str, int]:
        """Return the values of `name` that are not 0, by `label`, of those that have `labels`."""
        return {
            sample.labels[label]: int(sample.value)
            for family in self.families.values()
            for sample in family.samples
            if sample.name == name and sample.value and labels.items() <= sample.labels.items()
        }

    @property
    def series(self) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
        """All series: their names and labels."""
        return {
            (sample.name, tuple(sorted(sample.labels.items())))
            for family in self.families.values()
            for sample in family.samples
        }


async def response_of(admin: object, accept: str | None = None) -> httpx2.Response:
    """Return the response of the admin listener at `admin` to a scrape."""
    headers = {} if accept is None else {"Accept": accept}
    async with httpx2.AsyncClient(timeout=HANG, trust_env=False) as client:
        return await client.get(f"http://{admin}/metrics", headers=headers)


async def scrape(admin: object) -> Scrape:
    """Scrape the sidecar whose admin listener is at `admin`."""
    response = await response_of(admin)
    assert response.status_code == 200, response.text
    return Scrape.of(response.text)


async def scrape_until(admin: object, condition: Callable[[Scrape], bool]) -> Scrape:
    """Scrape again and again, and return the first page for which `condition` is true.

    After HANG seconds return the last page, so that the test shows how it differs. For what
    ends a little after its caller has seen its end.
    """
    end = time.monotonic() + HANG
    while not condition(page := await scrape(admin)) and time.monotonic() < end:
        pass  # scrapes are at least half a second apart
    return page
