"""Strict JSON parser (RFC 8259) that keeps repeated names and exact integers.

Python's `json` accepts NaN and Infinity, guesses UTF-16, keeps only the last of equal names,
and ends in RecursionError on deep nesting.
"""

import json
import math
from decimal import Decimal
from itertools import accumulate
from typing import NoReturn, TypeAlias, TypeGuard

# More digits than any type has, and fewer than the limit of `int`.
_MAX_DIGITS = 1000
_MAX_NESTING = 98
# From 2**53 on not every integer is a float. No type has integers of more than 25 digits.
_INEXACT, _MAX_INTEGER_DIGITS = 2.0**53, 25
_STEPS = {ord("{"): 1, ord("["): 1, ord("}"): -1, ord("]"): -1}
_NO_SKELETON = bytes(set(range(256)) - {ord('"'), *_STEPS})


class JsonObject(list[tuple[str, "JsonValue"]]):
    """A JSON object as the list of its members, so that a repeated name is still seen."""

    def unique(self) -> dict[str, "JsonValue"]:
        """Return the members by name. Raises ValueError if a name is repeated."""
        members = dict(self)
        if len(members) != len(self):
            raise ValueError("a name is repeated in an object")
        return members


# A number whose exponent is too large for a float is infinite.
JsonValue: TypeAlias = str | int | float | bool | JsonObject | list["JsonValue"] | None

# A value for `json` to write. Names in an object are unique.
JsonTree: TypeAlias = str | int | float | bool | dict[str, "JsonTree"] | list["JsonTree"] | None


def is_array(value: JsonValue) -> TypeGuard[list[JsonValue]]:
    """Whether `value` is an array."""
    return isinstance(value, list) and not isinstance(value, JsonObject)


def parse(data: bytes) -> JsonValue:
    """Return the JSON value in `data`.

    Raises ValueError if `data` is not JSON in UTF-8, nests too deeply, or has a number of too
    many digits. The text of the error quotes nothing of `data`.
    """
    try:
        text = data.decode()
        if text.startswith("\ufeff"):
            raise ValueError("it starts with a byte order mark")
        _check_nesting(data)
        value: JsonValue = _DECODER.decode(text)
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg.rstrip(' :')} (character {error.pos + 1})") from None
    return value


def _check_nesting(data: bytes) -> None:
    """Raise ValueError for deeper nesting than the parsers of protobuf accept.

    They accept 100 nested messages. Two of these may have no bracket here: the message whose
    field is the body, and a wrapper. The depth at which `json` gives up differs between
    versions of Python.
    """
    if data.count(b"{") + data.count(b"[") <= _MAX_NESTING:
        return
    if b"\\" in data:
        data = data.replace(rb"\\", b"").replace(rb"\"", b"")
    # Without escapes, quotes open and close strings in turn, so every second part is outside of
    # strings. Two adjacent quotes have nothing between them and are dropped.
    skeleton = data.translate(None, delete=_NO_SKELETON).replace(b'""', b"")
    brackets = b"".join(skeleton.split(b'"')[::2])
    if max(accumulate(map(_STEPS.__getitem__, brackets)), default=0) > _MAX_NESTING:
        raise ValueError("it nests too deeply")


def _refuse_constant(_name: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")


def _parse_int(text: str) -> int | float:
    if len(text) > _MAX_DIGITS:
        raise ValueError("a number is too long")
    # No integer is -0, which is how Go writes that double.
    return -0.0 if text == "-0" else int(text)


def _parse_float(text: str) -> float | int:
    value = float(text)
    if -_INEXACT < value < _INEXACT or math.isinf(value):
        return value
    # The float may be another integer than the one that was sent.
    number = Decimal(text)
    is_integer = number.adjusted() < _MAX_INTEGER_DIGITS and number == number.to_integral_value()
    return int(number) if is_integer else value


_DECODER = json.JSONDecoder(
    object_pairs_hook=JsonObject,
    parse_constant=_refuse_constant,
    parse_float=_parse_float,
    parse_int=_parse_int,
)
