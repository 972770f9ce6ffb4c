"""A value that must never be shown."""

from typing import NoReturn, SupportsIndex


class Secret:
    """Holds a string that only `reveal` gives out.

    `repr`, `str` and `format` show a mask, and pickling is refused, so that a
    secret reaches neither a log, nor a traceback, nor a file by accident.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value. Whoever calls this answers for where it goes."""
        return self._value

    def __repr__(self) -> str:
        return "Secret('***')"

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("a Secret cannot be pickled or copied")
