"""Tests of what turns tracing on, and of what happens if it cannot be on."""

import asyncio
import logging
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import httpx2
import pytest

from sidecar.telemetry.tracing import setup
from sidecar.telemetry.tracing.setup import Tracing
from tests.recorded import Line, recorded
from tests.sidecar_process import log_lines, serving
from tests.telemetry.tracing.collector import needs_the_extra
from tests.upstream import Upstream

pytestmark = pytest.mark.usefixtures("measured")

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
URL = "http://canary:canary@127.0.0.1:9/otlp/"
ON: Mapping[str, str] = MappingProxyType({ENDPOINT: URL})

OFF: Mapping[str, Mapping[str, str]] = {
    "nothing": {},
    "empty": {ENDPOINT: "", "OTEL_TRACES_EXPORTER": ""},
    "none": {**ON, "OTEL_TRACES_EXPORTER": " None "},
    "disabled": {**ON, "OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": " TRUE"},
    "other signals": {"OTEL_SERVICE_NAME": "a", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": URL},
}
WRONG: Mapping[str, tuple[Mapping[str, str], str]] = {
    "exporter": ({"OTEL_TRACES_EXPORTER": "console"}, "OTEL_TRACES_EXPORTER"),
    "exporters": ({**ON, "OTEL_TRACES_EXPORTER": "otlp,console"}, "OTEL_TRACES_EXPORTER"),
    "protocol": ({**ON, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL"),
    "protocol of traces": (
        {
            **ON,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json",
        },
        "OTEL_EXPORTER_OTLP_PROTOCOL",
    ),
    "no scheme": ({ENDPOINT: "canary:4318"}, ENDPOINT),
    "no host": ({ENDPOINT: "http:///canary"}, ENDPOINT),
    "no port": ({ENDPOINT: "http://canary:canary"}, ENDPOINT),
}


def started(variables: Mapping[str, str]) -> tuple[Tracing, Sequence[Line]]:
    """Return tracing by `variables`, and the lines that were logged."""
    with recorded() as log:
        tracing = setup.start(variables)
        assert "canary" not in log.text
        return tracing, log.entries


@pytest.mark.parametrize("variables", OFF.values(), ids=OFF)
def test_off(variables: Mapping[str, str]) -> None:
    """Tracing is off, without a line, unless the variables ask for it."""
    tracing, lines = started(variables)
    assert tracing.tracer is None
    assert lines == []


@pytest.mark.parametrize(("variables", "name"), WRONG.values(), ids=WRONG)
def test_wrong(variables: Mapping[str, str], name: str) -> None:
    """A variable that cannot be obeyed turns tracing off, and one line names it."""
    tracing, (line,) = started(variables)
    assert tracing.tracer is None
    assert (line["level"], line["message"]) == ("warning", "traces off")
    assert line["reason"].startswith(f"{name} must be ")


@pytest.fixture(name="_loggers")
def _restored_loggers() -> Iterator[None]:
    logger, exporter = (
        logging.getLogger(name) for name in ("opentelemetry", "opentelemetry.exporter")
    )
    yield
    logger.handlers, logger.propagate = [], True
    exporter.setLevel(logging.NOTSET)


@pytest.mark.usefixtures("_loggers")
@pytest.mark.parametrize(
    ("variables", "shown"),
    [
        (ON, "http://127.0.0.1:9/otlp/v1/traces"),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, "http://localhost:4318/v1/traces"),
        ({**ON, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://a/b?canary"}, "https://a/b"),
    ],
    ids=["endpoint", "exporter", "endpoint of traces"],
)
async def test_on(variables: Mapping[str, str], shown: str) -> None:
    """An endpoint or an exporter turns it on; a line shows the URL without what may be secret."""
    needs_the_extra()
    tracing, (line,) = started(variables)
    assert tracing.tracer is not None
    assert (line["message"], line["endpoint"]) == ("traces on", shown)
    await tracing.finished(within=20)


@pytest.mark.usefixtures("_loggers")
def test_a_value_that_the_sdk_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sidecar serves without traces, and the line has no value."""
    needs_the_extra()
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "-5")
    tracing, lines = started(ON)
    assert tracing.tracer is None
    assert lines[-1]["reason"] == "a variable is wrong: ValueError"


# The end


async def end_of(work: Callable[[], object], within: float) -> Sequence[Line]:
    """End tracing whose last spans take `work`; return the lines that were logged."""
    tracer: Any = object()

    def shut_down() -> None:
        work()

    tracing = Tracing(tracer, shut_down)
    with recorded() as log:
        tracing.finish()
        tracing.finish()
        await tracing.finished(within)
        return log.entries


async def test_the_end_waits_for_the_last_spans() -> None:
    """The shutdown runs once, in a thread of its own, and is waited for."""
    threads: list[threading.Thread] = []
    lines = await end_of(lambda: threads.append(threading.current_thread()), within=20)
    assert [thread is not threading.main_thread() for thread in threads] == [True]
    assert lines == []


async def test_the_end_is_bounded() -> None:
    """What takes too long is given up, with a line, and the loop runs meanwhile."""
    forever = threading.Event()
    (line,) = await end_of(forever.wait, within=1)
    assert (line["level"], line["message"]) == ("warning", "traces lost")
    forever.set()


async def test_an_end_that_fails() -> None:
    """An exception of the SDK does not stop the shutdown of the sidecar."""

    def fail() -> None:
        raise RuntimeError("canary")

    (line,) = await end_of(fail, within=20)
    assert (line["message"], line["error"]) == ("traces lost", "RuntimeError")
    assert "canary" not in str(line)


async def test_without_tracing_there_is_no_end() -> None:
    """Nothing is run at the end if tracing is off."""
    await asyncio.gather(*(setup.start({}).finished(within=20) for _ in range(2)))


# Without the packages

# Finds no module of the extra, and says at the end which ones there are.
WITHOUT = """
import sys
class Missing:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] == "opentelemetry":
            raise ModuleNotFoundError("no module", name=name)
sys.meta_path.insert(0, Missing)
from sidecar.cli import main
status = main()
print("modules:", [n for n in sys.modules if n.startswith("opentelemetry")], file=sys.stderr)
sys.exit(status)
"""


@pytest.mark.parametrize("variables", [{}, ON], ids=["not wanted", "wanted"])
async def test_without_the_extra(variables: Mapping[str, str]) -> None:
    """Nothing of OpenTelemetry is loaded, calls are served, a context is passed on unchanged.

    If traces are wanted, one line says what is missing. The access line has the trace id.
    """
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with (
        Upstream() as upstream,
        serving(
            "serve",
            program=(sys.executable, "-c", WITHOUT),
            env=variables,
            auth_api_token_url=upstream.url,
        ) as sidecar,
        httpx2.AsyncClient(trust_env=False) as client,
    ):
        form = {"grant_type": "client_credentials", "client_id": "a", "client_secret": "b"}
        url = f"http://{sidecar.addresses['rest']}/v1/oauth/token"
        headers = {"traceparent": trace, "tracestate": "a=1"}
        assert (await client.post(url, data=form, headers=headers)).status_code == 200
        assert (await client.post(url, data=form)).status_code == 200
        first, second = upstream.requests
    end = await sidecar.ended()
    assert f"\r\ntraceparent: {trace}\r\n".encode() in first
    assert b"tracestate" not in first
    assert b"traceparent" not in second
    lines = log_lines(end.stdout)
    traced, untraced = (line for line in lines if line["message"] == "call")
    assert traced["trace_id"] == trace.split("-")[1]
    assert "trace_id" not in untraced
    missing = [line["reason"] for line in lines if line["message"] == "traces off"]
    expected = ["the extra otel is not installed"] if variables else []
    assert missing == expected
    assert end.stderr == "modules: []\n"
