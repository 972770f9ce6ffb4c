"""haproxy and nginx in front of sidecars, as they stand in front of one that is deployed.

`haproxy` and `nginx` hide nothing: no request is tried a second time. `balanced` runs the
configuration that docs/scaling.md recommends.
"""

import asyncio
import csv
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

from tests.faults.conditions import eventually
from tests.faults.wire import LOOPBACK, accepts, held_port, host_and_port
from tests.sidecar_process import ROOT, Sidecar, find_tool, started

# A server of a front: where REST is, and where /readyz is, or None for no check.
Backend: TypeAlias = "tuple[str, str | None]"
# Whether requests of several clients share a connection to a backend, and from which one on.
Reuse: TypeAlias = Literal["never", "safe", "aggressive", "always"]

_HAPROXY = """\
global
  stats socket {control} mode 600 level admin
defaults
  mode http
  retries 0
  option http-keep-alive
  http-reuse {reuse}
  timeout connect 10s
  timeout client 30s
  timeout server 30s
  timeout check 10s
frontend rest
  bind {address}
  default_backend sidecars
backend sidecars
  balance roundrobin
  option httpchk GET /readyz
  http-check expect status 200
{servers}
"""
_CHECK = "check inter 100ms fall 1 rise 1"
_NGINX = """\
daemon off;
master_process off;
pid nginx.pid;
error_log stderr warn;
events {{ worker_connections 512; }}
http {{
  access_log off;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  upstream sidecars {{
{servers}
    keepalive 32;
  }}
  server {{
    listen {address} reuseport;
    location / {{
      proxy_pass http://sidecars;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_next_upstream off;
    }}
  }}
}}
"""


class Haproxy:
    """A running haproxy. `address` is where it serves; its slots take backends while it runs."""

    def __init__(self, address: str, control: Path) -> None:
        self.address = address
        self._control = control

    async def put(self, slot: int, rest: str, admin: str) -> None:
        """Send new requests of `slot` to `rest` once /readyz of `admin` says so.

        `slot` counts from 0 and must have a check. Requests in flight end where they are.
        """
        await self.take_out(slot)
        await self._set(slot, "addr {} port {}".format(*host_and_port(rest)))
        await self._set(slot, "check-addr {} port {}".format(*host_and_port(admin)))
        await self._set(slot, "health down")  # until a check says else
        await self._set(slot, "state ready")

    async def take_out(self, slot: int) -> None:
        """Send no new request to the backend of `slot`."""
        await self._set(slot, "state maint")

    async def is_up(self, slot: int) -> bool:
        """Return whether `slot` gets requests: it has a backend that no check found bad."""
        rows = await _statistics(self._control)
        status = {row["svname"]: row["status"] for row in rows}[f"s{slot}"]
        return status in {"UP", "no check"}

    async def _set(self, slot: int, what: str) -> None:
        await _command(self._control, f"set server sidecars/s{slot} {what}")


@asynccontextmanager
async def haproxy(
    folder: Path, backends: Sequence[Backend], *, slots: int = 0, reuse: Reuse = "safe"
) -> AsyncIterator[Haproxy]:
    """Run haproxy in front of `backends`, with `slots` more servers that are out at first.

    `reuse` is its http-reuse: with "safe" the first request of a client is never the
    one that meets a connection which the backend just closes. Its files are in
    `folder`. Enters when it takes connections. Skips the test without the tool, as
    find_tool does; raises RuntimeError if it does not start.
    """
    servers = [_server(slot, backend) for slot, backend in enumerate(backends)]
    nowhere = (f"{LOOPBACK}:9", f"{LOOPBACK}:9")
    servers += [f"{_server(len(servers) + more, nowhere)} disabled" for more in range(slots)]
    control = folder / "haproxy.sock"
    with held_port() as port:
        address = f"{LOOPBACK}:{port}"
        config = folder / "haproxy.cfg"
        lines = "\n".join(servers)
        text = _HAPROXY.format(address=address, control=control, reuse=reuse, servers=lines)
        config.write_text(text)
        async with started(find_tool("haproxy"), "-db", "-f", config, cwd=folder) as server:
            # It takes connections a moment before its control socket has its name.
            await _serve(server, lambda: control.is_socket() and accepts(address))
            yield Haproxy(address, control)


def _server(slot: int, backend: Backend) -> str:
    rest, admin = backend
    if admin is None:
        return f"  server s{slot} {rest}"
    return "  server s{} {} {} addr {} port {}".format(slot, rest, _CHECK, *host_and_port(admin))


@asynccontextmanager
async def nginx(folder: Path, backends: Sequence[str]) -> AsyncIterator[str]:
    """Run nginx in front of the REST addresses `backends`, and give where it serves.

    Its files are in `folder`. Enters when it takes connections. Skips the test
    without the tool, as find_tool does; raises RuntimeError if it does not start.
    """
    # A failed server stays in: to be left out would hide the next failure.
    servers = "\n".join(f"    server {backend} max_fails=0;" for backend in backends)
    with held_port() as port:
        address = f"{LOOPBACK}:{port}"
        config = folder / "nginx.conf"
        config.write_text(_NGINX.format(address=address, servers=servers))
        flags = ("-p", folder, "-c", config, "-e", "stderr")
        async with started(find_tool("nginx"), *flags, cwd=folder) as server:
            await _serve(server, lambda: accepts(address))
            yield address


@asynccontextmanager
async def balanced(
    folder: Path, replicas: Sequence[Mapping[str, str]]
) -> AsyncIterator[Mapping[str, str]]:
    """Run haproxy as docs/scaling.md configures it, in front of sidecars with these addresses.

    Gives its own addresses, `rest` and `grpc`. Its files are in `folder`. Enters when it
    takes connections and its health check of each sidecar has passed. Skips the test without
    the tool, as find_tool does; raises RuntimeError if it does not start.
    """
    control = folder / "haproxy.sock"
    with held_port() as rest, held_port() as grpc:
        addresses = {"rest": f"{LOOPBACK}:{rest}", "grpc": f"{LOOPBACK}:{grpc}"}
        config = folder / "haproxy.cfg"
        text = _recipe(addresses, replicas)
        config.write_text(text.replace("global\n", f"global\n  stats socket {control}\n"))
        async with started(find_tool("haproxy"), "-db", "-f", config, cwd=folder) as server:
            await _serve(
                server, lambda: control.is_socket() and all(map(accepts, addresses.values()))
            )
            await eventually(partial(_has_checked, control, 2 * len(replicas)))
            yield addresses


async def _has_checked(control: Path, servers: int) -> bool:
    """Whether health checks have passed for `servers` servers. Without one, haproxy uses them."""
    passed = [row for row in await _statistics(control) if row["check_status"] == "L7OK"]
    return len(passed) == servers


async def _statistics(control: Path) -> Sequence[Mapping[str, str]]:
    """Return the statistics of each server of the haproxy at the socket `control`."""
    table = (await _command(control, "show stat -1 4 -1")).removeprefix("# ")
    return list(csv.DictReader(table.splitlines()))


async def _command(control: Path, command: str) -> str:
    """Send `command` to the haproxy at the socket `control`, and return its output."""
    reader, writer = await asyncio.open_unix_connection(control)
    try:
        writer.write(f"{command}\n".encode())
        return (await reader.read()).decode()
    finally:
        writer.close()


def _recipe(addresses: Mapping[str, str], replicas: Sequence[Mapping[str, str]]) -> str:
    """Return the configuration in docs/scaling.md with these addresses in place of its own."""
    page = (ROOT / "docs" / "scaling.md").read_text("utf-8")
    text = page.partition("```haproxy\n")[2].partition("```")[0]
    for name, port in (("rest", 8080), ("grpc", 50051)):
        text, bound = re.subn(rf"bind :{port}\b", f"bind {addresses[name]}", text)
        (options,) = set(re.findall(rf"  server \w+ \S+:{port}(.*)\n", text))
        servers = "".join(
            "  server s{} {} port {}{}\n".format(
                slot, replica[name], host_and_port(replica["admin"])[1], options
            )
            for slot, replica in enumerate(replicas)
        )
        text, listed = re.subn(rf"(  server \w+ \S+:{port}.*\n)+", servers, text)
        if (bound, listed) != (1, 1):
            raise ValueError(f"docs/scaling.md does not configure port {port}")
    return text


async def _serve(server: Sidecar, is_ready: Callable[[], bool]) -> None:
    """Wait until `server` is ready. Raises RuntimeError if it ends instead."""
    ended = asyncio.create_task(server.ended())
    try:
        await eventually(lambda: ended.done() or is_ready())
        if ended.done():
            raise RuntimeError(f"it did not start:\n{(await ended).stderr}")
    finally:
        ended.cancel()
