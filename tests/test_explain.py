"""Tests of the commands `routes` and `explain`: output, exit status, and what they never show."""

from pathlib import Path

import pytest

from sidecar import cli
from tests.sidecar_process import SIDECAR, Ended, run

CANARY = "canary-5f1c"
TOKEN = "/v1/oauth/token"
FORM = ("-H", "Content-Type: application/x-www-form-urlencoded")


def explained(
    capfd: pytest.CaptureFixture[str], *arguments: str, command: str = "explain"
) -> Ended:
    """Return output and exit status of the command, run in this process."""
    status = cli.main([command, *arguments])
    written = capfd.readouterr()
    return Ended(status=status, stdout=written.out, stderr=written.err)


def test_routes(capfd: pytest.CaptureFixture[str]) -> None:
    """`routes` prints the rule of the exchange and the pages, with status 0."""
    end = explained(capfd, command="routes")
    assert (end.status, end.stderr) == (0, "")
    head, first, *pages = end.stdout.splitlines()
    assert head.startswith("METHOD ")
    assert first.split()[:3] == ["POST", TOKEN, "karmo.auth.v1.TokenService/ExchangeToken"]
    assert {line.split()[2] for line in pages} >= {"/docs", "/problems"}


def test_a_call(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A request that would be a call has status 0; no secret is in the output."""
    body = tmp_path / "body"
    body.write_text(f"grant_type=client_credentials&client_id=a&client_secret={CANARY}")
    end = explained(capfd, "POST", f"{TOKEN}?x={CANARY}", *FORM, "--body", str(body))
    assert (end.status, end.stderr) == (0, "")
    assert 'client_id = "a" from the body' in end.stdout
    assert 'client_secret = "***" from the body' in end.stdout
    assert CANARY not in end.stdout


def test_a_refusal_of_the_method(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A request that the method would refuse has status 1; no secret is in the output."""
    body = tmp_path / "body"
    body.write_text(f"grant_type=client_credentials&client_secret={CANARY}")
    header = ("-H", f"Authorization: Basic {CANARY}")
    end = explained(capfd, "POST", TOKEN, *FORM, *header, "--body", str(body))
    assert (end.status, end.stderr) == (1, "")
    assert end.stdout.startswith("result    refused: 400 Bad Request\n")
    assert "authorization: ***" in end.stdout
    assert "problem   invalid-request, karmoCode 40010001\n" in end.stdout
    assert CANARY not in end.stdout


@pytest.mark.parametrize(
    ("line", "result"),
    [
        (f"GET {TOKEN}", "405 Method Not Allowed"),
        (f"POST {TOKEN}/", "404 Not Found"),
        (f"POST {TOKEN}?client_secret={CANARY}", "400 Bad Request"),
        ("GET /problems/none", "404 Not Found"),
    ],
)
def test_a_refusal(line: str, result: str, capfd: pytest.CaptureFixture[str]) -> None:
    """A request that would be refused has status 1, and its reason without a value."""
    end = explained(capfd, *line.split())
    assert (end.status, end.stderr) == (1, "")
    assert end.stdout.startswith(f"result    refused: {result}\n")
    assert CANARY not in end.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("GET", f"no-path-{CANARY}"), id="no path"),
        pytest.param(("GET GET", "/"), id="no method"),
        pytest.param(("GET", "/", "-H", CANARY), id="no header"),
        pytest.param(("GET", "/", "--body", f"/no/{CANARY}"), id="no file"),
    ],
)
def test_what_is_no_request(arguments: tuple[str, ...], capfd: pytest.CaptureFixture[str]) -> None:
    """What no request can hold ends it with status 2 and one line without the value."""
    end = explained(capfd, *arguments)
    assert (end.status, end.stdout) == (2, "")
    assert end.stderr.count("\n") == 1
    assert end.stderr.startswith("karmo-sidecar: ")
    assert CANARY not in end.stderr


@pytest.mark.parametrize("command", ["routes", "explain GET /"])
@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("--rest-listen=canary", "--rest-listen: is a flag of dev, not of "),
        ("--nothing=canary", "--nothing: is not a flag; see karmo-sidecar "),
        ("canary", "unexpected arguments; see karmo-sidecar "),
    ],
)
def test_other_arguments(
    command: str, more: str, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """The commands have no flags of settings; another argument is refused with status 78."""
    name, *arguments = command.split()
    end = explained(capfd, *arguments, more, command=name)
    assert (end.status, end.stdout) == (78, "")
    assert end.stderr.startswith(f"karmo-sidecar: {message}")
    assert "canary" not in end.stderr


async def test_the_body_comes_from_standard_input_and_no_setting_matters() -> None:
    """The process reads a body by `-`, and none of the settings, so a wrong one is no fault."""
    arguments = " ".join((f"POST {TOKEN}", f"-H '{FORM[1]}'", "--body -"))
    form = f"grant_type=client_credentials&client_id=a&client_secret={CANARY}"
    line = f"printf '{form}' | {' '.join(SIDECAR)} explain {arguments}"
    end = await run("bash", "-c", line, env={"SIDECAR_REST_LISTEN": "wrong", "SIDECAR_NO": "x"})
    assert (end.status, end.stderr) == (0, "")
    assert 'client_id = "a" from the body' in end.stdout
    assert CANARY not in end.stdout


async def test_output_that_cannot_be_written() -> None:
    """A full disk ends it with status 74, whether or not the request would be refused."""
    end = await run("bash", "-c", f"{' '.join(SIDECAR)} explain GET /nope >/dev/full")
    line = "karmo-sidecar: cannot write to standard output: No space left on device\n"
    assert end == Ended(status=74, stdout="", stderr=line)
