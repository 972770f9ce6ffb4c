"""The commands of `karmo-sidecar`. The only module that prints."""

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import uvloop

from sidecar import logs, probe
from sidecar.exchange.client_hash import ClientHash
from sidecar.process import core_dumps, file_limits, sockets, startup_signals
from sidecar.settings import commands, report
from sidecar.settings.addresses import UnixAddress
from sidecar.settings.commands import EX_CONFIG, EX_IOERR, EX_SOFTWARE, EX_UNHEALTHY
from sidecar.settings.conflicts import find_warnings
from sidecar.settings.flags import explain_unknown
from sidecar.settings.model import PREFIX, Settings, name_of
from sidecar.settings.shutdown_margin import SHUTDOWN_MARGIN
from sidecar.settings.sources import SettingsError, load

_NEEDS_REDIS = "needs the extra shared-limits, which is not installed"

# The commands that need the URL of an auth-api.
_CALLING = frozenset({"serve", "check-config"})
# The commands that need the packages for the settings in force.
_SERVING = _CALLING | {"dev"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status of the process."""
    known, unknown = commands.make_parser(probe.PROBES).parse_known_args(arguments)
    parsed = vars(known)
    command, client_id = parsed.pop("command"), parsed.pop("ID", None)
    fields = commands.COMMANDS[command].fields
    violations = explain_unknown(unknown, command, fields)
    if not fields:
        return _fail(*violations) if violations else _explain(command, parsed)
    is_printing, question = parsed.pop("print", False), parsed.pop("probe", None)
    failed = EX_UNHEALTHY if question else EX_CONFIG
    flags = {name: value for name, value in parsed.items() if value is not None}
    try:
        settings = load(os.environ, flags, needs_upstream=command in _CALLING)
    except SettingsError as error:
        return _fail(*violations, *error.violations, status=failed)
    if command == "dev" and settings.auth_api_token_url:
        violations.append(f"{PREFIX}AUTH_API_TOKEN_URL: must not be set: dev has its own auth-api")
    if command in _SERVING and settings.shared_limits_url and find_spec("redis") is None:
        violations.append(f"{name_of('shared_limits_url')}: {_NEEDS_REDIS}")
    if violations:
        return _fail(*violations, status=failed)
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
    """Exit at once: before the sidecar serves there is nothing to finish."""
    sys.exit(0)


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
        status = _write(*report.describe(settings, os.environ, printed, meanings))
        if status:
            return status
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
    return 0 if printed is not None else _write("The settings are right.")


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
    return _write(ClientHash(settings.log_client_key).of(client_id))


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
    return _write(openapi.encode(document).decode().removesuffix("\n"))


def _explain(command: str, arguments: Mapping[str, Any]) -> int:
    """List the routes, or explain the request that `arguments` describe."""
    from sidecar.api import CHECKS, EXAMPLES, MAX_REQUEST_BYTES, SERVICES  # noqa: PLC0415 as above
    from sidecar.rest.request_explainer import RequestExplainer  # noqa: PLC0415 as above
    from sidecar.transcoding.explanation import http_request  # noqa: PLC0415 as above

    explainer = RequestExplainer(SERVICES, EXAMPLES, CHECKS)
    if command == "routes":
        return _write(*explainer.list_routes())
    try:
        request = http_request.parse(**arguments, max_body_bytes=MAX_REQUEST_BYTES)
    except ValueError as error:
        return _fail(str(error), status=commands.EX_USAGE)
    explanation, lines = asyncio.run(explainer.explain(request))
    return _write(*lines) or (commands.EX_REFUSED if explanation.is_refused else 0)


def _serve(settings: Settings, *, embeds_auth_api: bool) -> int:
    if embeds_auth_api and find_spec("joserfc") is None:
        return _fail("the embedded auth-api needs the extra dev, which is not installed")
    startup_signals.prepare(_leave)
    core_dumps.forbid()
    # Without it gRPC core writes a line to standard error for each failed handshake. gRPC
    # reads it when it is imported.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    from sidecar import runtime  # noqa: PLC0415 as above

    # Without a developer, the log alone tells the addresses.
    announce = partial(_announce, settings) if embeds_auth_api else lambda _addresses: None
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


def _write(*lines: str) -> int:
    """Write `lines` to standard output, in UTF-8. Returns the exit status."""
    try:
        sys.stdout.buffer.writelines(f"{line}\n".encode() for line in lines)
        sys.stdout.flush()
    except OSError as error:
        # What is left in the buffer would fail once more at the end of the process.
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        return _fail(f"cannot write to standard output: {error.strerror}", status=EX_IOERR)
    return 0


def _fail(*violations: str, status: int = EX_CONFIG) -> int:
    for violation in violations:
        print(f"karmo-sidecar: {violation}", file=sys.stderr)
    return status


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

  {grpcurl} -rpc-header 'authorization: Basic ZGVtby1wYXJ0bmVyOmRlbW8tc2VjcmV0' \
-d '{{"grant_type":"client_credentials"}}' {target} karmo.auth.v1.TokenService/ExchangeToken

Stop it with Ctrl-C.
"""
