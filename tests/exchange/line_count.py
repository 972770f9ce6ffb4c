"""Counts the lines of Python that a function runs: a measure of work that no machine changes."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


def lines_of(run: Callable[[], object]) -> int:
    """Return the number of lines that run in `run` and in the functions that it calls."""
    lines = 0

    def trace(_frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal lines
        lines += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run()
    finally:
        sys.settrace(before)
    return lines
