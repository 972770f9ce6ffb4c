"""A clock that tests set, and strategies for the time that passes on it."""

from hypothesis import settings
from hypothesis import strategies as st

from tests.properties import many

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
