"""Tests of the Python client: TLS, forks, and texts that must not show a secret."""

import copy
import os
import pickle
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
import trustme

import karmo_auth_client
from karmo_auth_client import ExchangeError, Token, TokenSource
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


def test_plaintext_excludes_credentials() -> None:
    """`plaintext` with `channel_credentials` is refused, since one of them is a mistake."""
    with pytest.raises(ValueError, match="plaintext excludes channel_credentials"):
        TokenSource(
            "target",
            CLIENT_ID,
            SECRET,
            plaintext=True,
            channel_credentials=grpc.ssl_channel_credentials(),
        )


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


@every_kind
async def test_another_process_is_refused(kind: Kind) -> None:
    """As above, for both sources and in this process: coverage does not see a fork."""
    async with client_of(kind, "localhost:1") as client:
        client.source._process = os.getppid()
        with pytest.raises(RuntimeError, match="before the fork"):
            await client.get()


def test_public_names() -> None:
    """The package exports exactly its public names, sorted."""
    public = {name for name in vars(karmo_auth_client) if not name.startswith("_")}
    assert karmo_auth_client.__all__ == sorted(karmo_auth_client.__all__)
    assert public - {"generated"} == set(karmo_auth_client.__all__)
