"""Numbers in JSON: exact readers of integers and floats, and writers of floats.

A text is read as the JSON string of the same characters is.
"""

import math
import re
import struct
from collections.abc import Callable
from decimal import Decimal

from sidecar.transcoding.errors import InvalidValueError
from sidecar.transcoding.strict_json import JsonTree, JsonValue

# RFC 8259 section 6, but leading zeros are allowed, as in every integer parser.
_INTEGER = re.compile(r"-?[0-9]{1,20}")
_NUMBER = re.compile(r"-?[0-9]{1,1000}(\.[0-9]{1,1000})?([eE][+-]?[0-9]{1,4})?")
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_FLOAT = struct.Struct("<f")
_FLOAT_MAX = 3.4028234663852886e38


def is_number(text: str) -> bool:
    """Whether `text` is a finite number."""
    return _NUMBER.fullmatch(text) is not None


def integer(lowest: int, highest: int) -> Callable[[JsonValue], int]:
    """Return a reader of integers from `lowest` to `highest`. It raises InvalidValueError."""
    predicate = f"must be an integer from {lowest} to {highest}"

    def read(value: JsonValue) -> int:
        if type(value) is int:  # excludes bool
            number: int | None = value
        elif isinstance(value, str):
            number = _to_integer(value)
        else:
            number = int(value) if isinstance(value, float) and value.is_integer() else None
        if number is None or not lowest <= number <= highest:
            raise InvalidValueError(predicate)
        return number

    return read


def _to_integer(text: str) -> int | None:
    """Return the integer in `text`, or None; not parsed as a float, which could be inexact."""
    if _INTEGER.fullmatch(text):
        return int(text)
    number = Decimal(text) if _NUMBER.fullmatch(text) else None
    return int(number) if number is not None and number == number.to_integral_value() else None


def read_double(value: JsonValue) -> float:
    """Return `value` as a double. Raises InvalidValueError."""
    if type(value) is float and math.isfinite(value):
        return value
    return _read(value, to_double)


def read_float(value: JsonValue) -> float:
    """Return `value` as a double that fits a float after rounding. Raises InvalidValueError."""
    return _read(value, _to_float)


def _read(value: JsonValue, check: Callable[[float], float]) -> float:
    if isinstance(value, float) or type(value) is int:
        return check(value)
    if not isinstance(value, str) or not (value in _NOT_FINITE or is_number(value)):
        raise InvalidValueError("must be a number")
    return _NOT_FINITE[value] if value in _NOT_FINITE else check(float(value))


def to_double(number: float) -> float:
    """Return `number` as a double. Raises InvalidValueError if it is out of range."""
    try:
        double = float(number)
    except OverflowError:
        double = math.inf
    if math.isinf(double):
        raise InvalidValueError("must be a number that a double can hold")
    return double


def _to_float(number: float) -> float:
    double = to_double(number)
    if abs(double) > _FLOAT_MAX:
        try:
            _FLOAT.pack(double)  # accepts numbers that round down to the largest float
        except OverflowError:
            raise InvalidValueError("must be a number that a float can hold") from None
    return double


def write_double(number: float) -> JsonTree:
    """Return a double as JSON; NaN and infinities are strings, because JSON has no such numbers."""
    if math.isfinite(number):
        return number
    if math.isnan(number):
        return "NaN"
    return "Infinity" if number > 0 else "-Infinity"


def write_float(number: float) -> JsonTree:
    """Return the number of the fewest digits, at least 6, that reads back as the same float."""
    if not math.isfinite(number):
        return write_double(number)
    packed = _FLOAT.pack(number)
    for digits in range(6, 9):
        shorter = float(f"{number:.{digits}g}")
        if _FLOAT.pack(shorter) == packed:
            return shorter
    return float(f"{number:.9g}")
