"""The circuit breaker on a clock that the tests set: who is admitted, and when."""

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, rule

from sidecar.auth_api import fail_fast as breaker
from sidecar.auth_api.fail_fast import FailFast
from tests.auth_api.clock import Clock, machines, seconds


def fail(fail_fast: FailFast, times: int = breaker.DOWN_AFTER) -> None:
    """Let so many connections that were admitted before not open."""
    for _ in range(times):
        fail_fast.failed()


def test_a_few_failures_stop_nobody(clock: Clock) -> None:
    """Four connections in a row that do not open may be chance."""
    fail_fast = FailFast(clock)
    fail(fail_fast, 4)
    assert fail_fast.admit() == 0


def test_only_failures_in_a_row_count(clock: Clock) -> None:
    """A connection that opens makes those before it forgotten."""
    fail_fast = FailFast(clock)
    for _ in range(3):
        fail(fail_fast, 4)
        fail_fast.succeeded()
    assert fail_fast.admit() == 0


def test_five_failures_stop_everybody_for_a_second(clock: Clock) -> None:
    """When it is down, callers are told at once in how many whole seconds to come."""
    fail_fast = FailFast(clock)
    fail(fail_fast)
    assert fail_fast.admit() == 1
    clock.pass_(0.999)
    assert fail_fast.admit() == 1


def test_one_caller_looks_again(clock: Clock) -> None:
    """When the pause is over one caller may try, and the others wait for what it finds."""
    fail_fast = FailFast(clock)
    fail(fail_fast)
    clock.pass_(1.0)
    assert [fail_fast.admit() for _ in range(3)] == [0, 1, 1]
    fail_fast.succeeded()
    assert [fail_fast.admit() for _ in range(3)] == [0, 0, 0]


def test_each_look_that_fails_doubles_the_pause(clock: Clock) -> None:
    """What stays down is looked at after 1, 2, 4 and 8 seconds, and every 8 from then on."""
    fail_fast = FailFast(clock)
    fail(fail_fast)
    pauses = []
    for _ in range(20):
        pauses.append(fail_fast.admit())
        clock.pass_(pauses[-1])
        assert fail_fast.admit() == 0
        fail_fast.failed(is_probe=True)
    assert pauses == [1, 2, 4, *[8] * 17]


def test_many_failures_at_once_are_one_finding(clock: Clock) -> None:
    """However many calls were under way when it went down, it is left alone for a second only."""
    fail_fast = FailFast(clock)
    fail(fail_fast, 100)
    assert fail_fast.admit() == 1


def test_the_pause_is_short_again_after_it_was_up(clock: Clock) -> None:
    """How long it was down the last time says nothing of this time."""
    fail_fast = FailFast(clock)
    fail(fail_fast)
    clock.pass_(1.0)
    assert fail_fast.admit() == 0
    fail_fast.failed(is_probe=True)
    fail_fast.succeeded()
    fail(fail_fast)
    assert fail_fast.admit() == 1


def test_a_look_whose_caller_leaves_costs_one_pause(clock: Clock) -> None:
    """A try that ends without a finding leaves the next one to the caller after the same pause."""
    fail_fast = FailFast(clock)
    fail(fail_fast)
    clock.pass_(1.0)
    assert [fail_fast.admit(), fail_fast.admit()] == [0, 1]
    clock.pass_(1.0)
    assert [fail_fast.admit(), fail_fast.admit()] == [0, 1]


def test_a_look_that_is_given_back(clock: Clock) -> None:
    """A probe whose caller leaves before it learned anything is left to the next caller at once."""
    fail_fast = FailFast(clock)
    fail(fail_fast)
    clock.pass_(1.0)
    assert [fail_fast.admit(), fail_fast.admit()] == [0, 1]
    fail_fast.give_back()
    assert [fail_fast.admit(), fail_fast.admit()] == [0, 1]


def test_a_late_failure_is_no_probe(clock: Clock) -> None:
    """A connection that was under way when it went down neither ends nor lengthens the pause."""
    fail_fast = FailFast(clock)
    fail(fail_fast)
    clock.pass_(1.0)
    assert fail_fast.admit() == 0
    clock.pass_(0.9)
    fail_fast.failed()
    clock.pass_(0.1)
    assert fail_fast.admit() == 0


class FailFastMachine(RuleBasedStateMachine):
    """Whatever overlaps, what is down gets one try in a pause, and what is up gets all."""

    tries = Bundle("tries")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.fail_fast = FailFast(self.clock)
        self.failures = 0
        # When a try was let through last, or it was found down, since it is down.
        self.last = 0.0

    @property
    def is_down(self) -> bool:
        """Whether so many connections in a row did not open."""
        return self.failures >= breaker.DOWN_AFTER

    @rule(target=tries, count=st.integers(1, 8))
    def call(self, count: int) -> list[bool]:
        """Let calls come; return for each that may try whether it is a probe."""
        admitted: list[bool] = []
        for _ in range(count):
            told = self.fail_fast.admit()
            assert 0 <= told <= breaker.MAX_PAUSE
            assert self.is_down or told == 0
            if self.is_down and told == 0:
                assert self.clock.now - self.last >= breaker.FIRST_PAUSE
                self.last = self.clock.now
            if told == 0:
                admitted.append(self.is_down)
        return admitted

    @rule(probes=consumes(tries))
    def fail(self, probes: list[bool]) -> None:
        """Let tries find nobody."""
        for is_probe in probes:
            self.fail_fast.failed(is_probe=is_probe)
            self.failures += 1
            if self.failures == breaker.DOWN_AFTER:
                self.last = self.clock.now

    @rule(probes=consumes(tries))
    def succeed(self, probes: list[bool]) -> None:
        """Let tries open their connections."""
        for _ in probes:
            self.fail_fast.succeeded()
            self.failures = 0

    @rule(probes=consumes(tries))
    def leave(self, probes: list[bool]) -> None:
        """Let the callers of tries go away, which leaves the next probe to anybody."""
        if self.is_down and any(probes):
            self.fail_fast.give_back()
            assert self.fail_fast.admit() == 0
            self.last = self.clock.now

    @rule(passed=seconds)
    def wait(self, passed: float) -> None:
        """Let time pass."""
        self.clock.pass_(passed)

    @rule()
    def wait_as_told(self) -> None:
        """Come again when it was said that one may, which must then be true."""
        told = self.fail_fast.admit()
        self.clock.pass_(told)
        assert not told or self.fail_fast.admit() == 0
        if self.is_down:
            self.last = self.clock.now


TestFailFastMachine = FailFastMachine.TestCase
TestFailFastMachine.settings = machines
