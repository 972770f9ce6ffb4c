"""The benchmarks run to their end; what they measure is not judged here."""

import re
import sys

import pytest

from benchmarks.load import AnswerEnd
from tests.process import ROOT, printed, run

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


async def test_every_table_is_printed() -> None:
    """The whole run, made short, ends well and prints a row for each size of each table."""
    program = (sys.executable, ROOT / "benchmarks" / "transcoding.py")
    brief = ("--rounds", "1", "--seconds", "0.05", "--rules", "10", "20")
    told = printed(await run(*program, *brief))
    assert len(re.findall(r"^ +[0-9.]+ KiB ", told, re.MULTILINE)) == 8
    assert len(re.findall(r"^ +[12]0 +[0-9.]+ ms ", told, re.MULTILINE)) == 2


async def test_every_load_is_printed() -> None:
    """The measurement of overload, made short, prints a row for each load of each case."""
    told = printed(await run(sys.executable, "-m", "benchmarks.overload", "--seconds", "0.1"))
    assert len(re.findall(r"^limited by .*: [0-9]+/s ", told, re.MULTILINE)) == 2
    assert len(re.findall(r"^ +[0-9.]+x +[0-9]+ ", told, re.MULTILINE)) == 10


@pytest.mark.parametrize(
    "answer",
    [
        HEAD + b"Content-Length: 2\r\n\r\n{}",
        HEAD + b"content-length: 0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        HEAD
        + b"transfer-encoding: chunked\r\n\r\n5;x=y\r\n0\r\n\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n",
    ],
    ids=["a length", "no content", "one chunk", "chunks that look like their end"],
)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_the_end_of_an_answer(answer: bytes, size: int) -> None:
    """An answer ends with its last byte, in whatever pieces it comes, and the next one likewise."""
    end = AnswerEnd()
    pieces = [answer[start : start + size] for start in range(0, len(answer), size)]
    wanted = [False] * (len(pieces) - 1) + [True]
    assert [end.feed(piece) for piece in pieces * 2] == wanted * 2


@pytest.mark.parametrize(
    "answer", [HEAD + b"\r\n", b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"]
)
def test_an_answer_that_counts_for_nothing(answer: bytes) -> None:
    """An answer that fails, or whose end nobody can tell, stops the measurement."""
    with pytest.raises(ValueError, match=r"HTTP/1.1 404|nothing of its length"):
        AnswerEnd().feed(answer)
