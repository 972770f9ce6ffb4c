"""The forms in which a secret may stand in a text: as it is, escaped, and inside base64."""

import base64
import json
import re
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

# A shorter one would be found by accident.
_SHORTEST = 6  # characters
_URL_SAFE = str.maketrans("+/", "-_")  # RFC 4648 section 5


def forms_of(secret: str) -> frozenset[str]:
    """Return every form of `secret` to search for. Raises ValueError if it is too short.

    Escaped as in URLs and forms, with either case of digits, as in JSON, and as
    Python shows it. In base64 whatever stands before and after it, as in Basic,
    where RFC 6749 section 2.3.1 has it escaped as in forms first.
    """
    if len(secret) < _SHORTEST:
        raise ValueError(f"a secret must have {_SHORTEST} characters or more to be searched for")
    in_url, in_form = quote(secret, safe=""), quote_plus(secret)
    plain = {secret, in_url, in_form, json.dumps(secret)[1:-1], repr(secret)[1:-1]}
    escaped = {re.sub("%..", lambda found: found[0].lower(), form) for form in plain}
    encoded = {form for text in (secret, in_url, in_form) for form in _in_base64(text)}
    return frozenset(plain | escaped | encoded)


def _in_base64(text: str) -> Iterator[str]:
    """Yield what is the same in base64 wherever `text` begins: three bytes take four digits."""
    for before in range(3):
        data = bytes(before) + text.encode()
        # A digit has six bits. Those that also hold bits of the neighbours are left out.
        digits = slice(-(-before * 8 // 6), len(data) * 8 // 6)
        form = base64.b64encode(data).decode()[digits]
        yield from (form, form.translate(_URL_SAFE))
