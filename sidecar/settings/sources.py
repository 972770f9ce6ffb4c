"""Sources of settings: environment variables, files that they name, and command-line flags."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from sidecar.settings.conflicts import find_conflicts
from sidecar.settings.model import PREFIX, Settings, name_of
from sidecar.settings.service_variables import is_injected

# The suffix of a variable that names a file with the value of a setting.
_FILE_SUFFIX = "_file"
_MAX_FILE_SIZE = 64 * 1024  # characters
_TOKEN_URL = frozenset({"auth_api_token_url", f"auth_api_token_url{_FILE_SUFFIX}"})


class SettingsError(Exception):
    """The settings are wrong. `violations` has one line for each; no line shows a value."""

    def __init__(self, violations: tuple[str, ...]) -> None:
        super().__init__("; ".join(violations))
        self.violations = violations


def load(
    environ: Mapping[str, str], flags: Mapping[str, str], *, needs_upstream: bool = False
) -> Settings:
    """Return the settings from `environ` and `flags` (by field name). A flag wins.

    `needs_upstream`: the URL of the token endpoint is required. Raises SettingsError with
    every violation.
    """
    values = {
        name.removeprefix(PREFIX).lower(): value
        for name, value in environ.items()
        if name.startswith(PREFIX) and not is_injected(name, value)
    }
    is_named = not _TOKEN_URL.isdisjoint({*values, *flags})
    violations = list(_read_files(values, flags))
    values |= flags
    bad: set[str] = set()
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        details = error.errors(include_input=False)
        violations += [_explain(detail) for detail in details]
        bad = {str(detail["loc"][0]) for detail in details}
        settings = Settings.model_validate(
            {name: value for name, value in values.items() if name not in bad}
        )
    # A setting that contradicts a bad value may fit the right one.
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


def _read_files(values: dict[str, str], flags: Mapping[str, str]) -> Iterator[str]:
    """Replace the names of files in `values` by their contents. Yields the violations.

    A file is not read where one of the `flags` has the same setting.
    """
    for name in [name for name in values if name.endswith(_FILE_SUFFIX)]:
        field = name.removesuffix(_FILE_SUFFIX)
        if field not in Settings.model_fields:
            continue  # reported as an unknown setting
        path = Path(values.pop(name))
        if field in flags:
            continue
        if field in values:
            yield f"{name_of(name)}: must not be set beside {name_of(field)}"
            continue
        try:
            with path.open(encoding="utf-8", newline="") as file:
                # Editors and `echo` add a line end, which is not part of the value.
                text = file.read(_MAX_FILE_SIZE + 1)
            values[field] = text.removesuffix("\n").removesuffix("\r")
            if len(text) > _MAX_FILE_SIZE:
                yield f"{name_of(name)}: must name a file of at most {_MAX_FILE_SIZE} characters"
        except OSError as error:
            yield f"{name_of(name)}: must name a file that can be read: {error.strerror}"
        except ValueError:
            yield f"{name_of(name)}: must name a file of text in UTF-8"


def _explain(detail: ErrorDetails) -> str:
    name = name_of(str(detail["loc"][0]))
    if detail["type"] == "literal_error":
        expected = detail["ctx"]["expected"].replace("'", "")
        return f"{name}: must be {expected}"
    message = detail["msg"].removeprefix("Value error, ")
    return f"{name}: {_MESSAGES.get(detail['type'], message)}"


_MESSAGES = {
    "extra_forbidden": "is not a setting; see the table in README.md",
    "bool_parsing": "must be on or off",
}
