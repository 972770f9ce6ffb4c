"""The command line: the commands, their arguments and their help."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version

from sidecar.settings import flags

# sysexits.h: a wrong setting or an address in use; an output that failed; an internal error.
EX_CONFIG, EX_IOERR, EX_SOFTWARE = 78, 74, 70
# What a container runtime takes for "unhealthy"; and a request that would be refused.
EX_UNHEALTHY = EX_REFUSED = 1
# The status of `argparse`.
EX_USAGE = 2

# The exit statuses, and what each means.
STATUSES: Mapping[int, str] = {
    0: "success; serve and dev: stopped by a signal or by POST /drain",
    EX_UNHEALTHY: "probe: not healthy, or a wrong setting; explain: it would be refused",
    EX_USAGE: "the command line cannot be read: no such command, or no value for a flag",
    EX_SOFTWARE: "the process failed because of a bug: the log has a line of it",
    EX_IOERR: "a command that prints: standard output cannot be written",
    EX_CONFIG: "a setting, flag or certificate is wrong, or an address cannot be used",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What a command does, its arguments besides flags, and its flags.

    `accepted` and `read` are patterns of settings: those that it has flags of, and those that it
    reads, which its help shows.
    """

    purpose: str
    usage: str = ""
    accepted: str = ".*"
    read: str = ".*"

    @property
    def fields(self) -> tuple[str, ...]:
        """The settings that the command has flags of."""
        return flags.select(self.accepted)


# The settings of `serve`: all but those of the embedded auth-api.
_SERVED = "(?!dev_).*"
# `openapi`, `hash-client` and `probe` accept every flag, so that one list of flags fits the
# sidecar and its health check. `routes` and `explain` read no settings and have no flags of them.
COMMANDS: Mapping[str, Command] = {
    "serve": Command(purpose="serve the API, calling the auth-api", accepted=_SERVED),
    "dev": Command(purpose="serve the API and an embedded auth-api for it, with demo clients"),
    "check-config": Command(
        purpose="check the settings that serve would use, and serve nothing",
        usage=" [--print]",
        accepted=_SERVED,
    ),
    "openapi": Command(
        purpose="print the OpenAPI document of the API",
        read="public_url|rest_listen|rest_tls_(certificate|key)",  # for the public URL
    ),
    "routes": Command(
        purpose="print each route of the REST API, and what serves it",
        accepted="",
    ),
    "explain": Command(
        purpose="print what would become of a REST request, and call nothing",
        usage=" METHOD TARGET [-H HEADER ...] [--body FILE]",
        accepted="",
    ),
    "hash-client": Command(
        purpose="print the hash that stands for a client in the log",
        usage=" [ID]",
        read="log_client_key",
    ),
    "probe": Command(
        purpose="ask a running sidecar whether it is ready, alive or started",
        usage=" [QUESTION]",
        read="admin_listen",
    ),
}
_FLAGS = " [FLAG=VALUE ...]"
_OTHERS = "The other flags are accepted and checked, but have no effect here.\n\n"


def make_parser(questions: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser of the command line. `questions` are those of `probe`."""
    # Not in the list of argparse, which breaks a line after a long name.
    purposes = "".join(f"  {name:<13} {each.purpose}\n" for name, each in COMMANDS.items())
    # Without abbreviations: a new flag must not change the meaning of an abbreviated old one.
    parser = argparse.ArgumentParser(
        prog="karmo-sidecar",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"commands:\n{purposes}\n{_STATUSES}\n"
        "The settings and their defaults: karmo-sidecar serve --help\n",
    )
    parser.add_argument("--version", action="version", version=version("karmo-sidecar"))
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", help="one of the commands below"
    )
    for name, command in COMMANDS.items():
        shown = [field for field in command.fields if field in flags.select(command.read)]
        own = commands.add_parser(
            name,
            description=command.purpose,
            usage=f"karmo-sidecar {name}{command.usage}{_FLAGS if command.fields else ''}",
            allow_abbrev=False,
            formatter_class=partial(argparse.RawDescriptionHelpFormatter, max_help_position=6),
            epilog=_epilog(shown, is_partial=len(shown) < len(command.fields)),
        )
        flags.add(own, command.fields, shown)
    _add_arguments(commands.choices, questions)
    _add_request(commands.choices["explain"])
    return parser


def _add_arguments(
    parsers: Mapping[str, argparse.ArgumentParser], questions: Sequence[str]
) -> None:
    """Add what some commands take besides the flags of settings."""
    parsers["check-config"].add_argument(
        "--print",
        action="store_true",
        help="print every setting in force and where it comes from; secrets are masked",
    )
    parsers["hash-client"].add_argument(
        "ID", nargs="?", help="the client_id; without it, a line of standard input"
    )
    parsers["probe"].add_argument(
        "probe",
        nargs="?",
        metavar="QUESTION",
        default=questions[0],
        choices=questions,
        help=f"the question, one of {', '.join(questions)} (default: {questions[0]})",
    )


def _add_request(parser: argparse.ArgumentParser) -> None:
    """Add what describes an HTTP request, in the words of curl."""
    parser.add_argument("method", metavar="METHOD", help="the HTTP method, such as POST")
    parser.add_argument(
        "target",
        metavar="TARGET",
        help="path and query, percent-encoded as in a URL: '/v1/oauth/token?x=1'",
    )
    parser.add_argument(
        "-H",
        "--header",
        action="append",
        default=[],
        dest="headers",
        metavar="HEADER",
        help="a header, such as 'Content-Type: application/json'; may be repeated",
    )
    parser.add_argument(
        "--body", metavar="FILE", help="the file with the body, or - for standard input"
    )


def _epilog(shown: Sequence[str], *, is_partial: bool) -> str:
    if not shown:
        return _STATUSES
    forms = "".join(f"  {line}\n" for line in flags.explain_forms(shown))
    others = _OTHERS if is_partial else ""
    return f"{others}values:\n{forms}\n{flags.SOURCES}\n{_STATUSES}"


_STATUSES = "exit status:\n" + "".join(
    f"  {status:<3} {meaning}\n" for status, meaning in STATUSES.items()
)
