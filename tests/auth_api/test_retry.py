"""The retry rule on a clock that the tests set: when a second try is made, when not even one."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from sidecar.auth_api import retry
from sidecar.auth_api.retry import FailFast, RetryBudget
from tests.properties import many

# What sums of tenths may be off by.
NEARLY = 1e-6
# Seconds to let pass, as parts of two, so that their sums are exact: from nothing to more than
# any pause lasts.
seconds = st.one_of(
    st.integers(0, 2048).map(lambda parts: parts / 1024), st.sampled_from([4.0, 8.0, 60.0])
)
machines = settings(many, max_examples=60, stateful_step_count=40)


class Clock:
    """A clock that stands still but for `pass_`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return what it shows, in seconds."""
        return self.now

    def pass_(self, seconds: float) -> None:
        """Let so much time pass."""
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    """Give a clock that stands still."""
    return Clock()


# The budget


def retries_of(budget: RetryBudget) -> int:
    """Return how many retries the budget gives one after the other, all at this moment."""
    return sum(budget.spend() for _ in range(100))


def test_a_new_budget_holds_one_retry(clock: Clock) -> None:
    """The first caller after the start may try again, the second one not."""
    assert retries_of(RetryBudget(clock)) == 1


@pytest.mark.parametrize(("calls", "retries"), [(9, 1), (10, 2), (11, 2), (25, 3), (10**4, 10)])
def test_a_tenth_of_the_exchanges_may_be_tried_again(
    clock: Clock, calls: int, retries: int
) -> None:
    """Ten exchanges earn one retry beside the first one, and no burst gets more than ten."""
    budget = RetryBudget(clock)
    for _ in range(calls):
        budget.earn()
    assert retries_of(budget) == retries


@pytest.mark.parametrize(("passed", "retries"), [(0.9, 1), (1.0, 2), (3.5, 4), (3600.0, 10)])
def test_each_second_earns_a_retry(clock: Clock, passed: float, retries: int) -> None:
    """With few exchanges there is still one retry in a second, and no burst after an hour."""
    budget = RetryBudget(clock)
    clock.pass_(passed)
    assert retries_of(budget) == retries


@pytest.mark.parametrize("rate", [1, 10, 100, 1000])
def test_retries_add_at_most_a_tenth_to_the_load(clock: Clock, rate: int) -> None:
    """If every try fails for a minute, the load is that of the callers, a tenth, and the floor."""
    budget = RetryBudget(clock)
    retries = 0
    for _ in range(60 * rate):
        budget.earn()
        retries += budget.spend()
        clock.pass_(1 / rate)
    assert retries <= 0.1 * 60 * rate + 60 + 1
    assert retries >= min(60 * rate, 0.1 * 60 * rate) - 1


class BudgetMachine(RuleBasedStateMachine):
    """Whatever happens in whatever order, the budget is neither passed nor withheld."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.budget = RetryBudget(self.clock)
        self.start = self.clock.now
        self.calls = self.retries = 0
        self.saved = 1.0

    def save(self, more: float) -> None:
        """Do the sum that the budget must do."""
        self.saved = min(retry.MAX_SAVED, self.saved + more)

    @rule(count=st.integers(1, 30))
    def call(self, count: int) -> None:
        """Let some exchanges come."""
        for _ in range(count):
            self.budget.earn()
            self.save(0.1)
        self.calls += count

    @rule(passed=seconds)
    def wait(self, passed: float) -> None:
        """Let time pass."""
        self.clock.pass_(passed)
        self.save(passed)

    @rule(count=st.integers(1, 12))
    def retry(self, count: int) -> None:
        """Ask for retries, which must be given as long as there is a whole one."""
        for _ in range(count):
            is_given = self.budget.spend()
            if abs(self.saved - 1.0) > NEARLY:
                assert is_given == (self.saved > 1.0)
            self.saved -= is_given
            self.retries += is_given

    @invariant()
    def is_kept(self) -> None:
        """Check the promise: a tenth of the exchanges, one in each second, and the first."""
        elapsed = self.clock.now - self.start
        assert self.retries <= 1 + 0.1 * self.calls + elapsed + NEARLY


TestBudgetMachine = BudgetMachine.TestCase
TestBudgetMachine.settings = machines


# Failing fast


def fail(fail_fast: FailFast, times: int = retry.DOWN_AFTER) -> None:
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
        return self.failures >= retry.DOWN_AFTER

    @rule(target=tries, count=st.integers(1, 8))
    def call(self, count: int) -> list[bool]:
        """Let calls come; return for each that may try whether it is a probe."""
        admitted: list[bool] = []
        for _ in range(count):
            told = self.fail_fast.admit()
            assert 0 <= told <= retry.MAX_PAUSE
            assert self.is_down or told == 0
            if self.is_down and told == 0:
                assert self.clock.now - self.last >= retry.FIRST_PAUSE
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
            if self.failures == retry.DOWN_AFTER:
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


# The pause before the second try


def test_second_tries_are_spread() -> None:
    """Waits lie anywhere from nothing to 50 ms, so that callers who failed at once come apart."""
    waits = [retry.jitter() for _ in range(1000)]
    assert all(0.0 <= wait <= 0.05 for wait in waits)
    assert min(waits) < 0.01 < 0.04 < max(waits)
