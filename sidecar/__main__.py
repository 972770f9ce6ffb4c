"""`karmo-sidecar` and `python -m sidecar`: handle signals, then import and run the commands.

The imports take a quarter of a second, in which Ctrl-C would leave a traceback.
"""

import sys
from typing import NoReturn

from sidecar.process import startup_signals


def main() -> int:
    """Run the command of `sys.argv`, and return the exit status of the process."""
    startup_signals.prepare(_leave)
    from sidecar import cli  # noqa: PLC0415 after the handlers

    return cli.main()


def _leave(number: int, _frame: object) -> NoReturn:
    """Exit at once, with the status that a shell reports for the signal `number`."""
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
