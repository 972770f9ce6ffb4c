"""Command-line flags of the settings: their groups, the forms of their values, and their help."""

import argparse
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from sidecar.secret import Secret
from sidecar.settings.model import Settings, name_of
from sidecar.settings.sources import find_near
from sidecar.settings.types import Address, as_text

# The titles of `--help` and the settings under each; the first pattern that fits counts.
_GROUPS: Mapping[str, re.Pattern[str]] = {
    title: re.compile(pattern)
    for title, pattern in (
        ("listeners", r"(rest|grpc|admin)_(?!tls_).*|public_url|trusted_proxies"),
        ("TLS of the listeners", r"(rest|grpc)_tls_.*"),
        ("auth-api", r"auth_api_.*"),
        ("shutdown", r"lame_duck|drain_timeout|termination_grace"),
        ("limits", r"max_.*|.*_timeout|.*limits.*"),
        ("log", r"log_.*"),
        ("embedded auth-api", r"dev_.*"),
    )
}
_URL = "URL"
_ADDRESS = "IP address or name, and port: [::1]:8080; REST and gRPC: unix:/PATH"
# The form of a value by its type: the word for it, and what may be written.
_FORMS: Mapping[Any, tuple[str, str]] = {
    Address: ("HOST:PORT", _ADDRESS),
    float: ("DURATION", "a number with the unit ms, s, m or h: 500ms, 1.5s, 5m; at most 1h"),
    int: ("NUMBER", "a whole number, in digits"),
    str: (_URL, "an absolute URL, such as https://api.example.com"),
    Path: ("FILE", "the path of a file"),
    Secret: ("KEY", "32 to 256 visible ASCII characters"),
    bool: ("on|off", "true, yes and 1 are on; false, no and 0 are off"),
}
SOURCES = """\
Every flag is an environment variable too, which is named beside it. The flag
wins over the variable, and the variable over the default. A variable with
_FILE at the end of its name gives the path of a file with the value instead,
for example SIDECAR_PUBLIC_URL_FILE; one line end after the value is removed.
Both variables of a setting at once are refused.
"""


def flag_of(field: str) -> str:
    """Return the flag of a field."""
    return f"--{field.replace('_', '-')}"


def select(pattern: str) -> tuple[str, ...]:
    """Return the fields whose whole name matches the regular expression `pattern`."""
    return tuple(field for field in Settings.model_fields if re.fullmatch(pattern, field))


def add(parser: argparse.ArgumentParser, fields: Collection[str], shown: Collection[str]) -> None:
    """Add the flags of `fields` to `parser`, in groups. The help has those that are `shown`.

    Raises LookupError for a field without a group.
    """
    groups: dict[str, list[str]] = {title: [] for title in _GROUPS}
    for field in fields:
        groups[_group_of(field)].append(field)
    for title, members in groups.items():
        group = parser.add_argument_group(title)
        for field in members:
            help_text = _help(field) if field in shown else argparse.SUPPRESS
            form = _form_of(field)
            group.add_argument(flag_of(field), metavar=form, help=help_text)


def explain_forms(fields: Collection[str]) -> Iterator[str]:
    """Yield lines that say what may be written as the values of `fields`."""
    used = {_form_of(field) for field in fields}
    for form, meaning in _FORMS.values():
        if form in used:
            yield f"{form:<10} {meaning}"


def explain_unknown(argument: str, command: str, fields: Collection[str]) -> str:
    """Return the violation of an unknown flag of `command`, which has the flags of `fields`.

    The text has no value, which may be a secret.
    """
    flag = argument.partition("=")[0]
    if flag in map(flag_of, Settings.model_fields):
        return f"{flag}: is a flag of dev, not of {command}; remove it"
    near = find_near(flag.strip("-"), fields)
    advice = f"did you mean {flag_of(near)}?" if near else f"see karmo-sidecar {command} --help"
    return f"{flag}: is not a flag; {advice}"


def _group_of(field: str) -> str:
    for title, pattern in _GROUPS.items():
        if pattern.fullmatch(field):
            return title
    raise LookupError(f"{field} has no group in --help")


def _help(field: str) -> str:
    setting = Settings.model_fields[field]
    description = (setting.description or "").replace("`", "").replace("%", "%%")
    return f"{description} ({name_of(field)}; default: {as_text(setting.default)})"


def _form_of(field: str) -> str:
    """Return the word for the values of `field`. Raises LookupError."""
    # A URL may have a type of its own, such as that of a secret.
    return (
        _URL if field.endswith("_url") else _form_of_type(Settings.model_fields[field].annotation)
    )


def _form_of_type(annotation: Any) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return "|".join(parts)
    if origin is Secret or not parts:
        return _FORMS[origin or annotation][0]
    return _form_of_type(parts[0])  # of Annotated, or of `... | None`
