"""Percent-encoding: what is decoded, and what is refused instead of guessed."""

from collections.abc import Callable, Mapping
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.transcoding.percent import decode, decode_but_slashes, decode_form, decode_segment
from tests.properties import any_text, many

DECODED: Mapping[str, str] = {
    "": "",
    "plain": "plain",
    "%41": "A",
    "%2d%2D": "--",
    "a%20b": "a b",
    "a+b": "a+b",
    "%2B": "+",
    "%25": "%",
    "%2541": "%41",
    "%2F": "/",
    "%00": "\0",
    "%C3%A9": "é",
    "%F0%9F%98%80": "😀",
    "é": "é",
    "é%C3%A9e": "éée",
}
MALFORMED = (
    "%",
    "a%",
    "%4",
    "%4x",
    "%x4",
    "%%41",
    "%zz",
    "% 41",
    "%+4",
    "%-1",
    "%0x",
    "%u0041",
    "%\uff14\uff11",
    "%41%",
)
NOT_UTF8 = (
    "%FF",
    "%C3",
    "%C3A9",
    "%A9",
    "%C0%AF",
    "%ED%A0%80",
    "%F4%90%80%80",
    "a%E2%82b",
)

DECODERS = (decode, decode_segment, decode_but_slashes, decode_form)


@pytest.mark.parametrize(("text", "decoded"), DECODED.items(), ids=ascii)
def test_decode(text: str, decoded: str) -> None:
    """Each escape is decoded once; everything else, plus included, stays as it is."""
    assert decode(text) == decoded


@pytest.mark.parametrize(("text", "decoded"), DECODED.items(), ids=ascii)
def test_decode_form(text: str, decoded: str) -> None:
    """In a form a plus is a space, and an escaped one is a plus."""
    assert decode_form(text) == (decoded if "+" not in text else "a b")


@pytest.mark.parametrize(
    ("text", "decoded"), [(text, told) for text, told in DECODED.items() if "\0" not in told]
)
def test_decode_segment(text: str, decoded: str) -> None:
    """A segment is decoded as any text is: a plus is a plus."""
    assert decode_segment(text) == decoded


@pytest.mark.parametrize(
    ("text", "decoded"),
    [
        ("a%2Fb", "a%2Fb"),
        ("%2f%2F", "%2f%2F"),
        ("%41%2F%42", "A%2FB"),
        ("%252F", "%2F"),
        ("%25%32%46", "%2F"),
        ("a/%20/b", "a/ /b"),
        ("a+b", "a+b"),
    ],
)
def test_decode_but_slashes(text: str, decoded: str) -> None:
    """An escaped slash stays as it is written, and nothing else does."""
    assert decode_but_slashes(text) == decoded


@pytest.mark.parametrize("decoder", [decode_segment, decode_but_slashes])
@pytest.mark.parametrize("text", ["%00", "a%00b", "\0", "%2F%00"])
def test_nul(decoder: Callable[[str], str], text: str) -> None:
    """NUL has no place in a path, however it is written."""
    with pytest.raises(ValueError, match=r"^NUL is not allowed in a path$"):
        decoder(text)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("text", MALFORMED, ids=ascii)
def test_malformed(decoder: Callable[[str], str], text: str) -> None:
    """An escape without two hexadecimal digits is refused."""
    with pytest.raises(ValueError, match="must be followed by two hexadecimal digits"):
        decoder(text)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("text", NOT_UTF8)
def test_not_utf8(decoder: Callable[[str], str], text: str) -> None:
    """Escapes that give no UTF-8 are refused, and nothing takes the place of their bytes."""
    with pytest.raises(UnicodeDecodeError):
        decoder(text)


@many
@given(st.text())
def test_quoted_text_round_trips(text: str) -> None:
    """Whatever the standard library encodes is decoded to the same text."""
    assert decode(quote(text)) == text
    assert decode(quote(text, safe="")) == text
    assert decode_form(quote_plus(text)) == text


@many
@given(st.binary())
def test_quoted_bytes(data: bytes) -> None:
    """Quoted bytes are decoded if they are UTF-8 and refused otherwise."""
    try:
        expected = data.decode()
    except UnicodeDecodeError:
        with pytest.raises(UnicodeDecodeError):
            decode(quote(data))
    else:
        assert decode(quote(data)) == expected


@many
@given(any_text | any_text.map("%".join))
def test_nothing_but_value_errors(text: str) -> None:
    """Any text at all is decoded or refused, and one without a percent sign stays as it is."""
    try:
        decoded = decode(text)
    except ValueError:
        assert "%" in text
    else:
        assert "%" in text or decoded == text
