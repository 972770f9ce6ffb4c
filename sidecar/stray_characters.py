"""Descriptions of stray characters around a text, which never quote the text."""

from collections.abc import Mapping

_LINE_END = "a line end"
_NAMES: Mapping[str, str] = {
    " ": "a space",
    "\t": "a tab",
    "\r": _LINE_END,
    "\n": _LINE_END,
    "\N{NO-BREAK SPACE}": "a no-break space",
    "\N{ZERO WIDTH SPACE}": "a zero width space",
    "\N{ZERO WIDTH NO-BREAK SPACE}": "a byte order mark",
}
# The quotation marks of shells, of YAML and of word processors: each with the one that closes it.
_QUOTES: Mapping[str, str] = {
    "'": "'",
    '"': '"',
    "`": "`",
    "\N{LEFT SINGLE QUOTATION MARK}": "\N{RIGHT SINGLE QUOTATION MARK}",
    "\N{LEFT DOUBLE QUOTATION MARK}": "\N{RIGHT DOUBLE QUOTATION MARK}",
}


def describe(text: str) -> str | None:
    """Return what is stray around `text`, as a predicate such as "ends with a line end", or None.

    Stray are white space, characters that cannot be seen, and a pair of quotation marks.
    """
    if not text:
        return "is empty"
    if all(map(_name, text)):
        return "is blank"
    if len(text) > 1 and _QUOTES.get(text[0]) == text[-1]:
        return "is in quotes"
    ends = (("begins", _name(text[0])), ("ends", _name(text[-1])))
    return " and ".join(f"{verb} with {name}" for verb, name in ends if name) or None


def _name(character: str) -> str | None:
    if character in _NAMES:
        return _NAMES[character]
    if character.isspace():
        return "white space"
    return None if character.isprintable() else "a character that cannot be seen"
