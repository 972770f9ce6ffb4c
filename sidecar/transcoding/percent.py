"""Strict percent-decoding (RFC 3986 section 2.1; WHATWG URL, form decoding).

The standard library keeps a malformed escape as it is and replaces bytes that are not UTF-8.
Neither is acceptable where credentials are compared.
"""

import re
from urllib.parse import unquote

_SLASH = re.compile("(%2[Ff])")
_MALFORMED = re.compile("%(?![0-9A-Fa-f]{2})")


def decode(text: str) -> str:
    """Return `text` with every percent escape decoded.

    Raises ValueError for an escape without two hexadecimal digits and for bytes that are not
    UTF-8 (UnicodeDecodeError is a ValueError).
    """
    if "%" not in text:
        return text
    if _MALFORMED.search(text):
        raise ValueError("a percent sign must be followed by two hexadecimal digits")
    return unquote(text, errors="strict")


def decode_segment(text: str) -> str:
    """Return `text` decoded as one segment of a path.

    Raises ValueError as `decode` does, and for NUL, which would end the text in C.
    """
    decoded = decode(text)
    if "\0" in decoded:
        raise ValueError("NUL is not allowed in a path")
    return decoded


def decode_but_slashes(text: str) -> str:
    """Return `text` decoded as `decode_segment` does, but keep ``%2F`` as it is."""
    if "%" not in text:
        return decode_segment(text)
    parts = _SLASH.split(text)  # every second part is an escaped slash
    return "".join(part if at % 2 else decode_segment(part) for at, part in enumerate(parts))


def decode_form(text: str) -> str:
    """Return `text` decoded as one name or value of a form, where ``+`` is a space.

    Raises ValueError as `decode` does.
    """
    return decode(text.replace("+", " "))
