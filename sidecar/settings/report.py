"""The settings in force, as lines of text: their values, and where each comes from."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from sidecar.settings.model import Settings, name_of
from sidecar.settings.sources import named
from sidecar.settings.types import as_text, mask_query


def describe(
    settings: Settings,
    environ: Mapping[str, str],
    flags: Mapping[str, str],
    meanings: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[str]:
    """Yield a line `NAME=value  # source` for each of `settings`, in their order.

    `settings` were loaded from `environ` and `flags`. Secrets and queries of URLs are masked. A
    setting without a value has nothing behind the equals sign. `meanings` has, by field, what a
    value stands for on this machine, which follows the source.
    """
    variables = named(environ)
    for field in Settings.model_fields:
        value = _show(getattr(settings, field))
        meaning = f", means {meanings[field]}" if field in meanings else ""
        yield f"{name_of(field)}={value}  # {_source(field, variables, flags)}{meaning}"


def _source(field: str, variables: Mapping[str, str], flags: Mapping[str, str]) -> str:
    if field in flags:
        return "flag"
    if field in variables:
        return "environment"
    path = variables.get(f"{field}_file")
    return "default" if path is None else f"file {_one_line(path)}"


def _show(value: object) -> str:
    if value is None:
        return ""
    return _one_line(mask_query(value) if isinstance(value, str) else as_text(value))


def _one_line(text: str) -> str:
    """Return `text`, quoted if a control character in it could end or hide the line."""
    return text if text.isprintable() else repr(text)
