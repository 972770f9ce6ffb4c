"""Tests of the metrics of a whole process: its phases, certificates, log and documentation."""

import logging
import os
import re
import signal
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import get_args

import pytest
import trustme
from cryptography import x509
from prometheus_client.metrics_core import Metric

from sidecar import logs
from sidecar.auth_api.transport.connection import CloseReason
from sidecar.grpc_server.server import GrpcCounts
from sidecar.http_server.counts import Refusal
from sidecar.interceptors.admission import Admission, AdmissionCounts
from sidecar.log_writer import DropCause, LogWriter
from sidecar.process.drain import Phase
from sidecar.telemetry.counts import Counts
from sidecar.telemetry.metrics.families import Reading
from sidecar.telemetry.metrics.readings import readings_of
from sidecar.tls.expiry import Expiry
from tests.raw_http import FORM, answer_to, request
from tests.scraped import Scrape, response_of, scrape, scrape_until
from tests.sidecar_process import ROOT
from tests.test_canary import CLIENT_ID, SECRET, hits
from tests.test_cli import STORE
from tests.test_runtime import open_scene
from tests.tls.test_reloading import Mount, pair, trust
from tests.upstream import answer
from tests.ways import Deployment, Sent, basic, open_deployment

PAGE = (ROOT / "docs/operations.md").read_text("utf-8")
IN_FLIGHT = "karmo_sidecar_calls_in_flight"
NOT_AFTER = "karmo_sidecar_certificate_not_after_timestamp_seconds"
SHARED_COUNTS = ("karmo_sidecar_shared_counts_total", "karmo_sidecar_shared_counts_failing")
GRANT = {"grant_type": "client_credentials"}


def phase(page: Scrape) -> str:
    """Return the only phase that is 1."""
    (name,) = page.by("karmo_sidecar_phase", "phase")
    return name


async def test_the_phases_of_a_drain() -> None:
    """The metrics are served to the end of the drain, and name its phase."""
    async with open_scene(lame_duck="200s") as scene:
        admin = scene.callers.addresses["admin"]
        calls = [scene.call("form"), scene.call("grpc")]
        await scene.hold.wait_for(2)
        page = await scrape_until(admin, lambda page: page.value(IN_FLIGHT) == 2)
        assert phase(page) == "serving"
        await scene.stop()
        page = await scrape(admin)
        assert (phase(page), page.value(IN_FLIGHT)) == ("lame_duck", 2)
        scene.sidecar.signal(signal.SIGTERM)
        page = await scrape_until(admin, lambda page: phase(page) == "drain")
        assert (phase(page), page.value(IN_FLIGHT)) == ("drain", 2)
        scene.hold.release.set()
        assert all([(await call).token for call in calls])


async def test_the_process_and_its_release(deployment: Deployment) -> None:
    """The metrics have the release, CPU, memory and descriptors of the process."""
    page = await scrape(deployment.addresses.admin)
    labels = {"version": version("karmo-sidecar"), "grpcio": version("grpcio")}
    assert page.value("karmo_sidecar_build_info", **labels) == 1
    assert page.value("process_resident_memory_bytes") > 10 * 2**20
    assert page.value("process_cpu_seconds_total") > 0.1
    assert page.value("process_open_fds") > 10
    assert page.value("process_max_fds") > 100


def ends_of(page: Scrape) -> Mapping[tuple[str, str], float]:
    """Return the ends of certificates by listener and the name of the file."""
    family = page.families.get(NOT_AFTER)
    samples = family.samples if family else []
    return {
        (sample.labels["listener"], Path(sample.labels["file"]).name): sample.value
        for sample in samples
    }


async def test_the_dates_of_certificates(tmp_path: Path) -> None:
    """Each file with certificates has the date on which it ends, also after a renewal."""
    authority = trustme.CA()
    ends = [datetime(2040, 1, day, tzinfo=UTC) for day in (1, 2)]
    leaves = [authority.issue_cert("localhost", not_after=end) for end in ends]
    mount = Mount(tmp_path, pair(leaves[0]) | trust(authority))
    files = mount.files("tls")
    sides = ("rest", "grpc", "auth_api")
    flags = {f"{side}_tls_certificate": str(files.certificate) for side in sides}
    flags |= {f"{side}_tls_key": str(files.key) for side in sides}
    flags |= {"auth_api_tls_ca": str(mount.folder / "ca.crt")} | STORE
    async with open_deployment(**flags, auth_api_token_url="https://localhost:9/") as deployment:
        admin = deployment.addresses.admin
        page = await scrape(admin)
        ca = {("auth_api", "ca.crt"): end_of_ca(authority)}
        assert ends_of(page) == {(side, "tls.crt"): ends[0].timestamp() for side in sides} | ca
        mount.put(pair(leaves[1]) | trust(authority))
        renewed = {(side, "tls.crt"): ends[1].timestamp() for side in sides} | ca
        page = await scrape_until(admin, lambda page: ends_of(page) == renewed)
        assert ends_of(page) == renewed
        assert DOCUMENTED.keys() == families_of(page).keys()


def end_of_ca(authority: trustme.CA) -> float:
    """Return the end of the certificate of `authority`, by another reader of certificates."""
    certificate = x509.load_pem_x509_certificate(authority.cert_pem.bytes())
    return certificate.not_valid_after_utc.timestamp()


async def test_a_file_with_two_uses_has_one_series(tmp_path: Path) -> None:
    """A file that is both the certificate and the CA of a listener makes no series twice."""
    leaf = trustme.CA().issue_cert("localhost", not_after=datetime(2040, 1, 1, tzinfo=UTC))
    files = Mount(tmp_path, pair(leaf)).files("tls")
    flags = {"grpc_tls_certificate": str(files.certificate), "grpc_tls_key": str(files.key)}
    flags |= {"grpc_tls_client_ca": str(files.certificate)}
    async with open_deployment(**flags) as deployment:
        page = await scrape(deployment.addresses.admin)
    (sample,) = page.families[NOT_AFTER].samples
    assert sample.labels == {"listener": "grpc", "file": str(files.certificate)}


COUNTS = Counts(
    phase=Phase.SERVING,
    calls=Admission(1, streams=1).counts,
    http={},
    grpc=GrpcCounts(calls=0, waiting=0, evicted=0),
    auth_api=None,
    throttle=None,
    sharing=None,
    certificates=(),
    log_lines_dropped=dict.fromkeys(DropCause, 0),
)


def test_a_date_that_cannot_be_read_is_absent() -> None:
    """A certificate without a readable date has no reading: 0 would be a date."""
    end = datetime(2040, 1, 1, tzinfo=UTC)
    read = Expiry(
        listener="grpc",
        file="tls.crt",
        not_before=end - timedelta(days=90),
        not_after=end,
        days_left=9,
        is_early=False,
    )
    unread = replace(read, listener="rest", not_before=None, not_after=None, days_left=None)
    counts = replace(COUNTS, certificates=(unread, read))
    ends = [reading for reading in readings_of(counts) if reading.name == NOT_AFTER]
    assert ends == [Reading(NOT_AFTER, end.timestamp(), ("grpc", "tls.crt"))]


def test_open_streams_are_shown_beside_their_limit() -> None:
    """An operator sees how near the open streams are to their limit, apart from the calls."""
    calls = AdmissionCounts(in_flight=1, limit=2, streams=3, streams_limit=4, watches=5, refused=6)
    values = {name: value for name, value, _ in readings_of(replace(COUNTS, calls=calls))}
    assert values["karmo_sidecar_calls_in_flight"] == 1
    assert values["karmo_sidecar_streams_open"] == 3
    assert values["karmo_sidecar_streams_limit"] == 4


async def test_no_tls_has_no_date() -> None:
    """Without files of certificates there is no date, also if the auth-api is called by TLS."""
    async with open_deployment(auth_api_token_url="https://localhost:9/") as deployment:
        page = await scrape(deployment.addresses.admin)
    assert ends_of(page) == {}


async def test_dropped_log_lines_are_counted() -> None:
    """Lines that nobody reads any more are counted, since the beginning."""
    reading, writing = os.pipe()
    os.close(reading)
    writer = LogWriter(writing)
    logging.getLogger().addHandler(writer)
    try:
        async with open_deployment() as deployment:
            for number in range(3):
                logs.warning("lost", number=number)
            writer.close()
            page = await scrape(deployment.addresses.admin)
    finally:
        logging.getLogger().removeHandler(writer)
        os.close(writing)
    dropped = page.by("karmo_sidecar_log_lines_dropped_total", "cause")
    assert dropped == {"unwritable": writer.dropped[DropCause.UNWRITABLE]}
    assert dropped["unwritable"] >= 3
    assert not any(logs.dropped_lines().values())


async def test_no_secret_and_no_client_is_shown() -> None:
    """No page has a text of a caller or of the auth-api."""
    authorization = (basic(CLIENT_ID, SECRET),)
    fields = {**GRANT, "client_id": CLIENT_ID, "client_secret": SECRET}
    async with open_deployment(trusted_proxies="1", max_client_calls="9") as deployment:
        for reply in (answer(401, {"error": "canary"}), deployment.upstream.reply) * 4:
            deployment.upstream.reply = reply
            for way in ("form", "json", "grpc"):
                await deployment.ways[way](Sent(fields=GRANT, authorization=authorization))
                await deployment.ways[way](Sent(fields=fields))
        rest, headers = deployment.addresses.rest, (FORM, b"X-Forwarded-For: 192.0.2.77")
        for sent in (
            request("CANARY", "/canary"),
            request(target="/v1/oauth/token?client_secret=canary"),
            request(headers=headers, body=b"grant_type=canary&client_id=canary"),
            b"GET /canary canary\r\n\r\n",
        ):
            await answer_to(rest, sent)
        pages = [
            (await response_of(deployment.addresses.admin, accept)).text
            for accept in ("text/plain", "application/openmetrics-text")
        ]
    assert all("TOO_MANY_ATTEMPTS" in page for page in pages)
    assert hits(*pages) == []
    assert not any("192.0.2" in page or "127.0.0.1" in page for page in pages)


# The documentation

_ROW = re.compile(r"^\| `(\w+)` \| (\w+) \|([^|]*)\| [^|]+ \|$", re.MULTILINE)
_TABLE = PAGE.partition("## Metrics\n")[2].partition("Values of the labels")[0]
DOCUMENTED = {
    name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in _ROW.findall(_TABLE)
}


def families_of(page: Scrape) -> Mapping[str, Metric]:
    """Return the metrics by their names as the documentation has them."""
    return {
        f"{name}_total" if family.type == "counter" else name: family
        for name, family in page.families.items()
    }


async def test_the_documentation_has_every_metric(deployment: Deployment) -> None:
    """docs/operations.md has a row for each metric, with its type and labels."""
    for way in ("form", "grpc"):
        await deployment.ways[way](Sent(fields=GRANT, authorization=(basic(),)))
    families = families_of(await scrape(deployment.addresses.admin))
    # There is no certificate and no store.
    assert families.keys() == DOCUMENTED.keys() - {NOT_AFTER, *SHARED_COUNTS}
    for name, family in families.items():
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert DOCUMENTED[name] == (family.type, labels), name


@pytest.mark.parametrize(
    ("title", "reasons"),
    [("refusals", list(Refusal)), ("ended connections", list(get_args(CloseReason)))],
)
def test_the_documentation_has_every_reason(title: str, reasons: list[str]) -> None:
    """docs/operations.md has a row for each reason, in the order of the code."""
    table = PAGE.partition(f"### Reasons of {title}\n")[2].partition("\n##")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)[1:] == reasons
