"""Tests of docs/debugging.md: each of its commands runs as pasted, and prints what it shows.

Addresses and paths are replaced by those of a running sidecar. In a shown output `...` stands
for any text, as a line of its own for any lines, and a UUID for that of the real call, also in
the commands that follow.
"""

import re
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import grpc
import httpx2
import pytest
import pytest_asyncio
import trustme

from sidecar.problems import CATALOGUE
from tests.sidecar_process import (
    BIN,
    ROOT,
    Ended,
    Sidecar,
    find_tool,
    path_of_a_terminal,
    run,
    serving,
)
from tests.upstream import Hold, Upstream

PAGE = (ROOT / "docs/debugging.md").read_text("utf-8")
# The addresses on the page, by the names in the sidecar's log.
DEFAULTS = {"rest": "127.0.0.1:8080", "grpc": "127.0.0.1:50051", "admin": "127.0.0.1:9090"}
# The sidecar of a section; the others have one as in `make run`.
KINDS = {
    "TLS": "tls",
    "Mutual TLS": "mtls",
    "Without reflection": "no reflection",
    "The auth-api is unreachable": "unreachable",
    "The deadline is too short": "slow",
}
LOG = "sidecar.log"
FILES = ("ca.pem", "client.pem", "client.key", "request.json", LOG)
UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
FAILURES = ("ERROR:", "Failed ", "result    refused")


@dataclass(frozen=True, slots=True)
class Block:
    """Commands of the page, and the output that the page shows, which may be none."""

    commands: str
    shown: str


def sections() -> Mapping[str, Sequence[Block]]:
    """Return the blocks of each section that has commands, in their order."""
    found = {}
    for section in re.split(r"^##+ ", PAGE, flags=re.MULTILINE):
        title, _, text = section.partition("\n")
        blocks = re.findall(
            r"```sh\n(.*?)```(?:\n\n```(?:text|json)\n(.*?)\n```)?", text, re.DOTALL
        )
        if blocks:
            found[title] = [Block(*block) for block in blocks]
    return found


SECTIONS = sections()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """A reader of the page who pastes its commands; files are in `folder`.

    `ids` holds the real UUIDs by those of the page.
    """

    sidecar: Sidecar
    folder: Path
    ids: dict[str, str] = field(default_factory=dict)

    async def paste(self, commands: str) -> Ended:
        """Run commands of the page in turn; return their output and the first bad status."""
        outputs, status = [], 0
        for command in self._replaced(re.sub(r"\\\n *", " ", commands)).splitlines():
            if LOG in command:
                await self._write_log(re.findall(UUID, command))
            path = {"PATH": f"{BIN}:{path_of_a_terminal()}", "HOME": str(self.folder)}
            end = await run("bash", "-c", f"exec 2>&1\n{command}", env=path)
            outputs.append(end.stdout)
            status = status or end.status
        return Ended(status=status, stdout="".join(outputs), stderr="")

    async def _write_log(self, ids: Sequence[str]) -> None:
        """Write the log so far: the lines of the calls `ids`, and those before a new request."""
        last = str(uuid.uuid4())
        async with httpx2.AsyncClient(trust_env=False) as client:
            url = f"http://{self.sidecar.addresses['rest']}/problems"
            await client.get(url, headers={"X-Request-Id": last})
        for identity in (*ids, last):
            await self.sidecar.log.find(identity)
        (self.folder / LOG).write_text("".join(self.sidecar.log.seen), "utf-8")

    def _replaced(self, text: str) -> str:
        """Return commands or an output of the page with the real UUIDs, addresses and paths."""
        real = {DEFAULTS[name]: self.sidecar.addresses[name] for name in DEFAULTS}
        real |= self.ids | {name: str(self.folder / name) for name in FILES}
        for shown, replacement in real.items():
            text = text.replace(shown, replacement)
        return text

    def check(self, output: str, shown: str) -> None:
        """Assert that `output` is as shown, and remember its UUIDs."""
        shown = self._replaced(shown)
        known = self.ids.values()
        ids = [one for one in dict.fromkeys(re.findall(UUID, shown)) if one not in known]
        pattern = "\n".join(
            "(?s:.*?)" if line == "..." else re.escape(line).replace(re.escape("..."), ".*?")
            for line in shown.strip().splitlines()
        )
        pattern = pattern.replace("\n(?s:.*?)", "(?s:\n.*?)?")  # no line is any lines, too
        for number, identity in enumerate(ids, start=1):
            pattern = pattern.replace(re.escape(identity), f"({UUID})", 1)
            pattern = pattern.replace(re.escape(identity), rf"\{number}")
        match = re.fullmatch(pattern, output.strip())
        assert match, f"shown:\n{shown}\n\nreal:\n{output}"
        self.ids.update(zip(ids, match.groups(), strict=True))


class Readers:
    """The readers of the page, one for each kind of sidecar, which starts when it is needed."""

    def __init__(self, stack: AsyncExitStack, folder: Path) -> None:
        self._stack = stack
        self._folder = folder
        self._running: dict[str, Sidecar] = {}

    async def get(self, kind: str) -> Reader:
        """Return a new reader with the sidecar of a kind."""
        folder = self._folder / kind
        if kind not in self._running:
            folder.mkdir()
            self._running[kind] = await self._start(kind, folder)
        return Reader(sidecar=self._running[kind], folder=folder)

    async def _start(self, kind: str, folder: Path) -> Sidecar:
        match kind:
            case "unreachable":
                # Nothing listens at port 9, which is reserved.
                return await self._serve("serve", auth_api_token_url="http://127.0.0.1:9/token")
            case "slow":
                hold = Hold()
                upstream = await self._stack.enter_async_context(Upstream())
                upstream.script = hold.script
                self._stack.callback(hold.release.set)
                return await self._serve("serve", auth_api_token_url=upstream.url)
            case "no reflection":
                return await self._serve("dev", grpc_reflection="off")
            case "tls" | "mtls":
                return await self._serve("dev", **certificates(folder, kind == "mtls"))
        return await self._serve("dev")

    async def _serve(self, command: str, **flags: Any) -> Sidecar:
        return await self._stack.enter_async_context(serving(command, **flags))


def certificates(folder: Path, is_mutual: bool) -> Mapping[str, str]:
    """Write the files of both sides, and return the settings of the sidecar."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    for side, name in (("server", "sidecar.example"), ("client", "engineer.example")):
        leaf = authority.issue_cert(name)
        leaf.private_key_pem.write_to_path(folder / f"{side}.key")
        leaf.cert_chain_pems[0].write_to_path(folder / f"{side}.pem")
    files = {"certificate": "server.pem", "key": "server.key"}
    files |= {"client_ca": "ca.pem"} if is_mutual else {}
    return {f"grpc_tls_{name}": str(folder / file) for name, file in files.items()}


@pytest_asyncio.fixture(scope="module", name="readers")
async def _readers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Readers]:
    async with AsyncExitStack() as stack:
        yield Readers(stack, tmp_path_factory.mktemp("debugging"))


@pytest.mark.parametrize("title", SECTIONS)
async def test_a_section_is_true(title: str, readers: Readers) -> None:
    """Every command of a section runs as pasted, and its output is as shown."""
    for tool in ("grpcurl", "curl", "buf", "jq"):
        if any(tool in block.commands for block in SECTIONS[title]):
            find_tool(tool)
    reader = await readers.get(KINDS.get(title, "dev"))
    for block in SECTIONS[title]:
        end = await reader.paste(block.commands)
        fails = block.shown.startswith(FAILURES)
        assert (end.status != 0) is fails, end.stdout
        if block.shown:
            reader.check(end.stdout, block.shown)


def test_all_commands_are_found() -> None:
    """Every command of the page is in a section that runs, and every kind of sidecar has one."""
    assert PAGE.count("```sh\n") == sum(len(blocks) for blocks in SECTIONS.values()) >= 20
    assert SECTIONS.keys() >= KINDS.keys()
    assert not re.search(r"^ *(grpcurl|curl|buf) .*`", PAGE, re.MULTILINE)


def test_a_wrong_output_is_seen(tmp_path: Path) -> None:
    """An output that is not as shown fails, and a UUID must be the same wherever it is shown."""
    sidecar = cast("Sidecar", SimpleNamespace(addresses=DEFAULTS))
    reader = Reader(sidecar=sidecar, folder=tmp_path)
    one, other, shown = (str(uuid.UUID(int=number)) for number in range(3))
    with pytest.raises(AssertionError):
        reader.check('"status": "NOT_SERVING"', '"status": "SERVING"')
    with pytest.raises(AssertionError):
        reader.check(f"{one} {other}", f"{shown} {shown}")
    reader.check(f"{one} and more", f"{shown} ...")
    assert reader.ids == {shown: one}
    with pytest.raises(AssertionError):
        reader.check(other, shown)


METHOD = "karmo.auth.v1.TokenService/ExchangeToken"
# Messages of grpcurl's own, and mistakes with them: the kind of sidecar, and the arguments.
MISTAKES: Mapping[str, Sequence[tuple[str, str]]] = {
    "connection refused": [("dev", "-plaintext 127.0.0.1:9 list")],
    "first record does not look like a TLS handshake": [("dev", "127.0.0.1:50051 list")],
    "certificate signed by unknown authority": [
        ("tls", "-authority sidecar.example 127.0.0.1:50051 list")
    ],
    "certificate is valid for": [
        ("tls", "-cacert ca.pem -authority x.example 127.0.0.1:50051 list")
    ],
    "Failed to dial target host": [
        ("tls", "-plaintext -connect-timeout 1 127.0.0.1:50051 list"),
        ("dev", "-plaintext -connect-timeout 1 127.0.0.1:8080 list"),
        ("dev", "-plaintext -max-time 0.000001 127.0.0.1:50051 list"),
        (
            "mtls",
            "-cacert ca.pem -authority sidecar.example -connect-timeout 1 127.0.0.1:50051 list",
        ),
    ],
    "server does not support the reflection API": [
        ("no reflection", "-plaintext 127.0.0.1:50051 list")
    ],
    "Symbol not found": [("dev", "-plaintext 127.0.0.1:50051 describe karmo.Other")],
    "has no known field named": [("dev", f"-plaintext -d '{{\"x\":1}}' 127.0.0.1:50051 {METHOD}")],
}


@pytest.mark.parametrize("message", MISTAKES)
async def test_a_message_of_grpcurl_means_what_the_page_says(
    message: str, readers: Readers
) -> None:
    """Each mistake gives the message in the table, and the exit status of no call."""
    find_tool("grpcurl")
    for kind, arguments in MISTAKES[message]:
        end = await (await readers.get(kind)).paste(f"grpcurl {arguments}")
        assert message in end.stdout
        assert end.status == 1


def test_every_mistake_has_its_row() -> None:
    """The table of grpcurl's own messages has exactly those that are tried."""
    table = PAGE.partition("## If grpcurl itself fails")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(.+?)(?: \.\.\.[^`]*)?`", table, re.MULTILINE)
    assert rows == list(MISTAKES)


def test_every_code_has_its_row() -> None:
    """The table of codes has every code of the catalogue with its exit status, and one more."""
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| .+ \| .+ \|$", PAGE, re.MULTILINE)
    numbers = {definition.grpc_code for definition in CATALOGUE.values()}
    codes = {code.name: code.value[0] for code in grpc.StatusCode}
    shown = {re.sub(r"(?<!^)(?=[A-Z])", "_", name).upper(): int(exit_) - 64 for name, exit_ in rows}
    cancelled = shown.pop("CANCELED")
    assert cancelled == codes["CANCELLED"]
    assert shown == {name: number for name, number in codes.items() if number in numbers}
    assert [int(exit_) for _, exit_ in rows] == sorted(int(exit_) for _, exit_ in rows)
