"""Tests of `--help`: what it has, how it reads, and that settings and docs agree with it."""

import re
from pathlib import Path

import pytest

from sidecar.probe import PROBES
from sidecar.settings import flags
from sidecar.settings.commands import COMMANDS, STATUSES, make_parser
from sidecar.settings.model import Settings, name_of
from sidecar.settings.types import as_text

ROOT = Path(__file__).parents[2]
DEV = {field for field in Settings.model_fields if field.startswith("dev_")}
READ = {
    "serve": set(Settings.model_fields) - DEV,
    "dev": set(Settings.model_fields),
    "check-config": set(Settings.model_fields) - DEV,
    "openapi": {"rest_listen", "public_url", "rest_tls_certificate", "rest_tls_key"},
    "hash-client": {"log_client_key"},
    "probe": {"admin_listen"},
}
# The form of the value of some settings of each type.
FORMS = {
    "rest_listen": "HOST:PORT",
    "lame_duck": "DURATION",
    "auth_api_keep_alive": "DURATION",
    "max_in_flight": "NUMBER",
    "trusted_proxies": "NUMBER",
    "public_url": "URL",
    "auth_api_token_url": "URL",
    "rest_tls_key": "FILE",
    "log_client_key": "KEY",
    "grpc_reflection": "on|off",
    "log_level": "debug|info|warning|error",
    "auth_api_client_authentication": "as-received|basic|post",
}


def help_of(*command: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the help of a command, or of the program."""
    with pytest.raises(SystemExit) as raised:
        make_parser(PROBES).parse_args([*command, "--help"])
    assert raised.value.code == 0
    return capsys.readouterr().out


@pytest.fixture(autouse=True, params=["80", "100"])
def columns(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return the width of the terminal."""
    monkeypatch.setenv("COLUMNS", request.param)
    return int(request.param)


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)], ids=str)
def test_help_fits(
    command: tuple[str, ...], columns: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """No line is wider than the terminal, and none has Markdown or a word that says nothing."""
    text = help_of(*command, capsys=capsys)
    assert max(map(len, text.splitlines())) <= columns
    assert not re.search(r"`|VALUE\b(?! \.\.\.\])", text)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_has_the_flags_that_it_reads(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each flag is there with the form of its value, its variable and its default, and no other."""
    text = " ".join(help_of(command, capsys=capsys).split())
    expected = {flags.flag_of(field) for field in READ[command]} | {"--help"}
    own = {"--print"} if command == "check-config" else set()
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", text)) == expected | own
    for field in READ[command]:
        default = as_text(Settings.model_fields[field].default)
        assert f"({name_of(field)}; default: {default})" in text
        if field in FORMS:
            assert f"{flags.flag_of(field)} {FORMS[field]} " in text


@pytest.mark.parametrize("command", COMMANDS)
def test_help_explains(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command explains its forms of values, `_FILE`, which source wins, and each status."""
    text = help_of(command, capsys=capsys)
    assert "_FILE at the end of its name gives the path of a file" in text
    assert "The flag\nwins over the variable, and the variable over the default." in text
    for status, meaning in STATUSES.items():
        assert f"\n  {status:<3} {meaning}\n" in text
    forms = {FORMS[field] for field in READ[command] if field in FORMS}
    explained = set(re.findall(r"^  (\S+) +", text.partition("\nvalues:\n")[2], re.MULTILINE))
    assert {form for form in forms if form.isupper() or form == "on|off"} <= explained
    assert ("ms, s, m or h" in text) is ("DURATION" in forms)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_is_accepted(command: str) -> None:
    """Commands that read one setting accept every flag; `serve` has none of the embedded auth-api.

    So the flags of a running sidecar can be given to its health check.
    """
    arguments = [f"{flags.flag_of(field)}=canary" for field in Settings.model_fields]
    parsed, unknown = make_parser(PROBES).parse_known_args([command, *arguments])
    refused = DEV if command in ("serve", "check-config") else set()
    assert {argument.partition("=")[0] for argument in unknown} == {*map(flags.flag_of, refused)}
    assert {name for name, value in vars(parsed).items() if value == "canary"} == (
        set(Settings.model_fields) - refused
    )


def test_the_order_of_the_groups(capsys: pytest.CaptureFixture[str]) -> None:
    """The settings are in groups, by what a reader looks for."""
    text = help_of("dev", capsys=capsys)
    titles = re.findall(r"^(\S.*):$", text, re.MULTILINE)
    assert titles == [
        "options",
        "listeners",
        "TLS of the listeners",
        "auth-api",
        "shutdown",
        "limits",
        "log",
        "embedded auth-api",
        "values",
        "exit status",
    ]


def test_a_setting_needs_a_group() -> None:
    """A setting without a group fails as the parser is built."""
    with pytest.raises(LookupError, match="canary has no group"):
        flags.add(make_parser(PROBES), ["canary"], [])


def test_the_program_lists_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    """The help of the program has a line for each command and for each exit status."""
    text = help_of(capsys=capsys)
    for name, command in COMMANDS.items():
        assert f"\n  {name:<13} {command.purpose}\n" in text
    for status, meaning in STATUSES.items():
        assert f"\n  {status:<3} {meaning}\n" in text


def test_the_statuses_are_documented() -> None:
    """docs/operations.md has a row for each exit status, and for no other."""
    page = (ROOT / "docs" / "operations.md").read_text("utf-8")
    table = page.partition("| exit status | meaning |\n|---|---|\n")[2].partition("\n\n")[0]
    assert [int(status) for status in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)] == list(
        STATUSES
    )
