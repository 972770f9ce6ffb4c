"""A value that must never be shown."""

from typing import Generic, NoReturn, SupportsIndex, TypeVar

Value = TypeVar("Value", bound=str | bytes)


class Secret(Generic[Value]):
    """Holds a text, or bytes, that only `reveal` gives out.

    `repr`, `str` and `format` show a mask, and pickling is refused, so that a
    secret reaches neither a log, nor a traceback, nor a file by accident.
    """

    __slots__ = ("_value",)

    def __init__(self, value: Value) -> None:
        self._value = value

    def reveal(self) -> Value:
        """Return the value. Whoever calls this answers for where it goes."""
        return self._value

    def __repr__(self) -> str:
        return "Secret('***')"

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("a Secret cannot be pickled or copied")
