"""Tests of the drain on a virtual clock: the length of its phases, and how to end them."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from sidecar.process.drain import Drain, DrainCounts
from tests.properties import many
from tests.recorded import Log, recorded
from tests.virtual_time import VirtualLoop

LAME_DUCK, TIMEOUT = 5.0, 20.0


class Process:
    """A drain used as by the runtime, on its own loop; the times are of its clock."""

    def __init__(self, loop: VirtualLoop, lame_duck: float, timeout: float) -> None:
        self.loop = loop
        self.drain = Drain(lame_duck=lame_duck, timeout=timeout)
        self.calls = loop.create_future()
        self.began: float | None = None
        self.refuses: float | None = None  # the end of the lame duck
        self.cut: float | None = None
        self.ended: float | None = None
        self._task = loop.create_task(self._run())

    async def _run(self) -> None:
        await self.drain.beginning()
        self.began = self.loop.time()
        await self.drain.pass_lame_duck()
        self.refuses = self.loop.time()
        await self.drain.end(self.calls, self._cut)
        self.ended = self.loop.time()

    def _cut(self) -> None:
        self.cut = self.loop.time()
        self.calls.set_result(None)

    def end_calls(self) -> None:
        """End the last call."""
        self.calls.set_result(None)


@pytest.fixture(name="process")
def _run() -> Iterator[Process]:
    with VirtualLoop() as loop:
        process = Process(loop, LAME_DUCK, TIMEOUT)
        loop.settle()
        yield process


def test_nothing_begins_by_itself(process: Process) -> None:
    """The drain does not begin without a request."""
    process.loop.advance(10**6)
    assert not process.drain.has_begun
    assert process.began is None


def test_a_drain_without_calls_takes_the_lame_duck(process: Process) -> None:
    """Without a call in flight, the lame duck has its full length, then the end is at once."""
    process.drain.begin()
    process.end_calls()
    process.loop.advance(TIMEOUT)
    assert (process.began, process.refuses, process.ended) == (0, LAME_DUCK, LAME_DUCK)
    assert process.cut is None


def test_the_end_waits_for_the_calls(process: Process) -> None:
    """The drain ends with the last call, which is not cut."""
    process.drain.begin()
    process.loop.advance(LAME_DUCK + 3)
    assert (process.refuses, process.ended) == (LAME_DUCK, None)
    process.end_calls()
    process.loop.settle()
    assert process.ended == LAME_DUCK + 3
    assert process.cut is None


def test_calls_that_take_too_long_are_cut(process: Process) -> None:
    """A call that does not end is cut after the timeout, not before."""
    process.drain.begin()
    process.loop.advance(10**6)
    assert process.cut == process.ended == LAME_DUCK + TIMEOUT


def test_a_second_beginning_changes_nothing(process: Process) -> None:
    """A second request by /drain does not end a phase."""
    process.drain.begin()
    process.loop.advance(1)
    process.drain.begin()
    process.loop.advance(10**6)
    assert (process.refuses, process.ended) == (LAME_DUCK, LAME_DUCK + TIMEOUT)


def test_each_further_signal_ends_a_phase(process: Process) -> None:
    """The second signal ends the lame duck, the third cuts the calls."""
    process.drain.hasten()
    process.loop.advance(1)
    process.drain.hasten()
    process.loop.advance(1)
    assert (process.refuses, process.ended) == (1, None)
    process.drain.hasten()
    process.loop.settle()
    assert process.cut == process.ended == 2


def test_an_interrupt_leaves_out_the_lame_duck(process: Process) -> None:
    """An interrupt skips the lame duck, but not the calls in flight."""
    process.drain.interrupt()
    process.loop.advance(1)
    assert (process.refuses, process.ended) == (0, None)
    process.drain.interrupt()
    process.loop.settle()
    assert process.cut == process.ended == 1


def test_a_signal_after_drain_is_a_first_one(process: Process) -> None:
    """A first SIGTERM after /drain ends no phase, whichever is in hand; a second one does."""
    process.drain.begin()
    process.loop.advance(2)
    process.drain.hasten()
    process.loop.advance(LAME_DUCK)
    assert (process.refuses, process.ended) == (LAME_DUCK, None)
    process.drain.hasten()
    process.loop.settle()
    assert process.cut == process.ended == LAME_DUCK + 2


def test_a_signal_in_a_drain_by_request_is_a_first_one(process: Process) -> None:
    """A first SIGTERM or SIGINT in the drain that /drain began cuts no call; a further one does."""
    process.drain.begin()
    process.loop.advance(LAME_DUCK + 1)
    process.drain.interrupt()
    process.loop.advance(1)
    assert process.ended is None
    process.drain.interrupt()
    process.loop.settle()
    assert process.cut == LAME_DUCK + 2


def test_an_interrupt_after_drain_ends_the_lame_duck(process: Process) -> None:
    """A first Ctrl-C after /drain skips the rest of the lame duck, as it always does."""
    process.drain.begin()
    process.loop.advance(2)
    process.drain.interrupt()
    process.loop.advance(1)
    assert (process.refuses, process.ended) == (2, None)


def test_no_lame_duck() -> None:
    """Without a lame duck, calls still have the whole timeout."""
    with VirtualLoop() as loop:
        other = Process(loop, 0, TIMEOUT)
        other.drain.hasten()
        loop.advance(10**6)
        assert (other.refuses, other.ended) == (0, TIMEOUT)


# The log


def lines_of(log: Log) -> list[tuple[object, ...]]:
    """Return message, milliseconds, calls in flight and refused calls of each line."""
    names = ("message", "duration_ms", "in_flight", "refused")
    return [tuple(entry[name] for name in names) for entry in log.entries]


def test_each_phase_has_a_line(process: Process) -> None:
    """The end of each phase is logged with its duration, and with the calls refused in it."""
    now = DrainCounts(in_flight=7, rest_connections=9, auth_api_connections=2, refused=100)
    process.drain.count = lambda: now
    phases = [process.drain.phase]
    with recorded() as log:
        process.drain.begin()
        process.loop.settle()
        phases.append(process.drain.phase)
        now = replace(now, refused=103)
        process.loop.advance(LAME_DUCK)
        phases.append(process.drain.phase)
        now = replace(now, in_flight=2, refused=104)
        process.loop.advance(TIMEOUT)
        phases.append(process.drain.phase)
        now = replace(now, in_flight=0)
        process.loop.call_soon(process.drain.log_stopped)
        process.loop.settle()
    assert phases == ["starting", "lame_duck", "drain", "cut"]
    assert lines_of(log) == [
        ("lame duck ended", LAME_DUCK * 1000, 7, 3),
        ("drain ended", TIMEOUT * 1000, 2, 1),
        ("cut ended", 0, 2, 0),
        ("stopped", (LAME_DUCK + TIMEOUT) * 1000, 0, 4),
    ]
    assert {(line["rest_connections"], line["auth_api_connections"]) for line in log.entries} == {
        (9, 2)
    }


def test_the_phase_before_a_shutdown(process: Process) -> None:
    """The process serves from its start on, and no more from the begin of the shutdown on."""
    drain = process.drain
    phases = [drain.phase]
    drain.started()
    phases.append(drain.phase)
    drain.begin()
    phases.append(drain.phase)
    assert phases == ["starting", "serving", "lame_duck"]


def test_a_shutdown_that_begins_during_the_start(process: Process) -> None:
    """A process that is stopped while it starts is starting, and then never serves."""
    drain = process.drain
    drain.begin()
    phases = [drain.phase]
    drain.started()
    phases.append(drain.phase)
    assert phases == ["starting", "lame_duck"]


def test_a_drain_that_ends_in_time_has_no_cut(process: Process) -> None:
    """Where all calls end by themselves there is no line about calls that were cut."""
    with recorded() as log:
        process.drain.interrupt()
        process.loop.advance(3)
        process.end_calls()
        process.loop.settle()
    assert lines_of(log) == [("lame duck ended", 0, 0, 0), ("drain ended", 3000, 0, 0)]


def test_what_fails_while_it_ends_is_told(process: Process) -> None:
    """An exception of the awaited shutdown is raised."""
    process.drain.begin()
    ending = process.loop.create_future()
    end = process.loop.create_task(process.drain.end(ending, process.end_calls))
    process.loop.settle()
    ending.set_exception(LookupError())
    process.loop.settle()
    assert isinstance(end.exception(), LookupError)


class Requests(RuleBasedStateMachine):
    """State machine: any requests at any time keep the rules of the drain."""

    _loop: VirtualLoop
    _process: Process

    @initialize(
        lame_duck=st.sampled_from((0.0, 0.5, 5.0)), timeout=st.sampled_from((0.5, 5.0, 20.0))
    )
    def start(self, lame_duck: float, timeout: float) -> None:
        """Start a process with one call in flight."""
        self._lame_duck, self._timeout = lame_duck, timeout
        self._loop = VirtualLoop()
        self._process = Process(self._loop, lame_duck, timeout)
        self._loop.settle()
        self._refused_by_wish = self._cut_by_wish = self._has_signal = False
        self._calls_ended: float | None = None

    @rule(seconds=st.sampled_from((0.25, 0.5, 1.0, 4.75, 20.0)))
    def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        self._loop.advance(seconds)

    @rule()
    def begin(self) -> None:
        """Request a drain by /drain, which ends no phase."""
        before = self._phase()
        self._process.drain.begin()
        self._loop.settle()
        lame_duck = 1 if self._lame_duck else 2
        assert self._phase() == max(before, lame_duck) or self._process.calls.done()

    @rule(is_interrupt=st.booleans())
    def signal(self, is_interrupt: bool) -> None:
        """Send a signal: a further one ends exactly the current phase, a first one no drain."""
        before, drain = self._phase(), self._process.drain
        is_further, self._has_signal = self._has_signal, True
        (drain.interrupt if is_interrupt else drain.hasten)()
        ends_lame_duck = before == 1 and (is_further or is_interrupt)
        if ends_lame_duck or (before == 0 and is_interrupt):
            self._refused_by_wish = True
        elif before == 2 and is_further:
            self._cut_by_wish = True
        self._loop.settle()
        steps = {0: 2 if is_interrupt else 1, 1: int(ends_lame_duck), 2: int(is_further), 3: 0}
        expected = before + steps[before]
        if expected == 1 and not self._lame_duck:
            expected = 2
        if expected == 2 and self._calls_ended is not None:
            expected = 3
        assert self._phase() == expected

    @precondition(lambda self: self._calls_ended is None and not self._process.calls.done())
    @rule()
    def end_calls(self) -> None:
        """End the call in flight."""
        self._calls_ended = self._loop.time()
        self._process.end_calls()
        self._loop.settle()

    @invariant()
    def holds_its_phases(self) -> None:
        """Check that the lame duck has its full length, unless a signal ended it."""
        process = self._process
        if process.refuses is not None and not self._refused_by_wish:
            assert process.began is not None
            assert process.refuses == process.began + self._lame_duck

    @invariant()
    def ends_in_time(self) -> None:
        """Check that the drain ends within the time of both phases."""
        process = self._process
        if process.began is not None:
            latest = process.began + self._lame_duck + self._timeout
            assert (self._loop.time() if process.ended is None else process.ended) <= latest

    @invariant()
    def loses_no_call(self) -> None:
        """Check that no call is cut early, and that the end waits for the calls."""
        process = self._process
        if process.cut is not None and not self._cut_by_wish:
            assert process.refuses is not None
            assert process.cut == process.refuses + self._timeout
        if process.ended is not None and process.cut is None:
            assert self._calls_ended is not None
            assert process.ended >= self._calls_ended

    def teardown(self) -> None:
        """Close the loop."""
        if hasattr(self, "_loop"):
            self._loop.__exit__()

    def _phase(self) -> int:
        """Return 0 before the drain, 1 in the lame duck, 2 while calls end, 3 after the end."""
        process = self._process
        return sum(when is not None for when in (process.began, process.refuses, process.ended))


TestRequests = Requests.TestCase
TestRequests.settings = settings(many, max_examples=60, stateful_step_count=20)
