"""JSON: what is read, and what is refused that others let pass."""

import json
import math
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.transcoding.strict_json import JsonObject, JsonValue, parse
from tests.properties import any_text, many

VALUES: Mapping[bytes, JsonValue] = {
    b"null": None,
    b"true": True,
    b"false": False,
    b"0": 0,
    b"-0": -0.0,
    b"-12": -12,
    b"1.5": 1.5,
    b"1e3": 1000.0,
    b"1E-2": 0.01,
    b"1e-400": 0.0,
    b"9" * 1000: 10**1000 - 1,
    # What no float can hold is a number all the same, and for its field to refuse.
    b"1e400": math.inf,
    b"[-1.0e309]": [-math.inf],
    b"1e99999999999999999999": math.inf,
    b'""': "",
    b'"a"': "a",
    b' \t\r\n"a"\n': "a",
    b'"\\u00e9\\n\\/\\\\\\""': 'é\n/\\"',
    '"é\u2028"'.encode(): "é\u2028",
    b'"\\ud83d\\ude00"': "\U0001f600",
    b'"\\ud800"': "\ud800",
    b'"\\u0000"': "\0",
    b"[]": [],
    b'[1, "a", [null]]': [1, "a", [None]],
    b"{}": JsonObject(),
    b'{"a": 1, "b": {"c": []}}': JsonObject([("a", 1), ("b", JsonObject([("c", [])]))]),
    b'{"a": 1, "a": 2}': JsonObject([("a", 1), ("a", 2)]),
    b'{"a": {"b": 1, "b": 1}}': JsonObject([("a", JsonObject([("b", 1), ("b", 1)]))]),
    b'{"": 0}': JsonObject([("", 0)]),
}
# Refused for a reason of ours, which the client reads as it is here.
REFUSED: Mapping[str, tuple[bytes, str]] = {
    "NaN": (b"NaN", "NaN and Infinity are not JSON"),
    "Infinity": (b'{"a": Infinity}', "NaN and Infinity are not JSON"),
    "-Infinity": (b"[-Infinity]", "NaN and Infinity are not JSON"),
    "too long": (b"1" * 1001, "a number is too long"),
    "much too long": (b"[-" + b"1" * 100_000 + b"]", "a number is too long"),
    "byte order mark": (b'\xef\xbb\xbf{"canary": 1}', "it starts with a byte order mark"),
    "arrays too deep": (b"[" * 100_000, "it nests too deeply"),
    "objects too deep": (b'{"a":' * 100_000, "it nests too deeply"),
    "arrays too deep, closed": (b"[" * 100_000 + b"]" * 100_000, "it nests too deeply"),
    "Latin-1": (b'"canary\xe9"', "it is not UTF-8"),
    "a byte of no UTF-8": (b'"canary\xff"', "it is not UTF-8"),
    "half a character": (b'"canary\xc3', "it is not UTF-8"),
    "overlong": (b'"canary\xc0\xaf"', "it is not UTF-8"),
    "raw surrogate": (b'"canary\xed\xa0\x80"', "it is not UTF-8"),
    "UTF-16 with its mark": ('"canary"'.encode("utf-16"), "it is not UTF-8"),
}
# Refused for a reason of the standard library's, in words of its version.
MALFORMED: Mapping[str, bytes] = {
    "nothing": b"",
    "spaces": b" \n",
    "UTF-16 without a mark": '"canary"'.encode("utf-16-le"),
    "two values": b'"canary" "canary"',
    "a form": b"canary=1",
    "single quotes": b"{'canary': 1}",
    "a name without quotes": b"{canary: 1}",
    "a name that is no string": b"{1: 2}",
    "no colon": b'{"canary" 1}',
    "no value": b'{"canary": }',
    "comma at the end of an object": b'{"canary": 1,}',
    "comma at the end of an array": b'["canary",]',
    "no comma": b'["canary" "canary"]',
    "open object": b'{"canary": 1',
    "open array": b'["canary"',
    "open string": b'"canary',
    "escape at the end": b'"canary\\',
    "unknown escape": b'"canary\\x41"',
    "half an escape": b'"canary\\u00"',
    "escape of no digits": b'"canary\\u00zz"',
    "line end in a string": b'"canary\n"',
    "NUL in a string": b'"canary\0"',
    "NUL at the end": b'"canary"\0',
    "leading zero": b"01",
    "leading plus": b"+1",
    "a minus alone": b"-",
    "no digits after the point": b"1.",
    "no digits before the point": b".5",
    "no exponent": b"1e",
    "hexadecimal": b"0x10",
    "digits outside of ASCII": "\u0661".encode(),
    "another case": b"True",
    "a word": b"canary",
    "a comment": b"/* canary */ 1",
    "a space that is none": "\u00a01".encode(),
}


def same(one: JsonValue, other: JsonValue) -> bool:
    """Whether both are equal and of the same types, as 1 and true and 1.0 are not."""
    return repr(one) == repr(other) and one == other and type(one) is type(other)


@pytest.mark.parametrize(("data", "value"), VALUES.items(), ids=lambda part: ascii(part)[:20])
def test_value(data: bytes, value: JsonValue) -> None:
    """JSON is read with every member of an object, repeated ones included."""
    assert same(parse(data), value)


@pytest.mark.parametrize(("data", "violation"), REFUSED.values(), ids=REFUSED)
def test_refused(data: bytes, violation: str) -> None:
    """What Python's parser would let pass or choke on is refused in words of ours."""
    with pytest.raises(ValueError, match=r".") as raised:
        parse(data)
    assert str(raised.value) == violation


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_malformed(data: bytes) -> None:
    """What is not JSON is refused with the place of the fault, and nothing of it is quoted."""
    with pytest.raises(ValueError, match=r"^[A-Z][^\n]* \(character [0-9]+\)$") as raised:
        parse(data)
    assert "canary" not in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__


def test_unique() -> None:
    """An object's members are given by name, as long as no name is repeated."""
    assert JsonObject([("a", 1), ("b", None)]).unique() == {"a": 1, "b": None}
    assert JsonObject().unique() == {}
    with pytest.raises(ValueError, match="a name is repeated in an object"):
        JsonObject([("a", 1), ("b", 2), ("a", 1)]).unique()


def plain(value: JsonValue) -> object:
    """Return `value` as Python's parser has it."""
    if isinstance(value, JsonObject):
        return {name: plain(member) for name, member in value.unique().items()}
    if isinstance(value, list):
        items: list[JsonValue] = [*value]
        return [plain(item) for item in items]
    return value


documents = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    # Larger ones that are integers are read as such.
    | st.floats(-(2.0**53), 2.0**53, exclude_min=True, exclude_max=True)
    | any_text,
    lambda inner: st.lists(inner) | st.dictionaries(any_text, inner),
    max_leaves=20,
)


@many
@given(documents, st.booleans(), st.none() | st.integers(0, 3))
def test_agrees_with_the_standard_library(
    document: object, ascii_only: bool, indent: int | None
) -> None:
    """Of a document with unique names Python's parser makes the same."""
    text = json.dumps(document, ensure_ascii=ascii_only, indent=indent)
    data = text.encode(errors="replace")
    assert repr(plain(parse(data))) == repr(json.loads(data))


EXACT = {
    b"9007199254740991.0": 9007199254740991.0,
    b"9007199254740993.0": 9007199254740993,
    b"-9.007199254740993e15": -9007199254740993,
    b"1.8446744073709551615e19": 2**64 - 1,
    b"9007199254740993.5": 9007199254740994.0,
    b"1e24": 10**24,
    b"1e25": 1e25,
}


@pytest.mark.parametrize(("data", "expected"), EXACT.items())
def test_a_large_integer_is_exact(data: bytes, expected: float) -> None:
    """An integer is the one that was sent, also where it is written as floats are."""
    assert repr(parse(data)) == repr(expected)


fragments = st.lists(
    st.sampled_from([*'{}[]:,"\\ -+.eE019tfn\n\0é', "true", "null", "NaN", '"a":', "\\u", "1e9"])
).map("".join)


@many
@given(st.binary() | fragments.map(str.encode))
def test_nothing_but_value_errors(data: bytes) -> None:
    """Any bytes at all are JSON, as Python's parser sees it too, or refused."""
    try:
        parse(data)
    except ValueError:
        return
    json.loads(data)


@pytest.mark.parametrize(("opened", "closed"), [("[", "]"), ('{"a":', "}")])
def test_nesting_has_one_limit_in_every_version_of_python(opened: str, closed: str) -> None:
    """A hundred levels are read, one more is refused, whatever the parser itself could bear."""
    deepest = opened * 98 + "1" + closed * 98
    assert parse(deepest.encode())
    with pytest.raises(ValueError, match=r"^it nests too deeply$"):
        parse((opened + deepest + closed).encode())


def test_brackets_that_do_not_nest() -> None:
    """Brackets in strings, and those beside each other, are no nesting."""
    assert parse(b'["' + b"[{" * 200 + b'\\"[[' + b'"]') == ["[{" * 200 + '"[[']
    assert parse(b"[" + b"[]," * 200 + b"[]]") == [[]] * 201
    assert parse(b"[" + b'"[","{",' * 200 + b"[]]") == ["[", "{"] * 200 + [[]]


@pytest.mark.parametrize("text", [b'""', b'"a"', b'"]"', b'"]","]"', b'"\\""', b'"\\\\","]"'])
def test_nesting_is_not_hidden_by_strings(text: bytes) -> None:
    """Whatever strings stand between brackets, what nests too deeply is seen to."""
    inside = b"[" + text + b","
    assert parse(inside * 97 + b"[]" + b"]" * 97)
    with pytest.raises(ValueError, match=r"^it nests too deeply$"):
        parse(inside * 98 + b"[]" + b"]" * 98)


def test_quotes_without_end_are_read_once() -> None:
    """A string without end is read once, and not once for each quote in it, which would hang."""
    with pytest.raises(ValueError, match=r"^Unterminated string starting at"):
        parse(b"[" + b"[]," * 200 + b'"' + b'\\"' * 100_000)
