"""Media types and their negotiation (RFC 9110 sections 8.3.1 and 12.5.1)."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_ESSENCE = re.compile(f"[ \t]*({_NAME}/{_NAME})[ \t]*")
_PARAMETER = re.compile(f";[ \t]*(?:({_NAME})=({_NAME}|{_QUOTED}))?[ \t]*")
# A comma within a quoted string does not end a list element (section 5.6.1). One that
# is not closed reaches to the end, or a field of quotes would be read once for each.
_ELEMENT = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*(?:"|\\?\Z))+')
_QVALUE = re.compile(r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaType:
    """`essence` is type/subtype and, like the names of the parameters, in lower case."""

    essence: str
    parameters: Mapping[str, str]

    @property
    def is_utf8(self) -> bool:
        """Whether the text is in UTF-8: said so, said to be its subset, or not said at all."""
        return self.parameters.get("charset", "utf-8").lower() in {"utf-8", "us-ascii"}


def parse(text: str) -> MediaType | None:
    """Return the media type (or range) that `text` is, or None if it is malformed."""
    found = _ESSENCE.match(text)
    if found is None:
        return None
    end, parameters = found.end(), {}
    while parameter := _PARAMETER.match(text, end):
        end = parameter.end()
        if parameter[1]:
            parameters[parameter[1].lower()] = _unquote(parameter[2])
    return MediaType(essence=found[1].lower(), parameters=parameters) if end == len(text) else None


def accepted(accept: Iterable[str]) -> Mapping[str, float]:
    """Return the weight of each media range that `Accept` fields name; malformed ones are left out.

    Parameters other than the weight are not told apart.
    """
    weights = {}
    for element in _ELEMENT.findall(",".join(accept)):
        named = parse(element)
        weight = named.parameters.get("q", "1") if named else ""
        if named and _QVALUE.fullmatch(weight):
            weights[named.essence] = float(weight)
    return weights


def _unquote(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value


def prefer(accept: Iterable[str], offers: Sequence[str]) -> str | None:
    """Return the offer that `Accept` fields weigh most, or None if they refuse every one.

    The most specific range that names an offer gives its weight; between equal
    weights the first offer wins. Without an Accept field all are welcome.
    """
    weights = accepted(accept) or {"*/*": 1.0}

    def weigh(offer: str) -> float:
        ranges = (offer, f"{offer.partition('/')[0]}/*", "*/*")
        return next((weights[named] for named in ranges if named in weights), 0.0)

    best = max(offers, key=weigh)
    return best if weigh(best) > 0 else None
