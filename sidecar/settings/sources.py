"""Sources of settings: environment variables, files that they name, and command-line flags."""

from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from sidecar.settings.conflicts import find_conflicts
from sidecar.settings.model import PREFIX, Settings, name_of
from sidecar.settings.service_variables import is_injected
from sidecar.stray_characters import describe

# The suffix of a variable that names a file with the value of a setting.
_FILE_SUFFIX = "_file"
# Likeness of two names, from 0 to 1. Names of settings have parts in common, which means little.
_NEAR = 0.8
_MAX_FILE_SIZE = 64 * 1024  # characters
_TOKEN_URL = frozenset({"auth_api_token_url", f"auth_api_token_url{_FILE_SUFFIX}"})


class SettingsError(Exception):
    """The settings are wrong. `violations` has one line for each; no line quotes what was set.

    A violation between two settings names the time or number of the one that fits.
    """

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
    values = named(environ)
    is_named = not _TOKEN_URL.isdisjoint({*values, *flags})
    violations = list(_read_files(values, flags))
    values |= flags
    bad: set[str] = set()
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        details = error.errors(include_input=False)
        violations += [_explain(detail, values) for detail in details]
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
            f"{name_of('auth_api_token_url')}: must be set to the auth-api's token endpoint, such "
            "as https://auth.example.com/oauth/token"
        )
    if violations:
        raise SettingsError(tuple(violations))
    return settings


def named(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the values in `environ` by field name, a file's with the suffix `_file`.

    A variable that has the prefix and is no setting keeps its name. What Kubernetes sets is left
    out.
    """
    return {
        _FIELDS.get(name, name): value
        for name, value in environ.items()
        if name.startswith(PREFIX) and not is_injected(name, value)
    }


def find_near(name: str, fields: Collection[str]) -> str | None:
    """Return the one of `fields` that was probably meant by `name`, or None."""
    written = name.lower().replace("-", "_")
    # A part of a name stands for it, unless it is a part of several: any of them could be meant.
    containing = [field for field in fields if written in field]
    if containing:
        return containing[0] if len(containing) == 1 else None
    return next(iter(get_close_matches(written, fields, n=1, cutoff=_NEAR)), None)


def _read_files(values: dict[str, str], flags: Mapping[str, str]) -> Iterator[str]:
    """Replace the names of files in `values` by their contents. Yields the violations.

    A file is not read where one of the `flags` has the same setting.
    """
    for name in [name for name in values if name.endswith(_FILE_SUFFIX)]:
        field = name.removesuffix(_FILE_SUFFIX)
        path = values.pop(name)
        if field in flags:
            continue
        if field in values:
            yield f"{name_of(name)}: must not be set beside {name_of(field)}; remove one of them"
            continue
        try:
            with Path(path).open(encoding="utf-8", newline="") as file:
                # Editors and `echo` add a line end, which is not part of the value.
                text = file.read(_MAX_FILE_SIZE + 1)
            values[field] = text.removesuffix("\n").removesuffix("\r")
            if len(text) > _MAX_FILE_SIZE:
                yield f"{name_of(name)}: must name a file of at most {_MAX_FILE_SIZE} characters"
        except OSError as error:
            fault = f"must be the path of a file that can be read: {error.strerror}"
            yield f"{name_of(name)}: {fault}{_find_stray(path)}"
        except ValueError:
            yield f"{name_of(name)}: must be the path of a file of text in UTF-8"


def _explain(detail: ErrorDetails, values: Mapping[str, str]) -> str:
    """Return the violation in `detail`, of one of `values`."""
    name = str(detail["loc"][0])
    if detail["type"] == "extra_forbidden":
        return _explain_unknown(name)
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "literal_error":
        expected = detail["ctx"]["expected"].replace("'", "")
        message = f"must be {expected}, in lower case"
    elif detail["type"] == "bool_parsing":
        message = "must be on or off"
    return f"{name_of(name)}: {message}{_find_stray(values[name])}"


def _explain_unknown(name: str) -> str:
    """Return the violation of `name`, a variable that is no setting."""
    near = find_near(name.removeprefix(PREFIX), Settings.model_fields)
    advice = f"did you mean {name_of(near)}?" if near else "see karmo-sidecar serve --help"
    return f"{name}: is not a setting; {advice}"


def _find_stray(value: str) -> str:
    """Return what is stray around `value`, as the end of a sentence, or an empty string."""
    stray = describe(value)
    return f"; the value {stray}" if stray else ""


# Each setting and the file for it, by the name of the variable. Names in another case are no
# settings: two that differ in case could contradict each other.
_FIELDS: Mapping[str, str] = {
    name_of(field): field
    for setting in Settings.model_fields
    for field in (setting, f"{setting}{_FILE_SUFFIX}")
}
