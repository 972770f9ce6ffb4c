"""Where settings come from: the environment, files that it names, and the flags of a command."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from sidecar.settings.model import PREFIX, Settings, find_conflicts, name_of

# Kubernetes puts these into every container beside a Service that is named `sidecar`.
_NOT_A_SETTING = re.compile(f"{PREFIX}(SERVICE_|PORT)")
# A setting may be in a file, which is named by a variable with this at its end.
_IN_A_FILE = "_file"
_MAX_FILE_SIZE = 64 * 1024  # characters
_TOKEN_URL = frozenset({"auth_api_token_url", f"auth_api_token_url{_IN_A_FILE}"})


class SettingsError(Exception):
    """The settings are wrong. `violations` has one line for each, none of which shows a value."""

    def __init__(self, violations: tuple[str, ...]) -> None:
        super().__init__("; ".join(violations))
        self.violations = violations


def load(
    environ: Mapping[str, str], flags: Mapping[str, str], *, needs_upstream: bool = False
) -> Settings:
    """Return the settings that `environ` and, before it, `flags` (by field name) give.

    `needs_upstream` says that the token endpoint must be among them. Raises
    SettingsError with every fault.
    """
    given = {
        name.removeprefix(PREFIX).lower(): value
        for name, value in environ.items()
        if name.startswith(PREFIX) and not _NOT_A_SETTING.match(name)
    }
    is_named = not _TOKEN_URL.isdisjoint({*given, *flags})
    violations = list(_take_from_files(given, flags))
    given |= flags
    bad: set[str] = set()
    try:
        settings = Settings.model_validate(given)
    except ValidationError as error:
        found = error.errors(include_input=False)
        violations += [_explain(violation) for violation in found]
        bad = {str(violation["loc"][0]) for violation in found}
        settings = Settings.model_validate(
            {name: value for name, value in given.items() if name not in bad}
        )
    # What does not fit beside a bad value may fit beside the right one.
    violations += [
        f"{name_of(name)}: {violation}"
        for name, violation in find_conflicts(settings)
        if name not in bad and not any(name_of(other) in violation for other in bad)
    ]
    if needs_upstream and not is_named:
        violations.append(
            f"{name_of('auth_api_token_url')}: must be set to the auth-api's token endpoint"
        )
    if violations:
        raise SettingsError(tuple(violations))
    return settings


def _take_from_files(given: dict[str, str], flags: Mapping[str, str]) -> Iterator[str]:
    """Put what is in files in the place of their names, but for `flags`. Yields the faults."""
    for name in [name for name in given if name.endswith(_IN_A_FILE)]:
        field = name.removesuffix(_IN_A_FILE)
        if field not in Settings.model_fields:
            continue  # it is told as what is not a setting
        path = Path(given.pop(name))
        if field in flags:
            continue
        if field in given:
            yield f"{name_of(name)}: must not be set beside {name_of(field)}"
            continue
        try:
            with path.open(encoding="utf-8", newline="") as file:
                # Editors and `echo` end a file with a line end, which is no part of the value.
                text = file.read(_MAX_FILE_SIZE + 1)
            given[field] = text.removesuffix("\n").removesuffix("\r")
            if len(text) > _MAX_FILE_SIZE:
                yield f"{name_of(name)}: must name a file of at most {_MAX_FILE_SIZE} characters"
        except OSError as error:
            yield f"{name_of(name)}: must name a file that can be read: {error.strerror}"
        except ValueError:
            yield f"{name_of(name)}: must name a file of text in UTF-8"


def _explain(violation: ErrorDetails) -> str:
    name = name_of(str(violation["loc"][0]))
    message = violation["msg"].removeprefix("Value error, ")
    return f"{name}: {_MESSAGES.get(violation['type'], message)}"


_MESSAGES = {
    "extra_forbidden": "is not a setting; see the table in README.md",
    "bool_parsing": "must be on or off",
}
