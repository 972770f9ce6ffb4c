"""Writes the table of settings in README.md from the descriptions that `--help` shows too.

`make docs` runs it; with `--check` it changes nothing, and ends with 1 where the page is stale.
"""

import re
import sys
from pathlib import Path

from docs.generated_file import write_or_check
from sidecar.settings.model import Settings, name_of
from sidecar.settings.types import as_text

PAGE = Path(__file__).parent.with_name("README.md")
TABLE = re.compile(r"\| setting \| default \| meaning \|\n\|---\|---\|---\|\n(?:\|.*\n)*")


def table() -> str:
    """Return the table, a row for each setting in their order."""
    rows = [
        f"| `{name_of(name)}` | {_cell(field.default)} | {field.description} |\n"
        for name, field in Settings.model_fields.items()
    ]
    return "".join(("| setting | default | meaning |\n|---|---|---|\n", *rows))


def _cell(default: object) -> str:
    return "none" if default is None else f"`{as_text(default)}`"


def main() -> int:
    """Write the page, or check it; return the exit status."""
    page = PAGE.read_text("utf-8")
    return write_or_check(PAGE, TABLE.sub(lambda _: table(), page))


if __name__ == "__main__":
    sys.exit(main())
