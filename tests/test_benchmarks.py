"""Tests of the benchmarks: they run to their end. Their figures are not checked."""

import asyncio
import re
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import psutil
import pytest

from benchmarks.grpc_load import GrpcExchange, frame
from benchmarks.load import AnswerEnd, percentile
from benchmarks.loaders import parse_wrk
from benchmarks.peer_report import Figures, Report, Run, markdown
from benchmarks.processes import Processes, children
from benchmarks.streams import FRAMINGS
from tests.sidecar_process import ROOT, find_tool, printed, run

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@pytest.mark.tools
async def test_every_table_is_printed() -> None:
    """The comparison of transcoders succeeds and prints a row for each size of each table."""
    program = (sys.executable, ROOT / "benchmarks" / "transcoding.py")
    brief = ("--rounds", "1", "--seconds", "0.02", "--sizes", "1", "2", "--rules", "10", "20")
    printed_text = printed(await run(*program, *brief))
    assert len(re.findall(r"^ +[0-9.]+ KiB ", printed_text, re.MULTILINE)) == 4
    assert len(re.findall(r"^ +[12]0 +[0-9.]+ ms ", printed_text, re.MULTILINE)) == 2


@pytest.mark.tools
async def test_every_framing_is_printed() -> None:
    """The comparison of streams succeeds and prints a row for each framing."""
    program = (sys.executable, ROOT / "benchmarks" / "streams.py")
    brief = ("--rounds", "1", "--seconds", "0.02", "--messages", "3")
    table = printed(await run(*program, *brief))
    assert re.findall(r"^ +(\w+) +[0-9]+ +[0-9]+ ", table, re.MULTILINE) == [*FRAMINGS]


@pytest.mark.tools
async def test_every_load_is_printed() -> None:
    """The measurement of overload succeeds and prints a row for each load."""
    brief = ("--seconds", "0.1", "--cases", "1", "--loads", "0.7", "2")
    printed_text = printed(await run(sys.executable, "-m", "benchmarks.overload", *brief))
    assert len(re.findall(r"^limited by .*: [0-9]+/s ", printed_text, re.MULTILINE)) == 1
    assert len(re.findall(r"^ +[0-9.]+x +[0-9]+ ", printed_text, re.MULTILINE)) == 2


@pytest.mark.tools
async def test_every_cost_of_metrics_is_printed() -> None:
    """The measurement of metrics succeeds and prints a row for each cost."""
    program = (sys.executable, ROOT / "benchmarks" / "metrics.py")
    brief = ("--rounds", "3", "--calls", "1000", "--budget", "1000")
    text = printed(await run(*program, *brief))
    assert len(re.findall(r"^a \w+ call, with its exchange +[0-9.]+$", text, re.MULTILINE)) == 2
    assert len(re.findall(r"^.+ [0-9.]+ (?:us|ms)$", text, re.MULTILINE)) == 3


# The rows that a measurement prints, and their number.
COSTS = {
    "throttle.py": (r"^an? .+ [0-9.]+$", 6),
    "access_line.py": (r"^(?:REST|gRPC).* [0-9.]+$", 4),
}


@pytest.mark.parametrize(("script", "rows", "count"), [(name, *row) for name, row in COSTS.items()])
async def test_every_cost_is_printed(script: str, rows: str, count: int) -> None:
    """The measurements of costs print a row for each case; their budget can fail them."""
    program = (sys.executable, ROOT / "benchmarks" / script, "--rounds", "1")
    text = printed(await run(*program, "--calls", "10", "--budget", "1000"))
    assert len(re.findall(rows, text, re.MULTILINE)) == count
    failed = await run(*program, "--calls", "1", "--budget", "0")
    assert failed.status == 1


@pytest.mark.tools
async def test_a_row_for_each_number_of_replicas() -> None:
    """The measurement of replicas succeeds, and compares two with one."""
    find_tool("haproxy")
    brief = ("--rounds", "1", "--seconds", "0.1")
    table = printed(await run(sys.executable, "-m", "benchmarks.replicas", *brief))
    rows = re.findall(r"^(\w+, \w+ cores?) +[0-9,]+ +[0-9.]+ ", table, re.MULTILINE)
    assert rows == ["one, own core", "one, one core", "two, two cores"]
    ratios = r" = [0-9.]+ times the requests, [+-][0-9.]+% CPU"
    assert len(re.findall(ratios, table)) == 2
    assert re.search(r"^a calculation on each core at once: [+-][0-9.]+% CPU$", table, re.MULTILINE)


@pytest.mark.tools
async def test_a_row_for_each_system(tmp_path: Path) -> None:
    """The comparison with peers succeeds, and prints its report again from its file."""
    command = (sys.executable, "-m", "benchmarks.peers", "--output", tmp_path / "bench.json")
    names = ("ours gRPC", "Starlette on h11")
    brief = ("--rounds", "1", "--seconds", "0.05", "--systems", *names)
    table = printed(await run(*command, *brief))
    rows = re.findall(r"^\| ([^|]+?) +\| +[0-9,]+ \|", table, re.MULTILINE)
    assert rows == ["auth-api asked directly", "ours gRPC", "floor: Starlette on h11"]
    assert printed(await run(*command, "--markdown")) == table


WRK = """Running 1s test @ http://127.0.0.1:8080/v1/oauth/token
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   607.35us  211.10us   4.10ms   91.20%
    Req/Sec    47.99k     1.20k   49.10k    70.00%
  Latency Distribution
     50%  612.00us
     75%  640.00us
     90%    0.90ms
     99%    1.20ms
  52530 requests in 1.10s, 9.97MB read
Requests/sec:  47755.13
Transfer/sec:      9.06MB
"""


def test_wrk_is_parsed() -> None:
    """The figures of wrk are read with their units."""
    load = parse_wrk(WRK)
    assert (load.requests, load.rate) == (52530, 47755.13)
    assert [load.p50, load.p99] == pytest.approx([612e-6, 1.2e-3])


@pytest.mark.parametrize(
    "text",
    [
        WRK + "  Non-2xx or 3xx responses: 3\n",
        WRK + "  Socket errors: connect 0, read 1, write 0, timeout 0\n",
        "unable to connect to 127.0.0.1:1 Connection refused\n",
        "",
    ],
    ids=["a refusal", "a socket error", "nobody listens", "nothing"],
)
def test_a_load_of_wrk_that_fails(text: str) -> None:
    """A load with a failed request gives no figures."""
    with pytest.raises(ValueError, match="wrk"):
        parse_wrk(text)


SETTINGS, PING = frame(4, 0, 0), frame(6, 0, 0, b"12345678")
HEADERS, TRAILERS = frame(1, 4, 1, b"\x88"), frame(1, 5, 1, b"trailers")
MESSAGE = frame(0, 0, 1, b"\0\0\0\0\2\x0a\0")


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_the_end_of_a_call(size: int) -> None:
    """A call ends with its trailers. The server's own frames are answered with the next call."""
    exchange = GrpcExchange("/a.B/C", b"")
    first = exchange.request()
    received = SETTINGS + HEADERS + MESSAGE + PING + TRAILERS
    pieces = [received[start : start + size] for start in range(0, len(received), size)]
    assert [exchange.feed(piece) for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert first.startswith(b"PRI * HTTP/2.0\r\n")
    assert exchange.request().startswith(frame(4, 1, 0) + frame(6, 1, 0, b"12345678"))


@pytest.mark.parametrize("failure", [TRAILERS, frame(3, 0, 1, b"\0\0\0\1"), frame(7, 0, 0, b"")])
def test_a_call_that_fails(failure: bytes) -> None:
    """A call that ends without a message, or is reset, stops the measurement."""
    exchange = GrpcExchange("/a.B/C", b"")
    exchange.request()
    with pytest.raises(ValueError, match=r"fails|ends"):
        exchange.feed(failure)


async def test_the_processes_of_a_system() -> None:
    """CPU time and memory are those of a process and of all its descendants."""
    inner = "print(1, flush=True); input()"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdin=PIPE, stdout=PIPE
    )
    assert child.stdout
    await child.stdout.readline()
    one, tree = psutil.Process(child.pid), Processes([child.pid])
    assert child.pid in children()
    assert tree.rss() > one.memory_info().rss
    assert tree.cpu() >= one.cpu_times().user
    await child.communicate(b"\n")


def test_the_table_of_a_report() -> None:
    """Each figure is the median of the rounds. A difference is taken within one round."""
    bare = [_figures(9, single_us=10, rss_mib=0), _figures(7, single_us=90, rss_mib=0)]
    ours = [_figures(3000, single_us=30, rss_mib=7), _figures(1000, single_us=130, rss_mib=7)]
    run_: Run = {
        "date": "2026-11-27",
        "machine": "2 cores",
        "commit": "abc",
        "loader": "wrk",
        "connections": 32,
        "rounds": 2,
        "seconds": 4.0,
        "pinned": True,
    }
    table = markdown(Report(run=run_, systems={"bare": bare, "ours": ours}, left_out={"x": "y"}))
    assert re.search(r"\| bare +\| +8 \| +- \| +0.10 \| +0.20 \| +- \| +- \|", table)
    assert re.search(r"\| ours +\| 2,000 \| +5 \| +0.10 \| +0.20 \| +30 \| +7 \|", table)
    assert table.endswith("Left out: x: y.")


def _figures(rate: float, *, single_us: float, rss_mib: float) -> Figures:
    return Figures(
        rate=rate, cpu_us=5.0, p50_ms=0.1, p99_ms=0.2, single_us=single_us, rss_mib=rss_mib
    )


@pytest.mark.parametrize(("percent", "value"), [(0, 1), (50, 2), (75, 3), (99, 4), (100, 4)])
def test_percentile(percent: float, value: float) -> None:
    """A percentile is not exceeded by that share of the values."""
    assert percentile([4, 2, 1, 3], percent) == value


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
    """An answer ends with its last byte, in any number of pieces; so does the next one."""
    end = AnswerEnd()
    pieces = [answer[start : start + size] for start in range(0, len(answer), size)]
    wanted = [False] * (len(pieces) - 1) + [True]
    assert [end.feed(piece) for piece in pieces * 2] == wanted * 2


@pytest.mark.parametrize(
    "answer", [HEAD + b"\r\n", b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"]
)
def test_an_answer_that_counts_for_nothing(answer: bytes) -> None:
    """An answer that fails, or whose end is unknown, stops the measurement."""
    with pytest.raises(ValueError, match=r"HTTP/1.1 404|nothing of its length"):
        AnswerEnd().feed(answer)
