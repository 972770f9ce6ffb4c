"""Percent-encoding, decoded strictly (RFC 3986 section 2.1; WHATWG URL, form decoding).

The standard library leaves a malformed escape as it stands and replaces bytes
that are not UTF-8; where credentials are compared, neither may pass.
"""

import re
from urllib.parse import unquote

_MALFORMED = re.compile("%(?![0-9A-Fa-f]{2})")


def decode(text: str) -> str:
    """Return `text` with every escape replaced by the character that it stands for.

    Raises ValueError for an escape without two hexadecimal digits and for
    bytes that are not UTF-8 (UnicodeDecodeError is a ValueError).
    """
    if "%" not in text:
        return text
    if _MALFORMED.search(text):
        raise ValueError("a percent sign must be followed by two hexadecimal digits")
    return unquote(text, errors="strict")


def decode_form(text: str) -> str:
    """Return `text` decoded as one name or value of a form, where ``+`` is a space.

    Raises ValueError as `decode` does.
    """
    return decode(text.replace("+", " "))
