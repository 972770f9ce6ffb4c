"""The retry budget on a clock that the tests set, and the pause before a second try."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from sidecar.auth_api import retry
from sidecar.auth_api.retry import RetryBudget
from tests.auth_api.clock import Clock, machines, seconds

# What sums of tenths may be off by.
NEARLY = 1e-6


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


# The pause before the second try


def test_second_tries_are_spread() -> None:
    """Waits lie anywhere from nothing to 50 ms, so that callers who failed at once come apart."""
    waits = [retry.jitter() for _ in range(1000)]
    assert all(0.0 <= wait <= 0.05 for wait in waits)
    assert min(waits) < 0.01 < 0.04 < max(waits)
