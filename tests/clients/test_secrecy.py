"""Tests of the Python client: TLS, forks, and texts that must not show a secret."""

import copy
import os
import pickle
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

import karmo_auth_client
from karmo_auth_client import AsyncTokenSource, ExchangeError, Token
from karmo_auth_client._source import Credentials
from tests.clients.sources import (
    CLIENT_ID,
    KINDS,
    SECRET,
    Abort,
    Kind,
    Scripted,
    client_of,
    every_kind,
    issued,
    serving,
)
from tests.sidecar_process import ROOT, run

SHOWN: dict[str, Callable[[object], str]] = {
    "repr": repr,
    "str": str,
    "format": "{}".format,
    "format with repr": "{!r:>80}".format,
}
HOLDERS: dict[str, object] = {
    "credentials": Credentials(CLIENT_ID, SECRET),
    "a token": Token(SECRET, "Bearer", 3600),
    **{kind.__name__: kind("target:1", CLIENT_ID, SECRET, plaintext=True) for kind in KINDS},
}


@pytest.mark.parametrize("holder", HOLDERS.values(), ids=HOLDERS)
@pytest.mark.parametrize("show", SHOWN.values(), ids=SHOWN)
def test_no_text_shows_a_secret(show: Callable[[object], str], holder: object) -> None:
    """Every text of what holds a secret or a token shows a mask."""
    shown = show(holder)
    assert "'***'" in shown
    assert SECRET not in shown


def shown(error: BaseException) -> str:
    """Return the traceback of an error, with the local variables of all frames."""
    text = traceback.TracebackException.from_exception(error, capture_locals=True)
    return "".join(text.format())


@every_kind
async def test_no_error_shows_a_secret(kind: Kind) -> None:
    """The traceback of a failed exchange does not show the secret, and has no cause."""
    service = Scripted(Abort(grpc.StatusCode.NOT_FOUND))
    async with serving(service) as address, client_of(kind, address) as client:
        with pytest.raises(ExchangeError) as failure:
            await client.get()
    assert "client_secret='***'" in shown(failure.value)
    assert SECRET not in shown(failure.value)


@every_kind
async def test_no_traceback_of_grpc_shows_a_secret(kind: Kind) -> None:
    """An error inside gRPC, here by a wrong type, does not show the request that gRPC has."""
    async with client_of(kind, "localhost:1", timeout="soon") as client:
        with pytest.raises(TypeError) as failure:
            await client.get()
    assert "request = client_id='partner', client_secret='***'" in shown(failure.value)
    assert SECRET not in shown(failure.value)


TLS = grpc.ssl_channel_credentials()
# Options of a constructor that raises, and what it says.
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "two ways to connect": ({"channel_credentials": TLS}, "plaintext excludes channel_credentials"),
    "a surrogate": ({"client_secret": f"{SECRET}\ud800"}, "client_secret must not have surrogates"),
    "a list": ({"client_secret": [SECRET]}, "client_secret must be a str"),
    "bytes": ({"client_secret": SECRET.encode()}, "client_secret must be a str"),
    "bytes that are no text": (
        {"client_secret": SECRET.encode() + b"\xff"},
        "client_secret must be a str",
    ),
    "nothing": ({"client_secret": None}, "client_secret must be a str"),
    "a surrogate in the id": ({"client_id": "\ud800"}, "client_id must not have surrogates"),
    "no id": ({"client_id": None}, "client_id must be a str"),
}


@every_kind
@pytest.mark.parametrize(("options", "said"), REFUSED.values(), ids=REFUSED)
def test_no_constructor_shows_a_secret(kind: Kind, options: dict[str, Any], said: str) -> None:
    """The traceback of a constructor that raises shows its local variables, but no secret."""
    names: dict[str, Any] = {"client_id": CLIENT_ID, "client_secret": SECRET, "plaintext": True}
    with pytest.raises(ValueError, match=said) as failure:
        kind("target", **(names | options))
    error = failure.value
    assert error.__traceback__ is not None
    text = shown(error.with_traceback(error.__traceback__.tb_next))  # without that of this test
    assert f"self = {kind.__name__}('target', client_id=" in text
    assert SECRET not in text
    assert error.__context__ is None


@pytest.mark.parametrize("kind", [*KINDS, Credentials])
def test_a_half_made_object_has_a_text(kind: type[object]) -> None:
    """What an interrupted constructor leaves behind does not break its traceback."""
    assert "None" in repr(object.__new__(kind))


async def test_grpc_holds_no_plain_token() -> None:
    """No object of gRPC shows a token, such as the task that asyncio logs in its debug mode."""
    async with (
        serving(Scripted(issued("leak"))) as address,
        client_of(AsyncTokenSource, address) as client,
    ):
        assert isinstance(client.source, AsyncTokenSource)
        call = client.source._begin()
        await call
        text = repr(vars(call))
    assert "result=Token('***')" in text
    assert "leak" not in text


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy, pickle.dumps])
def test_credentials_are_not_copied(make: Callable[[object], object]) -> None:
    """A secret can be neither pickled nor copied."""
    with pytest.raises(TypeError, match="cannot be pickled or copied"):
        make(Credentials(CLIENT_ID, SECRET))


@every_kind
async def test_tls(kind: Kind) -> None:
    """With the CA of the service, and with a client certificate, the connection is encrypted."""
    authority = trustme.CA()
    root = authority.cert_pem.bytes()
    leaf, own = authority.issue_cert("localhost"), authority.issue_cert("client")
    server = grpc.ssl_server_credentials(
        [(leaf.private_key_pem.bytes(), b"".join(c.bytes() for c in leaf.cert_chain_pems))],
        root,
        require_client_auth=True,
    )
    credentials = grpc.ssl_channel_credentials(
        root, own.private_key_pem.bytes(), own.cert_chain_pems[0].bytes()
    )
    async with serving(Scripted(issued()), server) as address:
        tls = {"plaintext": False, "channel_credentials": credentials}
        async with client_of(kind, address, **tls) as client:
            assert (await client.get()).access_token == "the.access.token"


@pytest.mark.timing("it must pass, and the test waits for it as long as it takes")
@every_kind
async def test_tls_is_the_default(kind: Kind) -> None:
    """Unless `plaintext` is set, nothing is sent to a service without TLS."""
    service = Scripted(issued())
    async with (
        serving(service) as address,
        client_of(kind, address, plaintext=False, timeout=0.5) as client,
    ):
        with pytest.raises(ExchangeError):
            await client.get()
    assert service.calls == 0


FORK = """
import os, sys
from karmo_auth_client import TokenSource
before, after = (TokenSource(sys.argv[1], "partner", "secret", plaintext=True) for _ in "12")
if sys.argv[2] == "used":
    before.get()
child = os.fork()
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
try:
    print(before.get().access_token, flush=True)
except RuntimeError as error:
    print(error, flush=True)
os._exit(0)
"""
FORKS = {"used": "the token source was used before the fork", "unused": "the.access.token"}


@pytest.mark.parametrize(("state", "said"), FORKS.items(), ids=FORKS)
async def test_a_fork(state: str, said: str, tmp_path: Path) -> None:
    """A source works in a forked process if it was not used before; if it was, it says so."""
    script = tmp_path / "fork.py"
    script.write_text(FORK, "utf-8")
    path = {"PYTHONPATH": str(ROOT / "clients/python/src")}
    async with serving(Scripted(*[issued()] * 2)) as address:
        end = await run(sys.executable, "-W", "ignore", script, address, state, env=path)
    assert end.status == 0, end.stderr
    assert end.stdout.startswith(said), end


CLOSE = """
import os, signal, sys, threading
from karmo_auth_client import TokenSource
source = TokenSource(sys.argv[1], "partner", "secret", plaintext=True)
source.get()
held = threading.Event()
def hold():
    with source._lock:
        held.set()
        threading.Event().wait()
threading.Thread(target=hold, daemon=True).start()
held.wait()
child = os.fork()
if child:
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os._exit(abs(status))
signal.alarm(20)  # ends it if it waits for ever
source.close()
print("closed", flush=True)
os._exit(0)
"""


@pytest.mark.timing("the alarm ends only a process that waits for ever")
async def test_close_after_a_fork(tmp_path: Path) -> None:
    """In a forked process `close` does nothing: a thread that is not there may hold the lock."""
    script = tmp_path / "close.py"
    script.write_text(CLOSE, "utf-8")
    path = {"PYTHONPATH": str(ROOT / "clients/python/src")}
    async with serving(Scripted(issued())) as address:
        end = await run(sys.executable, "-W", "ignore", script, address, env=path)
    assert (end.status, end.stdout) == (0, "closed\n"), end


@every_kind
async def test_another_process_is_refused(kind: Kind) -> None:
    """As above, for both sources and in this process: coverage does not see a fork."""
    async with client_of(kind, "localhost:1") as client:
        client.source._process = os.getppid()
        with pytest.raises(RuntimeError, match="before the fork"):
            await client.get()
        await client.close()
        assert not client.source._is_closed


def test_public_names() -> None:
    """The package exports exactly its public names, sorted."""
    public = {name for name in vars(karmo_auth_client) if not name.startswith("_")}
    assert karmo_auth_client.__all__ == sorted(karmo_auth_client.__all__)
    assert public - {"generated"} == set(karmo_auth_client.__all__)
