"""Tests of the walk-through in docs/transcoding.md, from a schema to a running application."""

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path

import grpc
import httpx2
import pytest

from tests.faults.conditions import eventually
from tests.faults.wire import held_port
from tests.patience import HANG
from tests.sidecar_process import BIN, ROOT, path_of_a_terminal, run, started

PAGE = (ROOT / "docs/transcoding.md").read_text("utf-8")
# The addresses of the server and of the application on the page.
SERVER, APPLICATION = "127.0.0.1:50052", "127.0.0.1:8090"


def blocks(language: str, section: str = "Your own service") -> Sequence[str]:
    """Return the blocks of `language` in a section, in their order."""
    text = PAGE.partition(f"### {section}\n")[2].partition("\n### ")[0]
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


async def pasted(command: str, folder: Path) -> str:
    """Run a command of the page, and return what it prints."""
    path = {"PATH": f"{BIN}:{path_of_a_terminal()}"}
    end = await run("bash", "-ec", command, env=path, cwd=folder)
    assert end.status == 0, end.stderr
    return end.stdout


def write_files(folder: Path, server: str) -> None:
    """Save the files of the page, with `server` for the address of the server."""
    (schema,), programs = blocks("proto"), blocks("python")
    (folder / "greeter.proto").write_text(schema, "utf-8")
    for name, program in zip(("server.py", "app.py"), programs, strict=True):
        (folder / name).write_text(program.replace(SERVER, server), "utf-8")


async def wait_for(server: str) -> None:
    """Wait until a gRPC server listens."""
    async with grpc.aio.insecure_channel(server) as channel, asyncio.timeout(HANG):
        await channel.channel_ready()


async def test_the_walk_through(tmp_path: Path) -> None:
    """The commands run as pasted, print what is shown, and the server may restart."""
    _install, compile_, serve, transcode, *calls = blocks("sh")
    with held_port() as port:
        server = f"127.0.0.1:{port}"
        write_files(tmp_path, server)
        await pasted(compile_, tmp_path)
        await check_explanation(tmp_path)
        python, *arguments = transcode.replace("8090", "0").split()
        async with started(BIN / python, *arguments, cwd=tmp_path) as application:
            said = await application.stderr.find("running on http://")
            (address,) = re.findall(r"http://([\d.:]+)", said)
            async with started(BIN / "python", serve.split()[1], cwd=tmp_path):
                await wait_for(server)
                for call, shown in zip(calls, blocks("json"), strict=True):
                    output = await pasted(call.replace(APPLICATION, address), tmp_path)
                    assert output == shown.strip()
            await check_restart(f"http://{address}/v1/people/Ada:greet", server, tmp_path)


async def check_explanation(folder: Path) -> None:
    """Check that the explanation of a request is as shown, without a running service."""
    (program,), (command,), (shown,) = (
        blocks(language, "Explanations") for language in ("python", "sh", "text")
    )
    (folder / "explain.py").write_text(program, "utf-8")
    assert await pasted(command, folder) == shown


async def check_restart(url: str, server: str, folder: Path) -> None:
    """Check that the application answers 503 without its server, and 200 when it is back."""
    async with httpx2.AsyncClient(trust_env=False) as client:

        async def answers(status: int) -> bool:
            return (await client.get(url)).status_code == status

        assert await answers(503)
        async with started(BIN / "python", "server.py", cwd=folder):
            await wait_for(server)
            await eventually(lambda: answers(200))


@pytest.mark.parametrize("page", ["docs/transcoding.md", "docs/transcoding_example.py"])
def test_every_shown_channel_connects_again_soon(page: str) -> None:
    """No shown remote channel has the default, by which calls fail for minutes after an outage."""
    text = (ROOT / page).read_text("utf-8")
    channels = text.count("aio.insecure_channel(")
    assert channels == text.count('options=[("grpc.max_reconnect_backoff_ms", 1000)]') > 0
