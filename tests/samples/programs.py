"""The code samples for partners as programs: their tools, their packages, and how they run."""

import asyncio
import functools
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.sidecar_process import ROOT, Ended, find_tool, run
from tests.third_party import find_tool_since, install, install_npm

SAMPLES = ROOT / "sidecar/rest/samples"
URL = "http://127.0.0.1:8080/v1/oauth/token"
HERE = Path(__file__).parent
DOWNLOADS = HERE / ".downloads"


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """What runs a sample: a command before its path, files beside it, and variables."""

    command: tuple[str | Path, ...]
    beside: tuple[Path, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)


def shell() -> Runtime:
    """Return the shell, with curl."""
    find_tool_since("curl", (7, 76))
    return Runtime(command=(find_tool("sh"),))


def python() -> Runtime:
    """Return our Python, where Authlib and requests are installed."""
    return Runtime(command=(sys.executable,))


def node() -> Runtime:
    """Return Node.js, with openid-client."""
    program = install_npm(HERE / "node")
    return Runtime(command=(program,), beside=(HERE / "node/node_modules",))


def go() -> Runtime:
    """Return Go, with golang.org/x/oauth2."""
    program = find_tool_since("go", (1, 26), "version")
    packages = DOWNLOADS / "go"
    # Without the flag, the files are read-only and `make clean` cannot remove them.
    env = {"GOMODCACHE": str(packages), "GOFLAGS": "-modcacherw", "GOTOOLCHAIN": "local"}
    install(HERE / "go/go.sum", packages, program, "mod", "download", env=env)
    beside = (HERE / "go/go.mod", HERE / "go/go.sum")
    return Runtime(command=(program, "run"), beside=beside, env=env)


def java() -> Runtime:
    """Return Java, with the OAuth 2.0 SDK of Nimbus; it compiles the sample by itself."""
    find_tool_since("javac", (17,))
    program, maven = find_tool_since("java", (17,)), find_tool("mvn")
    packages = DOWNLOADS / "java"
    goal = ("dependency:copy-dependencies", f"-DoutputDirectory={packages}")
    flags = ("--batch-mode", f"-Dmaven.repo.local={packages}/repository")
    install(HERE / "java/pom.xml", packages, maven, *flags, *goal)
    return Runtime(command=(program, "-cp", f"{packages}/*"))


RUNTIMES: Mapping[str, Callable[[], Runtime]] = {
    "token.sh": shell,
    "get_token.py": python,
    "token.mjs": node,
    "token.go": go,
    "Token.java": java,
}


@functools.cache
def runtime_of(name: str) -> Runtime:
    """Return the runtime of the sample `name`, with its packages installed.

    If a tool is missing the calling test is skipped, or fails if the environment has CI=true.
    """
    return RUNTIMES[name]()


def text_of(name: str) -> str:
    """Return the source of the sample `name`."""
    return (SAMPLES / name).read_text("utf-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A sample as a partner saves it, under its own name in a folder of its own."""

    name: str
    folder: Path

    async def run(self, address: str, client_id: str, client_secret: str) -> Ended:
        """Run it for the sidecar at `address` (REST) and return its end."""
        runtime = await asyncio.to_thread(runtime_of, self.name)
        for path in runtime.beside:
            if not (self.folder / path.name).exists():
                (self.folder / path.name).symlink_to(path)
        source = text_of(self.name).replace(URL, f"http://{address}/v1/oauth/token")
        (self.folder / self.name).write_text(source, "utf-8")
        credentials = {"CLIENT_ID": client_id, "CLIENT_SECRET": client_secret}
        env = {**runtime.env, **credentials}
        return await run(*runtime.command, self.name, env=env, cwd=self.folder)
