"""Prometheus as a process: it scrapes sidecars, or has series that were scraped before."""

import json
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from tests.alerts.expressions import JOB
from tests.faults.wire import LOOPBACK, free_port
from tests.patience import HANG
from tests.sidecar_process import find_tool, printed, run, started

Line = tuple[Mapping[str, str], list[tuple[float, float]]]


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A running Prometheus, which answers queries."""

    http: httpx2.AsyncClient

    async def ask(self, kind: str, **parameters: object) -> Any:
        """Return the data of the answer to a request. Raises AssertionError with its error."""
        response = await self.http.get(f"/api/v1/{kind}", params=_texts(parameters))
        answer = response.json()
        assert answer["status"] == "success", answer
        return answer["data"]["result"]

    async def value(self, query: str) -> float:
        """Return the only value of a query now, or 0 if there is none."""
        result = await self.ask("query", query=query)
        return float(result[0]["value"][1]) if result else 0.0

    async def lines(self, query: str, start: float, end: float, step: float) -> list[Line]:
        """Return the lines that a graph of a query has: labels, and values by time."""
        result = await self.ask("query_range", query=query, start=start, end=end, step=step)
        return [
            (line["metric"], [(float(time), float(value)) for time, value in line["values"]])
            for line in result
        ]


def _texts(parameters: Mapping[str, object]) -> Mapping[str, str]:
    return {name: str(value) for name, value in parameters.items()}


@asynccontextmanager
async def serving(directory: Path, *admins: object) -> AsyncIterator[Prometheus]:
    """Run Prometheus, which scrapes the admin listeners at `admins` every second."""
    job = {"job_name": JOB, "static_configs": [{"targets": [str(admin) for admin in admins]}]}
    file = directory / "prometheus.yaml"
    # JSON is YAML.
    file.write_text(json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": [job]}))
    address = f"{LOOPBACK}:{free_port()}"
    command = (
        find_tool("prometheus"),
        f"--config.file={file}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address={address}",
    )
    async with (
        started(*command) as server,
        httpx2.AsyncClient(base_url=f"http://{address}", timeout=HANG, trust_env=False) as client,
    ):
        await server.stderr.find("Server is ready to receive web requests")
        yield Prometheus(client)
        server.signal(signal.SIGTERM)
        await server.ended()


async def load(directory: Path, text: str) -> None:
    """Make series in OpenMetrics' text format the data of the Prometheus in `directory`."""
    file = directory / "series.txt"
    file.write_text(text, "utf-8")
    create = ("tsdb", "create-blocks-from", "openmetrics", file, directory / "data")
    printed(await run(find_tool("promtool"), *create))
