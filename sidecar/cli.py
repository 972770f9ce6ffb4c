"""The commands of `karmo-sidecar`. The only module that prints."""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import uvloop

from sidecar import logs, probe
from sidecar.exchange.client_hash import ClientHash
from sidecar.http_server import foreign_names
from sidecar.process import core_dumps, file_limits, signals, sockets
from sidecar.settings import report
from sidecar.settings.addresses import UnixAddress
from sidecar.settings.conflicts import find_warnings
from sidecar.settings.model import PREFIX, Settings, name_of
from sidecar.settings.shutdown_margin import SHUTDOWN_MARGIN
from sidecar.settings.sources import SettingsError, load
from sidecar.settings.types import as_text

# sysexits.h: a wrong setting or an address in use; an internal error.
EX_CONFIG, EX_SOFTWARE = 78, 70
# What a container runtime takes for "unhealthy".
EX_UNHEALTHY = 1

_UNFIT = (
    "is missing: this release of the library does not fit; install the versions in requirements.txt"
)

_COMMANDS = {
    "serve": "serve the API, calling the auth-api",
    "dev": "serve the API and an embedded auth-api for it, with demo clients",
    "check-config": "check the settings that serve would use, and serve nothing",
    "openapi": "print the OpenAPI document of the API, and serve nothing",
    "hash-client": "print the hash by which the log names a client, and serve nothing",
    "probe": "ask the admin listener of a running sidecar whether calls should be routed there",
}
# The commands that need the URL of an auth-api.
_CALLING = frozenset({"serve", "check-config"})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status of the process."""
    known, unknown = _parser().parse_known_args(arguments)
    parsed = vars(known)
    command, client_id = parsed.pop("command"), parsed.pop("ID", None)
    is_printing, question = parsed.pop("print", False), parsed.pop("probe", None)
    failed = EX_UNHEALTHY if question else EX_CONFIG
    flags = {name: value for name, value in parsed.items() if value is not None}
    violations = [_explain(argument) for argument in unknown if argument.startswith("-")]
    try:
        settings = load(os.environ, flags, needs_upstream=command in _CALLING)
    except SettingsError as error:
        return _fail(*violations, *error.violations, status=failed)
    if command == "dev" and settings.auth_api_token_url:
        violations.append(f"{PREFIX}AUTH_API_TOKEN_URL: must not be set: dev has its own auth-api")
    if not question:
        violations += [f"{name} {_UNFIT}" for name in foreign_names.find_missing()]
    if violations or unknown:
        return _fail(*violations or ["unexpected arguments; see --help"], status=failed)
    if question:
        return _probe(settings, question)
    if command == "check-config":
        return _check(settings, flags if is_printing else None)
    if command == "openapi":
        return _describe(settings)
    if command == "hash-client":
        return _hash(settings, client_id)
    return _serve(settings, embeds_auth_api=command == "dev")


def _leave(_number: int, _frame: object) -> NoReturn:
    """Exit at once: before the sidecar serves there is nothing to finish.

    The first process of a container ignores signals that it has no handler for.
    """
    sys.exit(0)


def _parser() -> argparse.ArgumentParser:
    # Without abbreviations: a new flag must not change the meaning of an abbreviated old one.
    parser = argparse.ArgumentParser(prog="karmo-sidecar", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=version("karmo-sidecar"))
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in _COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        for setting, field in Settings.model_fields.items():
            flag, variable = f"--{setting.replace('_', '-')}", name_of(setting)
            help_text = f"{field.description} ({variable}; default: {as_text(field.default)})"
            command.add_argument(flag, metavar="VALUE", help=help_text)
    commands.choices["check-config"].add_argument(
        "--print",
        action="store_true",
        help="print every setting in force and where it comes from; secrets are masked",
    )
    commands.choices["hash-client"].add_argument(
        "ID", nargs="?", help="the client_id; without it, a line of standard input"
    )
    help_text = f"the question, one of {', '.join(probe.PROBES)} (default: {probe.PROBES[0]})"
    commands.choices["probe"].add_argument(
        "probe", nargs="?", default=probe.PROBES[0], choices=probe.PROBES, help=help_text
    )
    return parser


def _explain(argument: str) -> str:
    """Return the message for an unknown flag, without its value, which may be a secret."""
    return f"{argument.partition('=')[0]}: is not a flag; see --help"


def _check(settings: Settings, printed: Mapping[str, str] | None) -> int:
    """Check the files and names in `settings`; with `printed`, their flags, print all settings."""
    from sidecar.tls.certificates import Certificates  # noqa: PLC0415 it brings gRPC, as below

    violations: list[str] = []
    warnings: list[str] = []
    meanings: Mapping[str, str] = {}
    try:
        meanings = sockets.expansions(settings)
    except OSError as error:
        violations.append(str(error))
    if printed is not None:
        print(*report.describe(settings, os.environ, printed, meanings), sep="\n")
    try:
        expiries = Certificates.load(settings).expiries()
        warnings += [str(expiry) for expiry in expiries if expiry.warning]
    except SettingsError as error:
        violations += error.violations
    if violations:
        return _fail(*violations)
    warnings += [f"{name_of(field)}: {remedy}" for field, remedy in find_warnings(settings)]
    for warning in warnings:
        print(f"karmo-sidecar: warning: {warning}", file=sys.stderr)
    if printed is None:
        print("The settings are right.")
    return 0


def _hash(settings: Settings, client_id: str | None) -> int:
    if settings.log_client_key is None:
        return _fail(
            f"{name_of('log_client_key')}: must be set, to the key of the sidecar whose log is "
            "searched: without it each process has a random key"
        )
    if client_id is None:
        client_id = os.fsdecode(sys.stdin.buffer.readline().rstrip(b"\r\n"))
    if not client_id:
        return _fail("the client_id must not be empty")
    print(ClientHash(settings.log_client_key).of(client_id))
    return 0


def _probe(settings: Settings, question: str) -> int:
    try:
        probe.ask(settings.admin_listen, question)
    except probe.ProbeError as error:
        return _fail(str(error), status=EX_UNHEALTHY)
    return 0


def _describe(settings: Settings) -> int:
    from sidecar.api import EXAMPLES, SERVICES  # noqa: PLC0415 it brings gRPC, as below
    from sidecar.rest import openapi  # noqa: PLC0415 as above

    document = openapi.document(
        SERVICES, EXAMPLES, public_url=settings.public_url_at(settings.rest_listen)
    )
    sys.stdout.buffer.write(openapi.encode(document))
    return 0


def _serve(settings: Settings, *, embeds_auth_api: bool) -> int:
    if embeds_auth_api and find_spec("joserfc") is None:
        return _fail("the embedded auth-api needs the extra dev: pip install 'karmo-sidecar[dev]'")
    signals.prepare(_leave)
    core_dumps.forbid()
    # Without it gRPC core writes a line to standard error for each failed handshake. gRPC
    # reads it when it is imported.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    from sidecar import runtime  # noqa: PLC0415 as above

    announce = partial(_announce, settings) if embeds_auth_api else _be_silent
    needed, available = file_limits.raise_soft_limit(
        connections=settings.max_connections, calls=settings.max_in_flight
    )
    with closing(logs.configure(sys.stdout, closing=SHUTDOWN_MARGIN.log, level=settings.log_level)):
        if available < needed:
            logs.warning("few descriptors", needed=needed, found=available)
        for field, remedy in find_warnings(settings):
            logs.warning("setting needs attention", setting=name_of(field), remedy=remedy)
        try:
            uvloop.run(runtime.run(settings, embeds_auth_api=embeds_auth_api, announce=announce))
        except SettingsError as error:
            return _fail(*error.violations)
        except OSError as error:
            return _fail(str(error))
        except Exception as error:  # noqa: BLE001 its text may quote anything
            logs.failure("the sidecar failed", error)
            return EX_SOFTWARE
    return 0


def _fail(*violations: str, status: int = EX_CONFIG) -> int:
    for violation in violations:
        print(f"karmo-sidecar: {violation}", file=sys.stderr)
    return status


def _be_silent(_addresses: object) -> None:
    """Announce nothing: the log tells the addresses."""


def _announce(settings: Settings, addresses: sockets.Addresses) -> None:
    """Print the addresses for a developer. Standard output is only for the log."""
    is_secure, grpc_is_secure = settings.rest_tls_certificate, settings.grpc_tls_certificate
    rest, grpc = addresses.rest, addresses.grpc
    rest_is_unix, grpc_is_unix = (isinstance(each, UnixAddress) for each in (rest, grpc))
    scheme = "https" if is_secure else "http"
    banner = _BANNER.format(
        at=addresses,
        base=f"{scheme}://{'localhost' if rest_is_unix else rest}",
        via=f" over {rest}" if rest_is_unix else "",
        # curl does not trust the certificate of a developer.
        curl=f"curl{' -k' * bool(is_secure)}{f' --unix-socket {rest.host}' * rest_is_unix}",
        grpcurl=f"{_grpcurl()} {'-insecure' if grpc_is_secure else '-plaintext'}"
        f"{' -unix' * grpc_is_unix}",
        target=grpc.host if grpc_is_unix else grpc,
    )
    print(banner, file=sys.stderr, flush=True)


def _grpcurl() -> str:
    """Return the command for grpcurl: its path in the virtual environment, or its name."""
    beside = Path(sys.prefix, "bin", "grpcurl")
    return os.path.relpath(beside) if beside.exists() else "grpcurl"


_BANNER = """
The sidecar is ready.

  REST      {base}/v1/oauth/token{via}
  gRPC      {at.grpc}
  probes    http://{at.admin}/readyz
  reference {base}/docs
  problems  {base}/problems
  auth-api  http://{at.auth_api}/v1/oauth/token (embedded)
  client    demo-partner, secret demo-secret

Try it:

  {curl} -u demo-partner:demo-secret -d grant_type=client_credentials {base}/v1/oauth/token

  {grpcurl} -H 'authorization: Basic ZGVtby1wYXJ0bmVyOmRlbW8tc2VjcmV0' \
-d '{{"grant_type":"client_credentials"}}' {target} karmo.auth.v1.TokenService/ExchangeToken

Stop it with Ctrl-C.
"""
