"""Tests of `karmo-sidecar probe`: exit status, the line on failure, and its bounded time."""

import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from sidecar import probe
from sidecar.settings.types import Address
from tests.faults.wire import free_port
from tests.sidecar_process import SIDECAR, Ended, Sidecar, run, serving
from tests.ways import open_deployment

pytestmark = pytest.mark.usefixtures("measured")

# Reports what the command has loaded.
LOADED = (
    "import sys\n"
    "from sidecar.cli import main\n"
    "status = main()\n"
    "assert not {'grpc', 'starlette', 'httpx2', 'uvicorn'} & set(sys.modules)\n"
    "sys.exit(status)"
)


async def ask(sidecar: Sidecar, *question: str) -> Ended:
    """Run the command against `sidecar`."""
    listen = f"--admin-listen={sidecar.addresses['admin']}"
    return await run(*SIDECAR, "probe", *question, listen)


async def test_a_running_sidecar() -> None:
    """A sidecar is ready, alive and started; in its lame duck it is alive and not ready."""
    async with serving("dev", lame_duck="3000s", termination_grace="3600s") as sidecar:
        for question in ((), ("readyz",), ("livez",), ("startupz",)):
            assert await ask(sidecar, *question) == Ended(status=0, stdout="", stderr="")
        sidecar.signal(signal.SIGTERM)
        await sidecar.log.find("stopping")
        address = sidecar.addresses["admin"]
        line = f"karmo-sidecar: {address} answered /readyz with 503\n"
        assert await ask(sidecar) == Ended(status=1, stdout="", stderr=line)
        assert (await ask(sidecar, "livez")).status == 0
        sidecar.signal(signal.SIGTERM)


async def test_all_addresses_are_asked_by_loopback() -> None:
    """An admin listener on [::] is asked at 127.0.0.1, by the variables that the sidecar has."""
    async with open_deployment(admin_listen="[::]:0") as deployment:
        env = {"SIDECAR_ADMIN_LISTEN": deployment.addresses.by_name()["admin"]}
        assert env["SIDECAR_ADMIN_LISTEN"].startswith("[::]:")
        assert (await run(*SIDECAR, "probe", env=env)).status == 0


async def test_it_loads_little() -> None:
    """The command loads neither gRPC nor a web framework, which would take most of its time."""
    refused = Address("127.0.0.1", free_port())
    end = await run(SIDECAR[0], "-c", LOADED, "probe", f"--admin-listen={refused}")
    assert end.status == 1
    assert end.stderr == f"karmo-sidecar: cannot ask {refused}: Connection refused\n"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--admin-listen=127.0.0.1:0",), "SIDECAR_ADMIN_LISTEN has no fixed port to ask"),
        (("--admin-listen=canary",), "SIDECAR_ADMIN_LISTEN: must be HOST:PORT, such as"),
        (("--admin-liste=127.0.0.1:1",), "--admin-liste: is not a flag"),
    ],
)
async def test_wrong_settings(arguments: tuple[str, ...], line: str) -> None:
    """Where the settings are wrong the status is that of a failed probe, and a line says why."""
    end = await run(*SIDECAR, "probe", *arguments)
    assert (end.status, end.stdout) == (1, "")
    assert end.stderr.startswith(f"karmo-sidecar: {line}")


@contextmanager
def answering(answer: bytes, *, every: float = 0.0) -> Iterator[Address]:
    """Serve one connection: send `answer` and close, or a byte of it each `every` seconds."""
    is_over = threading.Event()

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(1024)
            step = 1 if every else len(answer) or 1
            for start in range(0, len(answer), step):
                connection.sendall(answer[start : start + step])
                if is_over.wait(every):
                    return

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield Address(*server.getsockname()[:2])
        finally:
            is_over.set()
            thread.join()


FAILURES = {
    b"HTTP/1.1 503 Service Unavailable\r\n\r\n": "answered /livez with 503",
    b"HTTP/1.1 404\r\n\r\n": "answered /livez with 404",
    b"SSH-2.0-OpenSSH_9.2\r\n": "answered /livez with no HTTP status",
    b"HTTP/1.1 200canary OK\r\n": "answered /livez with no HTTP status",
    b"\xff\xfe \xff\n": "answered /livez with no HTTP status",
    b"": "answered /livez with no HTTP status",
    b"x" * 5000: "answered /livez with no HTTP status",
}


@pytest.mark.parametrize(("answer", "line"), FAILURES.items(), ids=lambda value: repr(value[:20]))
def test_other_answers(answer: bytes, line: str) -> None:
    """Whatever is not 200 fails, and nothing that was received is repeated but a status."""
    with answering(answer) as address, pytest.raises(probe.ProbeError) as raised:
        probe.ask(address, "livez")
    assert str(raised.value) == f"{address} {line}"


def test_an_answer_in_pieces() -> None:
    """A status line that comes byte by byte is read."""
    with answering(b"HTTP/1.1 200 OK\r\n\r\n", every=0.001) as address:
        probe.ask(address, "livez", timeout=60.0)


@pytest.mark.timing("the other side is silent or needs 17 s; a busy machine makes it only slower")
@pytest.mark.parametrize("is_silent", [True, False], ids=["silent", "slow"])
def test_the_time_is_bounded(is_silent: bool) -> None:
    """A listener that never answers, or too slowly, fails the probe when its time is over."""
    with ExitStack() as stack:
        if is_silent:
            server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            address = Address(*server.getsockname()[:2])
        else:
            address = stack.enter_context(answering(b"HTTP/1.1 200 OK\r\n", every=1.0))
        begun = time.monotonic()
        with pytest.raises(probe.ProbeError) as raised:
            probe.ask(address, "readyz", timeout=0.5)
        took = time.monotonic() - begun
    assert str(raised.value) == f"no answer from {address} within 0.5 s"
    assert took < 10
