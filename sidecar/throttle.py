"""The throttle: what keeps secrets from being guessed (RFC 6749 section 2.3.1).

Each exchange is charged before the auth-api sees it, and what was no wrong secret
is refunded after, so that no number of guesses at once passes a limit. A wrong
secret counts against its address, and against its client from this address, so that
a guesser locks out no one but the neighbours. Only the ceiling on all calls of one
client is the same for every address: who has a hundred networks can reach it.
"""

import hashlib
import math
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from karmo.problem.v1 import problem_details_pb2 as pb
from limits import RateLimitItemPerMinute
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter

from sidecar.client_address import network_of
from sidecar.credentials import ClientCredentials
from sidecar.problems import Problem, ProblemError

# The most windows that are remembered. Who invents clients to fill them makes the
# oldest forgotten, which would be the next to end.
MOST_WINDOWS = 100_000
_CHECK = "Calls in hand count until they end. Check the secret, and try again later."


@dataclass(frozen=True, slots=True, kw_only=True)
class _Charge:
    """One count against one limit."""

    limit: RateLimitItemPerMinute
    key: str
    detail: str
    is_refundable: bool = True


class Throttle:
    """Counts exchanges, each limit by windows of a minute that begin with the first.

    `client_failures` is the most wrong secrets for one client from one address,
    `address_failures` from one address, `client_calls` the most exchanges for one
    client. `now` gives seconds.
    """

    def __init__(
        self,
        *,
        client_failures: int,
        address_failures: int,
        client_calls: int,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client_failures = RateLimitItemPerMinute(client_failures, namespace="f")
        self._address_failures = RateLimitItemPerMinute(address_failures, namespace="a")
        self._client_calls = RateLimitItemPerMinute(client_calls, namespace="c")
        self._repetition = RateLimitItemPerMinute(1, namespace="r")
        self._windows = Windows(now)
        self._limiter = FixedWindowRateLimiter(self._windows)
        # Nobody can make two names share a window, or read one out of the memory.
        self._salt = secrets.token_bytes(16)

    @contextmanager
    def attempt(self, address: str, credentials: ClientCredentials) -> Iterator[None]:
        """Let one exchange run in the context, which tells by its error how it ended.

        Raises ProblemError where a limit is reached.
        """
        network = network_of(address)
        repetition = self._key(
            network, credentials.client_id.reveal(), credentials.client_secret.reveal()
        )
        charges = self._charges(network, credentials)
        if credentials.authorization is None and self._is_open(self._repetition, repetition):
            # Clients that do not know what the server takes send their secret by Basic, and
            # after a failure once more in the body: that is one guess.
            self._limiter.clear(self._repetition, repetition)
            charges = [charge for charge in charges if not charge.is_refundable]
        ends = self._charge(charges)
        is_failure = False
        try:
            yield
        except ProblemError as error:
            is_failure = error.problem.reason == pb.PROBLEM_REASON_INVALID_CLIENT
            if is_failure and credentials.authorization is not None:
                self._limiter.hit(self._repetition, repetition)
            raise
        finally:
            if not is_failure:
                self._refund(ends)

    def _charges(self, network: str, credentials: ClientCredentials) -> list[_Charge]:
        client = credentials.client_id.reveal()
        by_client, by_address, calls = (
            self._client_failures,
            self._address_failures,
            self._client_calls,
        )
        return [
            _Charge(
                limit=by_client,
                key=self._key(network, client),
                detail=f"There were {by_client.amount} wrong secrets in a minute "
                f"for this client from this address. {_CHECK}",
            ),
            _Charge(
                limit=by_address,
                key=self._key(network),
                detail=f"There were {by_address.amount} wrong secrets in a minute "
                f"from this address. {_CHECK}",
            ),
            _Charge(
                limit=calls,
                key=self._key(client),
                detail=f"There were {calls.amount} requests in a minute for this client. "
                "Use each token until it expires.",
                is_refundable=False,
            ),
        ]

    def _charge(self, charges: Sequence[_Charge]) -> Sequence[tuple[_Charge, float]]:
        """Make all charges, or none; return each with the end of its window.

        Raises ProblemError.
        """
        for charge in charges:
            if not self._limiter.test(charge.limit, charge.key):
                raise ProblemError(
                    Problem(
                        reason=pb.PROBLEM_REASON_TOO_MANY_ATTEMPTS,
                        detail=charge.detail,
                        retry_after=self._windows.seconds_left(charge.limit.key_for(charge.key)),
                    )
                )
        for charge in charges:
            self._limiter.hit(charge.limit, charge.key)
        return [(charge, self._end(charge)) for charge in charges]

    def _refund(self, ends: Sequence[tuple[_Charge, float]]) -> None:
        for charge, end in ends:
            # The window may have ended since, or been forgotten, and another one begun.
            is_open = self._is_open(charge.limit, charge.key) and self._end(charge) == end
            if charge.is_refundable and is_open:
                self._limiter.hit(charge.limit, charge.key, cost=-1)

    def _end(self, charge: _Charge) -> float:
        return self._windows.get_expiry(charge.limit.key_for(charge.key))

    def _is_open(self, limit: RateLimitItemPerMinute, key: str) -> bool:
        return self._windows.get(limit.key_for(key)) > 0

    def _key(self, *names: str) -> str:
        """Return what stands for `names`; no part of them has a NUL."""
        told = "\0".join(names).encode(errors="surrogatepass")
        return hashlib.blake2b(told, key=self._salt, digest_size=12).hexdigest()


class Windows(Storage):
    """Where `limits` counts: in memory of a bounded size, by a clock that nobody sets.

    Its own storage in memory is bounded by time alone, and starts a thread that looks
    through all of it. Here all windows are equally long, so the first is the next to end.
    """

    STORAGE_SCHEME = None

    def __init__(self, now: Callable[[], float]) -> None:
        super().__init__()
        self._now = now
        self._windows: dict[str, tuple[int, float]] = {}

    @property
    def base_exceptions(self) -> tuple[type[Exception], ...]:
        """Nothing here fails."""
        return ()

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Add `amount` to the window of `key`, or to a new one of `expiry` seconds; return all."""
        self._forget(is_new=key not in self._windows)
        count, end = self._windows.get(key, (0, self._now() + expiry))
        self._windows[key] = (count + amount, end)
        return count + amount

    def get(self, key: str) -> int:
        """Return the count of `key`."""
        count, end = self._windows.get(key, (0, 0.0))
        return count if end > self._now() else 0

    def get_expiry(self, key: str) -> float:
        """Return when the window of `key` ends."""
        return self._windows.get(key, (0, self._now()))[1]

    def seconds_left(self, key: str) -> int:
        """Return in how many whole seconds, at least one, the window of `key` is over."""
        return max(1, math.ceil(self.get_expiry(key) - self._now()))

    def check(self) -> bool:
        """Whether it works."""
        return True

    def reset(self) -> int | None:
        """Forget everything."""
        count = len(self._windows)
        self._windows.clear()
        return count

    def clear(self, key: str) -> None:
        """Forget `key`."""
        self._windows.pop(key, None)

    def __len__(self) -> int:
        return len(self._windows)

    def _forget(self, *, is_new: bool) -> None:
        """Forget what is over, and the oldest if there is no room for one that `is_new`."""
        now = self._now()
        most = MOST_WINDOWS - is_new
        while self._windows:
            oldest = next(iter(self._windows))
            if self._windows[oldest][1] > now and len(self._windows) <= most:
                break
            del self._windows[oldest]
