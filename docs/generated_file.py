"""A file, or a part of one, that a script of `make docs` generates."""

import sys
from pathlib import Path


def write_or_check(path: Path, text: str) -> int:
    """Write `text` to `path` and return the exit status 0.

    With the argument `--check` nothing is written. The status is 1 if the file holds another text.
    """
    if "--check" in sys.argv:
        return int(not path.exists() or path.read_text("utf-8") != text)
    path.write_text(text, "utf-8")
    return 0
