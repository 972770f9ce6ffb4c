"""Media types: how they are read, and what a client accepts."""

import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.transcoding.media_type import (
    MediaType,
    accepted,
    choose_json,
    choose_problem,
    parse,
    prefer,
)
from tests.properties import any_text, many

JSON, PROBLEM, HTML, FORM = (
    "application/json",
    "application/problem+json",
    "text/html",
    "application/x-www-form-urlencoded",
)
READ: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "application/json": (JSON, {}),
    "Application/JSON": (JSON, {}),
    " \tapplication/json \t": (JSON, {}),
    "application/problem+json": (PROBLEM, {}),
    "*/*": ("*/*", {}),
    "a/b;c=d": ("a/b", {"c": "d"}),
    "a/b;C=D": ("a/b", {"c": "D"}),
    "a/b ; c=d ;\te=f ": ("a/b", {"c": "d", "e": "f"}),
    'a/b;c="d e;f,g"': ("a/b", {"c": "d e;f,g"}),
    'a/b;c="\\"\\\\\\d"': ("a/b", {"c": '"\\d'}),
    'a/b;c=""': ("a/b", {"c": ""}),
    "a/b;": ("a/b", {}),
    "a/b; ; ;c=d": ("a/b", {"c": "d"}),
    "!#$%&'*+.^_`|~-/0": ("!#$%&'*+.^_`|~-/0", {}),
}
MALFORMED = (
    "",
    " ",
    "json",
    "/",
    "a/",
    "/b",
    "a/b/c",
    "a /b",
    "a/ b",
    "a/b c",
    "a/b, a/b",
    "a/b;c",
    "a/b;c=",
    "a/b;=d",
    "a/b;c =d",
    "a/b;c= d",
    "a/b;c=d e",
    'a/b;c="d',
    'a/b;c="d\\"',
    'a/b;c="d"e',
    "a/b c=d",
    "é/b",
    "a/b;c=é",
    "a/b\n;c=d",
    "a/b;c=d\n",
    "a/b\0",
    "a@b/c",
)


@pytest.mark.parametrize(("text", "read"), READ.items(), ids=ascii)
def test_parse(text: str, read: tuple[str, Mapping[str, str]]) -> None:
    """Type and names of parameters are read in any case, values as they stand."""
    essence, parameters = read
    assert parse(text) == MediaType(essence=essence, parameters=parameters)


@pytest.mark.parametrize(
    ("text", "contradicted"),
    [
        ("a/b;c=d;c=d", set()),
        ("a/b;c=d;C=D", set()),
        ('a/b;c=d;c="d"', set()),
        ("a/b;c=d;c=e", {"c"}),
        ("a/b;c=d;e=f;c=e;c=d", {"c"}),
    ],
)
def test_repeated_parameters(text: str, contradicted: set[str]) -> None:
    """A parameter that is repeated with another value is named, since RFC 9110 chooses none."""
    named = parse(text)
    assert named is not None
    assert named.contradicted == contradicted


@pytest.mark.parametrize("text", MALFORMED, ids=ascii)
def test_malformed(text: str) -> None:
    """What is not one media type is none."""
    assert parse(text) is None


@pytest.mark.parametrize(
    ("text", "is_utf8"),
    [
        ("a/b", True),
        ("a/b;charset=utf-8", True),
        ("a/b;Charset=UTF-8", True),
        ('a/b;charset="Utf-8"', True),
        ("a/b;charset=us-ascii", True),
        ("a/b;charset=utf8", True),
        ('a/b;charset="UTF8"', True),
        ("a/b;charset=Utf8;version=1;odr=x", True),
        ("a/b;charset=utf-8;charset=UTF-8", True),
        ("a/b;charset=utf-8;charset=utf8", False),
        ("a/b;charset=utf-7;charset=utf-8", False),
        ("a/b;charset=utf8mb4", False),
        ("a/b;charset=utf_8", False),
        ('a/b;charset="utf-8 "', False),
        ("a/b;charset=unicode-1-1-utf-8", False),
        ("a/b;charset=windows-1252", False),
        ("a/b;boundary=utf-16", True),
        ("a/b;charset=utf-16", False),
        ("a/b;charset=iso-8859-1", False),
        ("a/b;charset=utf-8-sig", False),
        ('a/b;charset=""', False),
        ("a/b;charset=utf-8;charset=utf-7", False),
    ],
)
def test_charset(text: str, is_utf8: bool) -> None:
    """Text is in UTF-8 unless it is said to be in something else."""
    named = parse(text)
    assert named is not None
    assert named.is_utf8 is is_utf8


@pytest.mark.parametrize(
    ("text", "is_json"),
    [
        (JSON, True),
        ("Application/JSON; charset=utf-8", True),
        (PROBLEM, True),
        ("application/vnd.api+json", True),
        ("application/vnd.a+b+JSON", True),
        ("model/gltf+json", True),
        ("application/" + "a" * 122 + "+json", True),
        ("application/" + "a" * 123 + "+json", False),
        ("a" * 128 + "/b+json", False),
        ("application/json-patch", False),
        ("application/xjson", False),
        ("application/jsonx", False),
        ("application/a+jsonx", False),
        ("application/a+json+xml", False),
        ("application/+json", False),
        ("application/*+json", False),
        ("*/a+json", False),
        ("application/*", False),
        ("*/*", False),
        ("text/json", False),
        (FORM, False),
    ],
)
def test_json(text: str, is_json: bool) -> None:
    """JSON is application/json, and any type that can be registered with the suffix +json."""
    named = parse(text)
    assert named is not None
    assert named.is_json is is_json


ACCEPTED: Mapping[tuple[str, ...], Mapping[str, float]] = {
    (): {},
    ("",): {},
    ("application/json",): {JSON: 1.0},
    ("a/b, c/d;q=0.5 ,e/f;q=0",): {"a/b": 1.0, "c/d": 0.5, "e/f": 0.0},
    ("a/b", "c/d"): {"a/b": 1.0, "c/d": 1.0},
    ("A/B;Q=0.125",): {"a/b": 0.125},
    ("a/b;q=1.000",): {"a/b": 1.0},
    ("a/b;q=0.",): {"a/b": 0.0},
    ('a/b;q="0.5"',): {"a/b": 0.5},
    ("a/b;level=1;q=0.5",): {"a/b": 0.5},
    # The greatest weight counts, in whatever order they are named.
    ("a/b;q=0.5, a/b",): {"a/b": 1.0},
    ("a/b, a/b;q=0.5",): {"a/b": 1.0},
    ("a/b;c=d;q=0.5, a/b;q=0",): {"a/b": 0.5},
    ('a/b;c="x, y/z", d/e',): {"a/b": 1.0, "d/e": 1.0},
    (",,a/b,,",): {"a/b": 1.0},
    # Malformed ones are left out, alone.
    ("json, a/b",): {"a/b": 1.0},
    ("c/d;q=2, a/b",): {"a/b": 1.0},
    ("c/d;q=1.001, a/b",): {"a/b": 1.0},
    ("c/d;q=0.1234, a/b",): {"a/b": 1.0},
    ("c/d;q=-1, a/b",): {"a/b": 1.0},
    ("c/d;q=.5, a/b",): {"a/b": 1.0},
    ("c/d;q=nan, a/b",): {"a/b": 1.0},
    ("c/d;q=inf, a/b",): {"a/b": 1.0},
    ("c/d;q=1e0, a/b",): {"a/b": 1.0},
    ("c/d;q=, a/b",): {"a/b": 1.0},
    ('c/d;q="", a/b',): {"a/b": 1.0},
    ("c/d;q=\u0660, a/b",): {"a/b": 1.0},
    ("c/d é, a/b",): {"a/b": 1.0},
}


@pytest.mark.parametrize(("fields", "weights"), ACCEPTED.items(), ids=ascii)
def test_accepted(fields: Sequence[str], weights: Mapping[str, float]) -> None:
    """Each range has its weight, whatever stands beside it."""
    assert accepted(fields) == weights


PREFERRED: Mapping[tuple[str, ...], str | None] = {
    (): HTML,
    ("",): HTML,
    ("?",): HTML,
    ("*/*",): HTML,
    (JSON,): JSON,
    (f"{JSON};q=0.1",): JSON,
    (f"{JSON}, {HTML}",): HTML,
    (f"{JSON}, {HTML};q=0.999",): JSON,
    ("application/*",): JSON,
    (f"application/*, {HTML}",): HTML,
    # Of equal weights that of the most specific range, which need not be the first offer.
    (f"{JSON}, text/*",): JSON,
    (f"{JSON}, */*",): JSON,
    (f"*/*, {JSON}",): JSON,
    ("application/*, */*",): JSON,
    (f"{HTML}, {JSON}, */*",): HTML,
    (f"{JSON};q=0.5, */*;q=0.5",): JSON,
    (f"{JSON};q=0.5, */*;q=0.6",): HTML,
    (f"*/*;q=0.1, {JSON}",): JSON,
    # The most specific range gives the weight.
    (f"{HTML};q=0, */*",): JSON,
    ("text/*;q=0, */*",): JSON,
    (f"text/*;q=0, {HTML}",): HTML,
    (f"{HTML};q=0.1, text/*, application/*;q=0.5",): JSON,
    ("image/png",): None,
    ("*/*;q=0",): None,
    (f"{JSON};q=0, {HTML};q=0.0",): None,
    (f"{JSON};q=0",): None,
}


@pytest.mark.parametrize(("fields", "offer"), PREFERRED.items(), ids=ascii)
def test_prefer(fields: Sequence[str], offer: str | None) -> None:
    """The offer of the greatest weight is chosen, the first of several, none that is refused."""
    assert prefer(fields, (HTML, JSON)) == offer


V1, V2 = "application/vnd.one+json", "application/vnd.two+json"
JSON_CHOSEN: Mapping[tuple[str, ...], str | None] = {
    (): JSON,
    ("",): JSON,
    ("?",): JSON,
    (f"{V1};q=2",): JSON,
    ("*/*",): JSON,
    ("application/*;q=0.001",): JSON,
    (f"{JSON};charset=utf-8",): JSON,
    (f"{JSON};q=0.1, text/html",): JSON,
    ("text/html", JSON): JSON,
    # What is refused.
    ("text/html",): None,
    ("*/*;q=0",): None,
    (f"{JSON};q=0",): None,
    (f"{JSON};q=0, */*",): None,
    (f"application/*;q=0, {HTML}, */*",): None,
    (f"{V1};q=0",): None,
    (f"{JSON};q=0, {V1};q=0",): None,
    # Types that are named.
    (V1,): V1,
    (f"{V1};q=0.001",): V1,
    (V1.upper(),): V1,
    (f'{V1};profile="a,b";q=0.5',): V1,
    (f"{JSON};q=0, */*, {V1};q=0.1",): V1,
    (f"{V1}, {V2}",): V1,
    (f"{V1};q=0.5, {V2}",): V2,
    (f"{V1};q=0.5", f"{V2};q=0.4"): V1,
    (f"{V1};q=0, {V2}",): V2,
    ("application/prs.one+json",): "application/prs.one+json",
    ("application/x-one+json",): "application/x-one+json",
    # Types that say more than that it is JSON.
    ("model/gltf+json",): None,
    ("model/vnd.one+json",): None,
    ("application/ld+json",): None,
    (f"application/json-patch+json, {JSON};q=0.1",): JSON,
    ("application/vnd+json",): None,
    # Both.
    (f"{V1}, {JSON}",): JSON,
    (f"{V1};q=0.5, {JSON};q=0.5",): JSON,
    (f"{V1};q=0.5, {JSON};q=0.499",): V1,
    (f"{V1};q=0.5, {JSON};q=0.6",): JSON,
    (f"{V1}, */*",): V1,
    (f"{V1}, {JSON}, */*",): JSON,
    (f"{V1}, application/*",): V1,
    (f"{V1}, */*;q=0.9",): V1,
    (f"{V1}, application/*;q=0.9, */*",): V1,
    (f"{JSON};q=0.9, {V1}, */*",): V1,
    # What names no type of its own.
    ("application/*+json",): None,
    ("*/*+json",): None,
    ("*/vnd.one+json",): None,
    ("application/+json",): None,
    ("application/" + "a" * 123 + "+json",): None,
    # An answer is no problem.
    (PROBLEM,): None,
    (f"{PROBLEM}, {JSON};q=0.5",): JSON,
    (f"{PROBLEM}, {V1};q=0.5",): V1,
}


@pytest.mark.parametrize(
    ("fields", "chosen"), JSON_CHOSEN.items(), ids=lambda value: ascii(value)[:60]
)
def test_choose_json(fields: Sequence[str], chosen: str | None) -> None:
    """JSON is answered as such, or as the type with +json that a client would rather have."""
    assert choose_json(fields) == chosen


@pytest.mark.parametrize(
    ("field", "chosen"),
    [
        ("", JSON),
        ("*/*", JSON),
        ("text/x", "text/x"),
        (f"{JSON}, text/x", JSON),
        (f"{JSON};q=0.9, text/x", "text/x"),
        (f"{V1}, text/x", V1),
        ("text/x, */*", "text/x"),
        ("*/*, text/x", "text/x"),
        ("text/*, */*", "text/x"),
        (f"text/x, */*, {JSON}", JSON),
        ("text/x;q=0.9, */*", JSON),
        (f"{JSON};q=0, */*", "text/x"),
        ("text/y", None),
    ],
)
def test_choose_json_or_others(field: str, chosen: str | None) -> None:
    """Other types that are offered win where a client would rather have them, and not else."""
    assert choose_json([field], ["text/x"]) == chosen


PROBLEM_CHOSEN: Mapping[tuple[str, ...], str] = {
    (): PROBLEM,
    ("",): PROBLEM,
    ("?",): PROBLEM,
    ("*/*",): PROBLEM,
    ("application/*",): PROBLEM,
    (HTML,): PROBLEM,
    (V1,): PROBLEM,
    (PROBLEM,): PROBLEM,
    (JSON,): JSON,
    (f"{JSON};q=0.001",): JSON,
    ("text/html, application/json;q=0.1",): JSON,
    (HTML, JSON): JSON,
    (f"{JSON}, */*",): JSON,
    ("text/event-stream, */*",): PROBLEM,
    (f"{PROBLEM}, */*",): PROBLEM,
    (f"{JSON};q=0",): PROBLEM,
    (f"{JSON}, {PROBLEM};q=0.1",): PROBLEM,
    (f"{JSON}, {PROBLEM};q=0",): JSON,
    (f"{JSON};q=0, {PROBLEM};q=0",): PROBLEM,
}


@pytest.mark.parametrize(("fields", "chosen"), PROBLEM_CHOSEN.items(), ids=ascii)
def test_choose_problem(fields: Sequence[str], chosen: str) -> None:
    """A problem is called JSON only for a client that names that, and not problem+json."""
    assert choose_problem(fields) == chosen


signs = st.lists(
    st.sampled_from(
        [*'abq01.;=," \t\\/*é', ";q=", "a/b", "*/*", ";q=0.5", '"x,y"', "+json", "application/"]
    )
).map("".join)


@many
@given(any_text | signs)
@example('"')
@example("a/b;q=\u0661")
def test_any_text(text: str) -> None:
    """Any text at all is a media type or none, and every weight is from 0 to 1."""
    named = parse(text)
    assert named is None or named.essence == named.essence.lower()
    assert all(0 <= weight <= 1 for weight in accepted([text]).values())
    assert prefer([text], (HTML, JSON)) in {HTML, JSON, None}
    assert choose_problem([text]) in {PROBLEM, JSON}
    chosen = choose_json([text])
    assert chosen is None or MediaType(essence=chosen, parameters={}).is_json


@contextmanager
def interrupted(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in what still runs after `seconds`."""

    def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


HOSTILE: Mapping[str, str] = {
    "escaped quotes": '\\"' * 100_000,
    "escaped quotes and a backslash": '\\"' * 100_000 + "\\",
    "open quotes": '"\\"' * 100_000,
    "quotes": '"' * 200_001,
    "spaces": "a/b;" + " " * 200_000 + "x",
    "spaces first": " " * 200_000,
    "parameters": "a/b" + ";a=b" * 50_000 + '"',
    "commas": "," * 200_000,
    "name": "a" * 200_000,
    "semicolons": "a/b" + ";" * 200_000 + '"',
    "quotes and commas": '",' * 100_001,
    "suffixes": "a/b" + "+json" * 40_000 + ";",
    "types with the suffix": "".join(
        f"application/x-b{number}+json;q=1," for number in range(20_000)
    ),
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_fields_are_read_in_one_pass(text: str) -> None:
    """No field can keep the process busy: what grows with its square would not end here."""
    with interrupted(10):
        assert all(weight == 1 for weight in accepted([text]).values())
        assert choose_json([text]) in {JSON, "application/x-b0+json", None}
        assert choose_problem([text]) == PROBLEM
        assert parse(text) is None or text.endswith("+json;")
