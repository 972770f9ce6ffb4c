"""Tests of the commands: output and exit status."""

import json
import os
import re
import signal
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import trustme

from sidecar.settings.model import Settings
from tests import sidecar_process
from tests.sidecar_process import BIN, SIDECAR, Ended, as_flags, free, run, serving
from tests.tls.test_reloading import Mount, leaf_of, pair
from tests.upstream import TOKEN, Upstream
from tests.ways import Sent, basic, open_ways

# For tests whose processes reach lines that nothing else does.
measured_once = pytest.mark.usefixtures("measured_once")

CANARY = "canary-5f1c"
SETTINGS = tuple(Settings.model_fields)
TOKEN_URL = {"auth_api_token_url": "http://127.0.0.1:9/v1/oauth/token"}
# All module finders stay, except that they do not find some top-level names.
WITHOUT = """
import sys

class Without:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, *rest):
        return None if name.split(".")[0] in NAMES else self.finder.find_spec(name, *rest)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
from sidecar.cli import main
sys.exit(main())
"""


def without(*names: str) -> tuple[str, ...]:
    """Return the command of a sidecar that cannot import `names`."""
    return SIDECAR[0], "-c", WITHOUT.replace("NAMES", repr(names))


STORE = {
    "shared_limits_url": f"redis://:{CANARY}@127.0.0.1:9",
    "log_client_key": "0123456789abcdefghijklmnopqrstuv",
}


def is_refusal(end: Ended, *faults: str) -> bool:
    """Whether it ended because of its configuration, with only a line for each fault."""
    lines = end.stderr.splitlines()
    return (
        end.status == 78
        and not end.stdout
        and len(lines) == len(faults)
        and all(
            line.startswith(f"karmo-sidecar: {fault}")
            for line, fault in zip(sorted(lines), sorted(faults), strict=True)
        )
    )


async def test_right_settings_are_right() -> None:
    """`check-config` accepts right settings with status 0, and serves nothing."""
    end = await run(*SIDECAR, "check-config", *as_flags(TOKEN_URL))
    assert end == Ended(status=0, stdout="The settings are right.\n", stderr="")


async def test_the_settings_in_force_are_printed(tmp_path: Path) -> None:
    """`check-config --print` has a line for each setting with its source, and nothing secret."""
    file = tmp_path / "key"
    file.write_text(f"{CANARY}-0123456789-0123456789-0123456789\n")
    flags = as_flags({"auth_api_token_url": f"https://auth.example.test/token?key={CANARY}"})
    env = {"SIDECAR_LOG_CLIENT_KEY_FILE": str(file), "SIDECAR_MAX_IN_FLIGHT": "7"}
    end = await run(*SIDECAR, "check-config", "--print", *flags, env=env)
    assert (end.status, end.stderr) == (0, "")
    lines = end.stdout.splitlines()
    assert [line.partition("=")[0] for line in lines] == [f"SIDECAR_{n.upper()}" for n in SETTINGS]
    assert {
        "SIDECAR_AUTH_API_TOKEN_URL=https://auth.example.test/token?***  # flag",
        f"SIDECAR_LOG_CLIENT_KEY=***  # file {file}",
        "SIDECAR_MAX_IN_FLIGHT=7  # environment",
        "SIDECAR_LAME_DUCK=5s  # default",
    } <= set(lines)
    assert CANARY not in end.stdout


async def test_the_settings_are_printed_before_a_bad_certificate() -> None:
    """The settings in force are shown even if a file that they name is bad."""
    flags = as_flags({"auth_api_token_url": "https://a.test/", "auth_api_tls_ca": "/no/file"})
    end = await run(*SIDECAR, "check-config", "--print", *flags)
    assert end.status == 78
    assert "SIDECAR_AUTH_API_TLS_CA=/no/file  # flag\n" in end.stdout
    assert "cannot read /no/file" in end.stderr


# Any text is a valid file name.
BAD = dict.fromkeys([name for name in SETTINGS if "_tls_" not in name], f"{CANARY}:secret")
NAMES = {f"SIDECAR_{name.upper()}": value for name, value in BAD.items()}
# `serve` and `check-config` have no flags of the embedded auth-api.
SERVED = {name: value for name, value in BAD.items() if not name.startswith("dev_")}
# Valid for the listeners; the fault of the flag must still be reported.
RIGHT_NAMES = {f"SIDECAR_{name.upper()}": "127.0.0.1:0" for name in SERVED}


@pytest.mark.parametrize(
    ("command", "flags", "env"),
    [
        pytest.param("serve", as_flags(SERVED), {}, id="by flag"),
        pytest.param("dev", as_flags(BAD), {}, id="by flag of dev"),
        pytest.param("dev", (), NAMES, id="by environment"),
        pytest.param("check-config", as_flags(SERVED), RIGHT_NAMES, id="the flag wins"),
    ],
)
async def test_every_fault_is_told_at_once(
    command: str, flags: tuple[str, ...], env: Mapping[str, str]
) -> None:
    """Each setting has a flag and a variable, and its fault has a line without the value."""
    end = await run(*SIDECAR, command, *flags, env=env)
    wrong = BAD if command == "dev" else SERVED
    assert is_refusal(end, *(f"SIDECAR_{name.upper()}: must " for name in wrong)), end
    assert CANARY not in end.stderr


async def test_serve_needs_an_upstream() -> None:
    """Without a token URL `serve` refuses to start, and names the missing setting."""
    end = await run(*SIDECAR, "serve", *free())
    assert is_refusal(end, "SIDECAR_AUTH_API_TOKEN_URL: must be set"), end


async def test_a_variable_that_is_no_setting_is_a_fault() -> None:
    """A misspelt variable is reported by name, without its value."""
    end = await run(*SIDECAR, "dev", *free(), env={"SIDECAR_REST_LISTENS": CANARY})
    assert is_refusal(end, "SIDECAR_REST_LISTENS: is not a setting"), end
    assert CANARY not in end.stderr


@measured_once
@pytest.mark.parametrize("command", ["check-config", "check-config --print", "openapi"])
async def test_output_that_cannot_be_written(command: str) -> None:
    """A full disk ends a command with status 74 and one line, not with a traceback."""
    end = await run(
        *("bash", "-c", f"{' '.join(SIDECAR)} {command} >/dev/full"),
        env={"SIDECAR_AUTH_API_TOKEN_URL": "http://127.0.0.1:9/"},
    )
    line = "karmo-sidecar: cannot write to standard output: No space left on device\n"
    assert end == Ended(status=74, stdout="", stderr=line)


async def test_version() -> None:
    """`--version` prints only the version."""
    end = await run(*SIDECAR, "--version")
    assert (end.status, end.stderr) == (0, "")
    assert end.stdout == f"{version('karmo-sidecar')}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param((), id="no command"),
        pytest.param(("serves",), id="an unknown command"),
    ],
)
async def test_what_is_not_understood_is_refused(arguments: tuple[str, ...]) -> None:
    """An unknown argument ends it with status 2 and the usage."""
    end = await run(*SIDECAR, *arguments)
    assert (end.status, end.stdout) == (2, "")
    assert end.stderr.startswith("usage: karmo-sidecar")


async def test_unknown_flags_are_faults_and_keep_their_values() -> None:
    """Every unknown or abbreviated flag is reported by name with status 78."""
    secret = "https://user:canary@auth.example.test/token"
    flags = (f"--auth-api-token-uri={secret}", "--rest-lis", secret, "--auth-api-timeout=canary")
    end = await run(*SIDECAR, "check-config", *flags)
    assert (end.status, end.stdout) == (78, "")
    lines = end.stderr.splitlines()
    assert [line.split(": ")[1] for line in lines] == [
        "--auth-api-token-uri",
        "--rest-lis",
        "SIDECAR_AUTH_API_TIMEOUT",
        "SIDECAR_AUTH_API_TOKEN_URL",
    ]
    assert "canary" not in end.stderr


async def test_arguments_that_are_no_flags_are_refused() -> None:
    """An argument that is neither a command nor a flag is refused without quoting it."""
    end = await run(*SIDECAR, "dev", "canary")
    assert end.status == 78
    usage = "unexpected arguments; see karmo-sidecar dev --help"
    assert end.stderr == f"karmo-sidecar: {usage}\n"


@measured_once
async def test_dev_takes_no_other_auth_api() -> None:
    """`dev` has its own auth-api, and refuses the setting of another one."""
    end = await run(*SIDECAR, "dev", *free(auth_api_token_url="http://127.0.0.1:1/"))
    fault = "SIDECAR_AUTH_API_TOKEN_URL: must not be set: dev has its own auth-api"
    assert (end.status, end.stderr) == (78, f"karmo-sidecar: {fault}\n")


async def test_help_names_every_setting() -> None:
    """`--help` of `dev` lists the flag and the variable of each setting, and no other flag."""
    end = await run(*SIDECAR, "dev", "--help", env={"COLUMNS": "1000"})
    words = end.stdout.split()
    flags = {word.strip(",") for word in words if word.startswith("--")}
    everything = dict.fromkeys(SETTINGS, "")
    assert flags == {"--help"} | {flag.partition("=")[0] for flag in as_flags(everything)}
    assert all(f"(SIDECAR_{name.upper()};" in words for name in SETTINGS)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(
            f"{BIN}{os.pathsep}{sidecar_process.path_of_a_terminal()}", id="as by make run"
        ),
        pytest.param(sidecar_process.path_of_a_terminal(), id="by the path of the program"),
    ],
)
async def test_the_lines_of_the_banner_work_when_pasted(path: str) -> None:
    """`dev` prints a curl and a grpcurl line; each prints a token in a new terminal.

    Its standard output holds only JSON, one record a line.
    """
    async with serving("dev", env={"PATH": path}) as sidecar:
        tokens = await paste_the_banner(sidecar)
    assert [token["token_type"] for token in tokens] == ["Bearer", "Bearer"]
    log = sidecar_process.log_lines(await sidecar.log.all())
    messages = dict.fromkeys(record["message"] for record in log)
    phases = ["lame duck ended", "drain ended"]
    assert list(messages) == ["serving", "call", "stop requested", "stopping", *phases, "stopped"]
    assert [record["by"] for record in log if "by" in record] == ["SIGTERM"]


async def test_the_lines_of_the_banner_work_over_tls(tmp_path: Path) -> None:
    """With certificates of a developer the lines that `dev` prints give a token, too."""
    files = Mount(tmp_path, pair(leaf_of(trustme.CA()))).files("tls")
    async with serving(
        "dev",
        rest_tls_certificate=str(files.certificate),
        rest_tls_key=str(files.key),
        grpc_tls_certificate=str(files.certificate),
        grpc_tls_key=str(files.key),
    ) as sidecar:
        tokens = await paste_the_banner(sidecar)
        urls = [line.split()[1] for line in sidecar.stderr.seen if "  problems  " in line]
        assert urls == [f"https://{sidecar.addresses['rest']}/problems"]
    assert [token["token_type"] for token in tokens] == ["Bearer", "Bearer"]


async def test_the_lines_of_the_banner_work_over_unix_sockets() -> None:
    """On Unix sockets the lines that `dev` prints have their paths, and give a token, too."""
    with TemporaryDirectory(prefix="karmo-") as folder:
        async with serving(
            "dev",
            rest_listen=f"unix:{folder}/rest.sock",
            grpc_listen=f"unix:{folder}/grpc.sock",
            public_url="https://api.example.test",
        ) as sidecar:
            tokens = await paste_the_banner(sidecar)
    assert [token["token_type"] for token in tokens] == ["Bearer", "Bearer"]


ADDRESS = re.compile(r"(?:REST +http://|probes +http://)(127\.0\.0\.1:\d+)")


async def lines_at(level: str) -> list[dict[str, Any]]:
    """Return the log of a sidecar at `level` that serves a call and a probe."""
    sidecar_process.find_tool("curl")
    command = (*SIDECAR, "dev", *free(log_level=level))
    async with sidecar_process.started(*command) as sidecar:
        await sidecar.stderr.find("Stop it with Ctrl-C.")
        rest, admin = ADDRESS.findall("".join(sidecar.stderr.seen))
        form = ("-su", "demo-partner:demo-secret", "-d", "grant_type=client_credentials")
        for call in ((*form, f"http://{rest}/v1/oauth/token"), ("-s", f"http://{admin}/readyz")):
            assert (await run("curl", *call)).status == 0
        sidecar.signal(signal.SIGTERM)
        end = await sidecar.ended()
    assert end.status == 0
    return sidecar_process.log_lines(end.stdout)


async def test_the_level_of_the_log() -> None:
    """At `warning` there is no line of what is right; `debug` adds connections and probes."""
    assert await lines_at("warning") == []
    at_info, at_debug = await lines_at("info"), await lines_at("debug")
    messages = {line["message"] for line in at_debug} - {line["message"] for line in at_info}
    assert messages == {
        "auth-api connection opened",
        "auth-api connection closed",
        "admin request",
    }
    fine = [line for line in at_debug if line["level"] == "debug"]
    assert {line["message"] for line in fine} == messages
    assert not any("request_id" in line for line in fine)
    (probe,) = (line for line in fine if line["message"] == "admin request")
    assert (probe["route"], probe["status"]) == ("/readyz", 200)


async def paste_the_banner(sidecar: sidecar_process.Sidecar) -> list[Mapping[str, str]]:
    """Return the output of its lines in a new terminal."""
    sidecar_process.find_tool("curl")
    sidecar_process.find_tool("grpcurl")
    await sidecar.stderr.find("Stop it with Ctrl-C.")
    lines = [line for line in sidecar.stderr.seen if "curl " in line]
    terminal = {"PATH": sidecar_process.path_of_a_terminal()}
    pasted = [await run("bash", "-c", line, env=terminal) for line in lines]
    assert [end.status for end in pasted] == [0, 0], pasted
    return [json.loads(end.stdout) for end in pasted]


@measured_once
async def test_a_check_that_is_stopped_is_no_success() -> None:
    """After Ctrl-C during the check, the settings are not reported as right."""
    code = (
        "import os, signal, sys\n"
        "from sidecar import cli\n"
        "cli.load = lambda *_, **__: os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.exit(cli.main())"
    )
    end = await run(SIDECAR[0], "-c", code, "check-config", *as_flags(TOKEN_URL))
    assert end.status != 0
    assert "right" not in end.stdout


@pytest.mark.parametrize("command", ["dev", "check-config"])
async def test_the_embedded_auth_api_stays_on_loopback(command: str) -> None:
    """Its demo clients are not reachable from the network, unless a setting allows it."""
    everywhere = {"SIDECAR_DEV_AUTH_API_LISTEN": "0.0.0.0:0"}
    end = await run(*SIDECAR, command, env=everywhere)
    refusals = [line for line in end.stderr.splitlines() if "must be a loopback address" in line]
    assert (end.status, len(refusals)) == (78, 1)
    allowed = everywhere | {"SIDECAR_DEV_AUTH_API_EXPOSE": "on"}
    assert (await run(*SIDECAR, "check-config", *as_flags(TOKEN_URL), env=allowed)).status == 0


@measured_once
async def test_dev_tells_what_it_lacks() -> None:
    """Without the extra `dev`, `dev` only says how to install it."""
    end = await run(*without("joserfc"), "dev", *free())
    assert is_refusal(end, "the embedded auth-api needs the extra dev, which is not installed"), end


@measured_once
@pytest.mark.parametrize("command", ["serve", "dev", "check-config"])
async def test_a_store_needs_its_extra(command: str) -> None:
    """Without the extra `shared-limits`, the URL of a store is a fault that names the extra."""
    flags = as_flags(STORE | (TOKEN_URL if command != "dev" else {}))
    end = await run(*without("redis"), command, *flags)
    assert is_refusal(
        end,
        "SIDECAR_SHARED_LIMITS_URL: needs the extra shared-limits, which is not installed",
    ), end


async def test_serve_needs_no_extra() -> None:
    """Without the extras `dev` and `shared-limits`, and without a store, `serve` gives a token."""
    async with (
        Upstream() as upstream,
        serving(
            "serve", program=without("joserfc", "redis"), auth_api_token_url=upstream.url
        ) as sidecar,
        open_ways(sidecar.addresses) as ways,
    ):
        sent = Sent(fields={"grant_type": "client_credentials"}, authorization=(basic(),))
        assert (await ways["grpc"](sent)).token == TOKEN


async def test_the_store_is_not_asked_by_a_check() -> None:
    """`check-config` accepts the URL of a store that nothing listens at."""
    end = await run(*SIDECAR, "check-config", *as_flags(TOKEN_URL | STORE))
    assert end == Ended(status=0, stdout="The settings are right.\n", stderr="")


@measured_once
async def test_a_bug_is_told_without_its_text(tmp_path: Path) -> None:
    """An unexpected exception ends it with status 70; the log has its type, never its text."""
    broken = tmp_path / "joserfc"
    broken.mkdir()
    (broken / "__init__.py").write_text(f"raise LookupError({CANARY!r})\n")
    end = await run(*SIDECAR, "dev", *free(), env={"PYTHONPATH": str(tmp_path)})
    assert (end.status, end.stderr) == (70, "")
    (record,) = sidecar_process.log_lines(end.stdout)
    assert (record["message"], record["error"]) == ("the sidecar failed", "LookupError")
    assert CANARY not in end.stdout
