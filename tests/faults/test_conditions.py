"""The conditions of the kit: each sees what is left behind, in this process and in another."""

import asyncio
import base64
import itertools
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from urllib.parse import quote, quote_plus

import pytest

from tests.faults.conditions import MIB, Margin, eventually, footprint, no_secret, recovers
from tests.ways import basic

SECRET = "a secret/of 7d1c"
MARGIN = Margin(descriptors=5, memory=16 * MIB)
# Does what each line of its input says, and says so.
CHILD = """\
import sys
kept = []
deeds = {
    "open": lambda: kept.extend(open("/dev/null") for _ in range(50)),
    "grow": lambda: kept.append(b"x" * 64_000_000),
    "drop": kept.clear,
    "nothing": lambda: None,
}
for line in sys.stdin:
    deeds[line.strip()]()
    print("done", flush=True)
"""


@pytest.mark.timing("what never holds does not hold later either")
async def test_eventually_waits() -> None:
    """It returns once the condition holds, and fails when it does not in time."""
    asked = itertools.count(1)
    await eventually(lambda: next(asked) > 3)
    assert next(asked) == 5
    with pytest.raises(TimeoutError, match="must hold"):
        await eventually(lambda: False, within=0.05)


async def test_eventually_awaits() -> None:
    """The condition may be one to wait for."""

    async def holds() -> bool:
        return True

    await eventually(holds)


Do = Callable[[str], Awaitable[None]]


@asynccontextmanager
async def child() -> AsyncIterator[tuple[int, Do]]:
    """Run the process above; give its number, and what makes it do something."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, stdin=pipe, stdout=pipe
    )

    async def do(deed: str) -> None:
        assert process.stdin
        assert process.stdout
        process.stdin.write(f"{deed}\n".encode())
        assert await process.stdout.readline() == b"done\n"

    try:
        yield process.pid, do
    finally:
        await process.communicate(b"")  # which ends its input


@pytest.mark.timing("what never holds does not hold later either")
@pytest.mark.parametrize(("deed", "left"), [("open", "50 descriptors"), ("grow", "MiB more")])
async def test_another_process_must_recover(deed: str, left: str) -> None:
    """What a process keeps open, or in memory, is told; once it drops that, all is well."""
    async with child() as (pid, do):
        with pytest.raises(AssertionError, match=left):
            async with recovers(lambda: do("nothing"), pid=pid, margin=MARGIN, within=0.05):
                await do(deed)
        await do("drop")
        async with recovers(lambda: do("drop"), pid=pid, margin=MARGIN):
            await do(deed)


async def nothing() -> None:
    """Be a good request that is served."""


@pytest.mark.timing("what never holds does not hold later either")
async def test_this_process_must_recover() -> None:
    """Descriptors that stay open in this process are seen."""
    with ExitStack() as opened:
        opened.enter_context(pytest.raises(AssertionError, match=r"\d descriptors more"))
        async with recovers(nothing, margin=MARGIN, within=0.05):
            for _ in range(20):
                opened.callback(os.close, os.open("/dev/null", os.O_RDONLY))
    assert footprint().memory > MIB


async def test_the_next_good_request_must_be_served() -> None:
    """An error of the good request after the fault is one of the test."""
    served = iter([True, False])

    async def good() -> None:
        assert next(served), "not served"

    with pytest.raises(AssertionError, match="not served"):
        async with recovers(good):
            pass


SHOWN = {
    "as it stands": SECRET,
    "in a URL": quote(SECRET, safe=""),
    "in a form": "a+secret%2Fof+7d1c",
    "with small digits": "a+secret%2fof+7d1c",
    "in base64": base64.b64encode(SECRET.encode()).decode(),
    "in base64 after one": base64.b64encode(f"1:{SECRET}".encode()).decode(),
    "in base64 after two": base64.b64encode(f"12:{SECRET}".encode()).decode(),
    "in base64 after three": base64.b64encode(f"123:{SECRET}; more".encode()).decode(),
    "in base64 of a form": basic("partner", quote_plus(SECRET)),
}


@pytest.mark.parametrize("shown", SHOWN.values(), ids=SHOWN)
def test_a_secret_is_found(shown: str) -> None:
    """A secret is found as it stands and encoded, and the error does not tell it."""
    with pytest.raises(AssertionError, match="secret 1 is") as caught:
        no_secret(f"log: {shown}", "another", SECRET)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_a_secret_is_found_in_either_base64(encode: Callable[[bytes], bytes]) -> None:
    """A secret is found in both alphabets of base64, where they differ for it."""
    secret = "secret??>>~~~"
    assert {"+", "/"} & set(base64.b64encode(secret.encode()).decode())
    with pytest.raises(AssertionError, match="secret 0 is"):
        no_secret(encode(secret.encode()).decode(), secret)


@pytest.mark.parametrize("escaped", [json.dumps, repr], ids=["JSON", "Python"])
def test_an_escaped_secret_is_found(escaped: Callable[[str], str]) -> None:
    """A secret is found where its quotes, backslashes and letters are escaped."""
    secret = "\"back\\slash' and \u00fc"
    with pytest.raises(AssertionError, match="secret 0 is"):
        no_secret(f"log: {escaped(secret)}", secret)


def test_a_secret_that_would_be_found_anywhere_is_refused() -> None:
    """A search for a few letters tells nothing, so that it is not made."""
    with pytest.raises(ValueError, match="6 characters"):
        no_secret("abcde", "abcde")


def test_no_secret_is_found_where_none_is() -> None:
    """A text without any of them is well."""
    no_secret("client_secret is missing", SECRET)
