"""Media types and their negotiation (RFC 9110 sections 8.3.1 and 12.5.1)."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

JSON, PROBLEM_JSON = "application/json", "application/problem+json"
NDJSON, EVENT_STREAM = "application/x-ndjson", "text/event-stream"
_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_ESSENCE = re.compile(f"[ \t]*({_NAME}/{_NAME})[ \t]*")
_PARAMETER = re.compile(f";[ \t]*(?:({_NAME})=({_NAME}|{_QUOTED}))?[ \t]*")
# A comma within a quoted string does not end a list element (section 5.6.1). A string that is not
# closed extends to the end: otherwise a field of quotes would be scanned once for each.
_ELEMENT = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*(?:"|\\?\Z))+')
_QVALUE = re.compile(r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")
# RFC 6838 section 4.2: a type and its subtype have up to 127 characters each, and no asterisk.
_REGISTRABLE = "[a-z0-9][a-z0-9!#$&^_.+-]"
_JSON_TYPE = re.compile(rf"application/json|{_REGISTRABLE}{{0,126}}/{_REGISTRABLE}{{0,121}}\+json")


# `utf8` is a label of it in the Encoding standard of the WHATWG, and not in the registry of IANA.
_UTF8 = frozenset({"utf-8", "utf8", "us-ascii"})
# RFC 6838 sections 3.2 to 3.4: vendor, personal and unregistered types. Other +json types
# promise more than JSON, which a response could not keep.
_OWN_JSON_TYPE = re.compile(r"application/(?:vnd\.|prs\.|x[.-]).+\+json")


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaType:
    """A media type. `essence` is type/subtype.

    `essence` and the names of the parameters are in lower case. Of a parameter that is repeated
    `parameters` has the last value, and `contradicted` its name if the values differ.
    """

    essence: str
    parameters: Mapping[str, str]
    contradicted: frozenset[str] = frozenset()

    @property
    def is_utf8(self) -> bool:
        """Whether the charset is UTF-8, its subset US-ASCII, or not given.

        Two different charsets are none: a filter in front could read by the other one.
        """
        charset = self.parameters.get("charset", "utf-8").lower()
        return charset in _UTF8 and "charset" not in self.contradicted

    @property
    def is_json(self) -> bool:
        """Whether it is JSON (RFC 8259 section 11) or based on it (RFC 6839 section 3.1)."""
        return _JSON_TYPE.fullmatch(self.essence) is not None


@lru_cache(maxsize=64)  # clients send few different ones
def parse(text: str) -> MediaType | None:
    """Return the media type or range in `text`, or None if it is malformed."""
    match = _ESSENCE.match(text)
    if match is None:
        return None
    end, pairs = match.end(), []
    while parameter := _PARAMETER.match(text, end):
        end = parameter.end()
        if parameter[1]:
            pairs.append((parameter[1].lower(), _unquote(parameter[2])))
    if end != len(text):
        return None
    parameters = dict(pairs)
    return MediaType(
        essence=match[1].lower(),
        parameters=parameters,
        contradicted=frozenset(
            name for name, value in pairs if value.lower() != parameters[name].lower()
        ),
    )


def accepted(accept: Iterable[str]) -> Mapping[str, float]:
    """Return the weight of each media range in `Accept` fields, without malformed ranges.

    Of ranges that differ only in parameters other than the weight, the greatest weight counts.
    """
    weights: dict[str, float] = {}
    for element in _ELEMENT.findall(",".join(accept)):
        media_range = parse(element)
        weight = media_range.parameters.get("q", "1") if media_range else ""
        if media_range and _QVALUE.fullmatch(weight):
            weights[media_range.essence] = max(float(weight), weights.get(media_range.essence, 0.0))
    return weights


def prefer(accept: Iterable[str], offers: Sequence[str]) -> str | None:
    """Return the offer that `Accept` fields weigh most, or None if they refuse every offer.

    The most specific range that matches an offer gives its weight (RFC 9110 section 12.5.1).
    Between equal weights, of which the RFC says nothing, the offer with the most specific range
    wins: a client that sends `text/html, */*` names what it wants. After that the first offer
    wins. Without an Accept field all offers are acceptable.
    """
    return _choose(accepted(accept), offers)


def choose_json(accept: Iterable[str], others: Sequence[str] = ()) -> str | None:
    """Return the JSON media type to respond in, or None if `Accept` fields refuse JSON.

    It is application/json. A vendor, personal or unregistered type with the suffix +json, such
    as application/vnd.example+json, wins if `prefer` would choose it, and so does one of `others`.
    """
    return _choose_json(tuple(accept), tuple(others))


@lru_cache(maxsize=64)  # clients send few different ones
def _choose_json(accept: Sequence[str], others: Sequence[str]) -> str | None:
    weights = accepted(accept)
    own = [each for each in weights if _JSON_TYPE.fullmatch(each) and _OWN_JSON_TYPE.match(each)]
    return _choose(weights, [JSON, *own, *others])


def choose_problem(accept: Iterable[str]) -> str:
    """Return the media type of a problem document.

    It is application/problem+json, or application/json if the client names that and not
    problem+json. Some clients, OAuth libraries among them, read an error from application/json
    only. No client is refused, because an error in another type still tells more than none (RFC
    9110 section 15.5.7).
    """
    weights = accepted(accept)
    wants_json = weights.get(JSON, 0.0) > 0 and not weights.get(PROBLEM_JSON, 0.0) > 0
    return JSON if wants_json else PROBLEM_JSON


def _choose(weights: Mapping[str, float], offers: Sequence[str]) -> str | None:
    known = weights or {"*/*": 1.0}

    def weigh(offer: str) -> tuple[float, int]:
        """Return the weight of `offer`, and how specific its range is."""
        ranges = ("*/*", f"{offer.partition('/')[0]}/*", offer)
        matches = [number for number, each in enumerate(ranges) if each in known]
        return (known[ranges[matches[-1]]], matches[-1]) if matches else (0.0, 0)

    best = max(offers, key=weigh)
    return best if weigh(best)[0] > 0 else None


def _unquote(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
