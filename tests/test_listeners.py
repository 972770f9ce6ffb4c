"""Tests of the addresses of a whole sidecar: one meaning for every listener, told as it is."""

import json
import re
import socket
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

import httpx2
import psutil
import pytest

from sidecar import runtime
from sidecar.process.sockets import Addresses
from sidecar.settings.sources import load
from tests.faults.namespaces import enter
from tests.faults.wire import free_port, ipv6_works
from tests.patience import HANG, PATIENT
from tests.process.test_listen_addresses import HOSTS, NAMES, WITHOUT_IPV6
from tests.sidecar_process import SIDECAR, Ended, as_flags, free, run, serving, started
from tests.ways import Sent, basic, open_ways

# For tests whose processes reach lines that nothing else does.
measured_once = pytest.mark.usefixtures("measured_once")

DEMO = Sent(
    fields={"grant_type": "client_credentials"},
    authorization=(basic("demo-partner", "demo-secret"),),
)
# The listeners of `dev` and their settings.
SETTINGS = {
    "rest": "rest_listen",
    "grpc": "grpc_listen",
    "admin": "admin_listen",
    "auth_api": "dev_auth_api_listen",
}
IPV4, IPV6 = "127.0.0.1", "::1"
# Hosts as written, and those that then accept connections at the loopback addresses.
FORMS: Mapping[str, Sequence[str]] = {
    "127.0.0.1": (IPV4,),
    "0.0.0.0": (IPV4,),  # noqa: S104 that is what is tested
    "[::1]": (IPV6,),
    "[::]": (IPV4, IPV6),
    "localhost": (IPV4, IPV6),
}
# Other addresses of a listener that accepts at these, as the system tells them.
ALL = {IPV4: ("::ffff:127.0.0.1", "0.0.0.0", "::"), IPV6: ("::",)}  # noqa: S104 as above
needs_ipv6 = pytest.mark.skipif(not ipv6_works(), reason="no IPv6 here")


@asynccontextmanager
async def listening(**flags: str) -> AsyncIterator[Addresses]:
    """Run a sidecar with its own auth-api, on free ports of loopback where `flags` say no other."""
    listen = dict.fromkeys(SETTINGS.values(), "127.0.0.1:0") | {"dev_auth_api_expose": "on"}
    settings = load({}, listen | dict(PATIENT) | flags)
    async with runtime.running(settings, embeds_auth_api=True) as addresses:
        yield addresses


def accepts(host: str, port: int) -> bool:
    """Return whether some process accepts connections at an address."""
    with closing(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)) as client:
        return client.connect_ex((host, port)) == 0


def accepting(port: int) -> Sequence[str]:
    """Return the loopback addresses at which this process accepts connections on `port`.

    Another process may have the same port of an address that is not ours.
    """
    sockets = psutil.Process().net_connections("tcp")
    listeners = (each.laddr for each in sockets if each.status == psutil.CONN_LISTEN)
    own = {address.ip for address in listeners if address.port == port}
    return [host for host in (IPV4, IPV6) if own & {host, *ALL[host]} and accepts(host, port)]


def at(host: str, port: int) -> str:
    """Return an address as it is written."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@needs_ipv6
@pytest.mark.parametrize(("host", "accepted"), FORMS.items(), ids=FORMS)
async def test_an_address_has_one_meaning(host: str, accepted: Sequence[str]) -> None:
    """Every listener accepts at the same addresses, which are those that are told, on one port."""
    async with listening(**dict.fromkeys(SETTINGS.values(), f"{host}:0")) as addresses:
        told = addresses.by_name()
        for name, one in (
            ("rest", addresses.rest),
            ("grpc", addresses.grpc),
            ("admin", addresses.admin),
            ("auth_api", addresses.auth_api),
        ):
            assert one
            assert accepting(one.port) == list(accepted), name
            is_name = host == "localhost"
            shown = [at(each, one.port) for each in accepted] if is_name else [f"{host}:{one.port}"]
            assert told[name] == ", ".join(shown)
        for each in accepted:
            ports = {"rest": addresses.rest.port, "grpc": addresses.grpc.port}
            async with open_ways({name: at(each, port) for name, port in ports.items()}) as ways:
                assert (await ways["form"](DEMO)).token
                assert (await ways["grpc"](DEMO)).token
        async with httpx2.AsyncClient(timeout=HANG, trust_env=False) as client:
            state = (await client.get(f"http://{addresses.admin}/state")).json()
            assert state["addresses"] == told


@contextmanager
def holding(host: str) -> Iterator[int]:
    """Listen on a port of `host` as another process would, and yield it.

    Nothing else has that port, of this address and of others.
    """
    port = free_port()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family):
        yield port


# Hosts as written, the address of which another process has the port, and what is then told.
TAKEN: Sequence[tuple[str, str, str]] = (
    ("127.0.0.1", IPV4, "127.0.0.1"),
    ("0.0.0.0", IPV4, "0.0.0.0"),  # noqa: S104 that is what is tested
    ("[::1]", IPV6, "[::1]"),
    ("[::]", IPV4, "[::]"),
    ("[::]", IPV6, "[::]"),
    ("localhost", IPV4, "127.0.0.1"),
    ("localhost", IPV6, "[::1]"),
)


@needs_ipv6
@pytest.mark.parametrize("field", SETTINGS.values())
async def test_partly_taken_is_taken(field: str) -> None:
    """If one of the addresses is in use, the error names it and the setting; nothing is bound."""
    for host, held, told in TAKEN:
        with holding(held) as port:
            text = f"cannot listen on {told}:{port}: Address already in use"
            with pytest.raises(OSError, match=f"^SIDECAR_{field.upper()}: {re.escape(text)}$"):
                async with listening(**{field: f"{host}:{port}"}):
                    pytest.fail("the address is shared")
            assert accepting(port) == [held]


@needs_ipv6
@pytest.mark.parametrize("field", SETTINGS.values())
async def test_all_ipv4_addresses_leave_ipv6_to_others(field: str) -> None:
    """On 0.0.0.0 a listener does not need the port of IPv6, which another process may have."""
    with holding(IPV6) as port:
        async with listening(**{field: f"0.0.0.0:{port}"}) as addresses:
            name = next(name for name, setting in SETTINGS.items() if setting == field)
            assert addresses.by_name()[name] == f"0.0.0.0:{port}"
            assert accepting(port) == [IPV4, IPV6]


@needs_ipv6
@pytest.mark.parametrize("host", FORMS)
async def test_two_sidecars_never_share(host: str) -> None:
    """A second sidecar on the addresses of the first is refused, for each form and listener."""
    listen = dict.fromkeys(SETTINGS.values(), f"{host}:0")
    async with listening(**listen) as first:
        ports = {"rest": first.rest.port, "grpc": first.grpc.port, "admin": first.admin.port}
        for name, port in ports.items():
            field = SETTINGS[name]
            with pytest.raises(OSError, match=f"^SIDECAR_{field.upper()}: cannot listen on "):
                async with listening(**{field: f"{host}:{port}"}):
                    pytest.fail("the address is shared")
        async with open_ways({"rest": str(first.rest), "grpc": str(first.grpc)}) as ways:
            assert (await ways["form"](DEMO)).token
            assert (await ways["grpc"](DEMO)).token


def ports_of_ipv6(pid: int) -> set[int]:
    """Return the ports of IPv6 sockets in the network of a process (proc(5), /proc/net/tcp6)."""
    table = Path(f"/proc/{pid}/net/tcp6")
    lines = table.read_text("ascii").splitlines()[1:] if table.exists() else ()
    return {int(line.split()[1].rpartition(":")[2], 16) for line in lines}


async def start(*prefix: str | Path, **flags: str) -> tuple[Mapping[str, str], set[int]]:
    """Start a sidecar behind `prefix`; return its serving line, and its ports of IPv6."""
    async with started(*prefix, *SIDECAR, "dev", *free(**flags)) as sidecar:
        await sidecar.serve()
        return sidecar.addresses, ports_of_ipv6(sidecar.pid)


async def test_a_machine_without_ipv6() -> None:
    """Without IPv6 a sidecar starts on each form, and tells the IPv4 addresses that it has."""
    prefix = await enter(WITHOUT_IPV6)
    told, ports = await start(
        *prefix,
        rest_listen="localhost:0",
        grpc_listen="[::]:0",
        admin_listen="0.0.0.0:0",
        public_url="https://api.example.test",
    )
    hosts = [told[name].rpartition(":")[0] for name in ("rest", "grpc", "admin")]
    assert hosts == ["127.0.0.1", "0.0.0.0", "0.0.0.0"]  # noqa: S104 that is what is tested
    assert ports.isdisjoint(
        int(told[name].rpartition(":")[2]) for name in ("rest", "grpc", "admin")
    )


@measured_once
@needs_ipv6
async def test_a_name(tmp_path: Path) -> None:
    """A name is every address that it resolves to; one that resolves to none is refused."""
    (tmp_path / "hosts").write_text(HOSTS)
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    prefix = await enter(NAMES, tmp_path)
    told, _ = await start(*prefix, rest_listen="both.test:0", grpc_listen="both.test:0")
    for name in ("rest", "grpc"):
        port = told[name].rpartition(":")[2]
        assert set(told[name].split(", ")) == {f"127.0.0.5:{port}", f"[::1]:{port}"}
    flags = as_flags({"auth_api_token_url": "http://a.test/", "grpc_listen": "missing.test:1"})
    end = await run(*prefix, *SIDECAR, "check-config", *flags)
    text = "karmo-sidecar: SIDECAR_GRPC_LISTEN: cannot listen on missing.test:1: "
    assert (end.status, end.stdout) == (78, "")
    assert end.stderr.startswith(text)
    flags = as_flags({"auth_api_token_url": "http://a.test/", "grpc_listen": "both.test:1"})
    end = await run(*prefix, *SIDECAR, "check-config", "--print", *flags)
    (line,) = [line for line in end.stdout.splitlines() if "GRPC_LISTEN" in line]
    value, _, meaning = line.partition("  # flag, means ")
    assert value == "SIDECAR_GRPC_LISTEN=both.test:1"
    assert set(meaning.split(", ")) == {"127.0.0.5:1", "[::1]:1"}


WARNING = (
    "SIDECAR_PUBLIC_URL: should be set to the URL that partners use: REST listens on all "
    "addresses, and the type URLs of problems begin with http://127.0.0.1:1, which opens on this "
    "machine only"
)


@measured_once
async def test_all_addresses_without_a_public_url() -> None:
    """`check-config` and the log warn of it, and the types then open on this machine."""
    flags = {"auth_api_token_url": "http://a.test/", "rest_listen": "0.0.0.0:1"}
    end = await run(*SIDECAR, "check-config", *as_flags(flags))
    right = "The settings are right.\n"
    assert end == Ended(status=0, stdout=right, stderr=f"karmo-sidecar: warning: {WARNING}\n")
    async with serving("dev", rest_listen="0.0.0.0:0") as sidecar:
        line = json.loads(await sidecar.log.find("setting needs attention"))
        assert (line["level"], line["setting"]) == ("warning", "SIDECAR_PUBLIC_URL")
        assert line["remedy"].startswith("should be set to the URL that partners use")
        port = sidecar.addresses["rest"].rpartition(":")[2]
        async with httpx2.AsyncClient(timeout=HANG, trust_env=False) as client:
            problem = (await client.get(f"http://127.0.0.1:{port}/nothing")).json()
            assert problem["type"] == f"http://127.0.0.1:{port}/problems/not-found"
            assert (await client.get(problem["type"])).status_code == 200
