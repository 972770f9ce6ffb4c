"""The commands: what a person or an init system starts. The only module that prints."""

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import uvloop

from sidecar import logs
from sidecar.http_server import foreign_names
from sidecar.process import core_dumps, file_limits, signals
from sidecar.settings.model import PREFIX, Settings
from sidecar.settings.shutdown_margin import SHUTDOWN_MARGIN
from sidecar.settings.sources import SettingsError, load
from sidecar.settings.types import as_text

# sysexits.h: a wrong setting, or an address that is taken; and a bug of ours.
EX_CONFIG, EX_SOFTWARE = 78, 70

_UNFIT = (
    "is missing: this release of the library does not fit; install the versions in requirements.txt"
)

_COMMANDS = {
    "serve": "serve the API, calling the auth-api",
    "dev": "serve the API and an embedded auth-api for it, with demo clients",
    "check-config": "check the settings that serve would use, and serve nothing",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status of the process."""
    known, unknown = _parser().parse_known_args(arguments)
    parsed = vars(known)
    command = parsed.pop("command")
    flags = {name: value for name, value in parsed.items() if value is not None}
    violations = [_explain(argument) for argument in unknown if argument.startswith("-")]
    try:
        settings = load(os.environ, flags, needs_upstream=command != "dev")
    except SettingsError as error:
        return _fail(*violations, *error.violations)
    if command == "dev" and settings.auth_api_token_url:
        violations.append(f"{PREFIX}AUTH_API_TOKEN_URL: must not be set: dev has its own auth-api")
    violations += [f"{name} {_UNFIT}" for name in foreign_names.find_missing()]
    if violations or unknown:
        return _fail(*violations or ["unexpected arguments; see --help"])
    if command == "check-config":
        return _check(settings)
    return _serve(settings, embeds_auth_api=command == "dev")


def _leave(_number: int, _frame: object) -> NoReturn:
    """End at once: until the sidecar takes signals itself there is nothing to finish.

    As the first process of a container it would otherwise not even hear of them.
    """
    sys.exit(0)


def _parser() -> argparse.ArgumentParser:
    # Without abbreviations: a flag that is added later must not change what an old one means.
    parser = argparse.ArgumentParser(prog="karmo-sidecar", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=version("karmo-sidecar"))
    commands = parser.add_subparsers(dest="command", required=True)
    for command, told in _COMMANDS.items():
        described = commands.add_parser(command, help=told, description=told, allow_abbrev=False)
        for name, field in Settings.model_fields.items():
            flag, variable = f"--{name.replace('_', '-')}", f"{PREFIX}{name.upper()}"
            meaning = f"{field.description} ({variable}; default: {as_text(field.default)})"
            described.add_argument(flag, metavar="VALUE", help=meaning)
    return parser


def _explain(argument: str) -> str:
    """Return what is wrong with an unknown flag, whose value may be a secret."""
    return f"{argument.partition('=')[0]}: is not a flag; see --help"


def _check(settings: Settings) -> int:
    from sidecar.tls.certificates import Certificates  # noqa: PLC0415 it brings gRPC, as below

    try:
        Certificates.load(settings)
    except SettingsError as error:
        return _fail(*error.violations)
    print("The settings are right.")
    return 0


def _serve(settings: Settings, *, embeds_auth_api: bool) -> int:
    if embeds_auth_api and find_spec("joserfc") is None:
        return _fail("the embedded auth-api needs the extra dev: pip install 'karmo-sidecar[dev]'")
    signals.prepare(_leave)
    core_dumps.forbid()
    # Or strangers write lines of gRPC core on standard error, one for each failed handshake.
    # It is read when gRPC is imported.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    from sidecar import runtime  # noqa: PLC0415 as above

    announce = partial(_announce, settings) if embeds_auth_api else _be_silent
    needed, found = file_limits.raise_soft_limit(
        connections=settings.max_connections, calls=settings.max_in_flight
    )
    with closing(logs.configure(sys.stdout, closing=SHUTDOWN_MARGIN.log)):
        if found < needed:
            logs.warning("few descriptors", needed=needed, found=found)
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


def _fail(*violations: str) -> int:
    for violation in violations:
        print(f"karmo-sidecar: {violation}", file=sys.stderr)
    return EX_CONFIG


def _be_silent(_addresses: object) -> None:
    """Leave it to the log."""


def _announce(settings: Settings, addresses: object) -> None:
    """Tell a developer where everything is. Standard output is for the log alone."""
    is_secure, grpc_is_secure = settings.rest_tls_certificate, settings.grpc_tls_certificate
    banner = _BANNER.format(
        told=addresses,
        scheme="https" if is_secure else "http",
        # A developer's certificate is signed by nobody whom curl knows.
        curl="curl -k" if is_secure else "curl",
        grpcurl=f"{_grpcurl()} {'-insecure' if grpc_is_secure else '-plaintext'}",
    )
    print(banner, file=sys.stderr, flush=True)


def _grpcurl() -> str:
    """Return how to call grpcurl: where our set-up puts it, or else by its name."""
    beside = Path(sys.prefix, "bin", "grpcurl")
    return os.path.relpath(beside) if beside.exists() else "grpcurl"


_BANNER = """
The sidecar is ready.

  REST      {scheme}://{told.rest}/v1/oauth/token
  gRPC      {told.grpc}
  probes    http://{told.admin}/readyz
  problems  {scheme}://{told.rest}/problems
  auth-api  http://{told.auth_api}/v1/oauth/token (embedded)
  client    demo-partner, secret demo-secret

Try it:

  {curl} -u demo-partner:demo-secret -d grant_type=client_credentials {scheme}://{told.rest}/v1/oauth/token

  {grpcurl} -H 'authorization: Basic ZGVtby1wYXJ0bmVyOmRlbW8tc2VjcmV0' \
-d '{{"grant_type":"client_credentials"}}' {told.grpc} karmo.auth.v1.TokenService/ExchangeToken

Stop it with Ctrl-C.
"""
