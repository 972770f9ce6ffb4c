"""A limit of wrong secrets in a minute, for each key."""

from karmo.problem.v1 import problem_details_pb2 as pb

from sidecar.exchange.windows import Windows
from sidecar.problems import Problem

# Maximum number of windows of one limit. Beyond it a new window evicts an old one, so that
# invented clients cannot fill the memory.
MAX_WINDOWS = 50_000
MINUTE = 60.0
_COUNTED = "wrong secrets, or requests that were given up,"


class FailureLimit:
    """Limits wrong secrets and, beside a wrong secret, the exchanges in flight.

    `amount` is the maximum number of wrong secrets in a minute; `scope` says in the texts of
    problems what they have in common. A key is that of a client, of an address, or of both.
    `now` is the time in seconds.

    While a key has no wrong secret, its exchanges in flight are not limited. From its first
    wrong secret on, wrong secrets and exchanges in flight together are.
    """

    def __init__(self, amount: int, scope: str) -> None:
        self.failures = Windows(MINUTE, capacity=MAX_WINDOWS)
        self._amount = amount
        self._scope = scope
        # Only keys with an exchange in flight are in it. It is never read from its front, so
        # deleted entries cost nothing.
        self._in_flight: dict[bytes, int] = {}

    @property
    def in_flight(self) -> int:
        """The number of keys that have an exchange in flight."""
        return len(self._in_flight)

    def refusal(self, key: bytes, now: float) -> Problem | None:
        """Return the problem if one more wrong secret of `key` could exceed the limit."""
        failures = self.failures.count(key, now)
        if not failures or failures + self._in_flight.get(key, 0) < self._amount:
            return None
        if failures < self._amount:
            return too_many(
                f"There were {_COUNTED} in the last minute {self._scope}, so at most "
                f"{self._amount - failures} requests may be in flight. Check the secret, and try "
                "again when one has ended.",
                1,
            )
        return too_many(
            f"There were {self._amount} {_COUNTED} in a minute {self._scope}. "
            "Check the secret, and try again later.",
            self.failures.seconds_left(key, now),
        )

    def begin(self, key: bytes) -> None:
        """Count an exchange of `key` as in flight."""
        self._in_flight[key] = self._in_flight.get(key, 0) + 1

    def end(self, key: bytes) -> None:
        """Count an exchange of `key` no longer as in flight."""
        others = self._in_flight[key] - 1
        if others:
            self._in_flight[key] = others
        else:
            del self._in_flight[key]


def too_many(detail: str, retry_after: int) -> Problem:
    """Return the problem of a limit that is reached, for `retry_after` seconds."""
    reason = pb.PROBLEM_REASON_TOO_MANY_ATTEMPTS
    return Problem(reason=reason, detail=detail, retry_after=retry_after)
