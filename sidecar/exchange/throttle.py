"""The throttle: limits of guessing for client secrets (RFC 6749 section 2.3.1).

A wrong secret counts against its client from this address, against its address, and
against its client from all addresses. What an address does limits that address alone:
the limit of all addresses together spares those from which the client succeeded lately.
"""

import hashlib
import secrets
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from karmo.problem.v1 import problem_details_pb2 as pb

from sidecar.auth_api.client_credentials import ClientCredentials, RejectedError
from sidecar.client_address import network_of
from sidecar.exchange.windows import Windows
from sidecar.problems import Problem, ProblemError

# Of each kind. Clients that are invented to fill the memory make old windows forgotten.
MAX_WINDOWS = 50_000
_MINUTE = 60.0
# Addresses from which a client succeeded: for so many seconds, so many of all clients.
TRUST, MAX_TRUSTED = 24 * 3600.0, 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _FailureLimit:
    """At most `amount` wrong secrets in a minute for `key`."""

    amount: int
    key: Hashable
    windows: Windows
    whose: str


class Throttle:
    """Limits the exchanges of each client and address, by windows of a minute.

    `client_failures` is the most wrong secrets for one client from one address,
    `address_failures` from one address, and `all_failures` for one client from all
    addresses. `client_calls` is the most exchanges for one client from one address.
    `now` gives seconds.

    While no wrong secret stands in a window, calls in flight are not limited here. As
    soon as one does, calls in flight count as well. So of guesses at once no more than
    the limit and the calls in flight reach the auth-api.
    """

    def __init__(
        self,
        *,
        client_failures: int,
        address_failures: int,
        all_failures: int,
        client_calls: int,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client_failures = client_failures
        self._address_failures = address_failures
        self._all_failures = all_failures
        self._client_calls = client_calls
        self._calls = Windows(_MINUTE, most=MAX_WINDOWS, now=now)
        self._failures_here = Windows(_MINUTE, most=MAX_WINDOWS, now=now)
        self._failures_of_address = Windows(_MINUTE, most=MAX_WINDOWS, now=now)
        self._failures_of_client = Windows(_MINUTE, most=MAX_WINDOWS, now=now)
        self._pairs = Windows(_MINUTE, most=MAX_WINDOWS, now=now)
        self._trusted = Windows(TRUST, most=MAX_TRUSTED, now=now)
        self._in_flight: Counter[Hashable] = Counter()
        # Nobody can make two names share a window, or read one out of the memory.
        self._salt = secrets.token_bytes(16)

    @contextmanager
    def attempt(self, address: str, credentials: ClientCredentials) -> Iterator[None]:
        """Let one exchange run in the context; RejectedError tells that it failed.

        Raises ProblemError where a limit is reached.
        """
        network = network_of(address)
        client = self._hash(credentials.client_id.reveal())
        # Hashes have one length, so no two names run together.
        here = client + b"@" + network.encode()
        pair = here + self._hash(credentials.client_secret.reveal())
        limits = self._limits(network, client, here)
        # Clients that do not know what the server takes send their secret by Basic, and
        # after a failure once more in the body: that is one guess.
        if credentials.authorization is None and self._pairs.count(pair):
            limits = ()
        for limit in limits:
            self._check(limit)
        self._check_calls(here)
        self._pairs.forget(pair)
        self._calls.add(here)
        keys = [limit.key for limit in limits]
        self._in_flight.update(keys)
        try:
            yield
        except RejectedError:
            for limit in limits:
                limit.windows.add(limit.key)
            if credentials.authorization is not None:
                self._pairs.renew(pair)
            raise
        else:
            self._trusted.renew(here)
        finally:
            self._land(keys)

    def _limits(self, network: str, client: bytes, here: bytes) -> Sequence[_FailureLimit]:
        limits = (
            _FailureLimit(
                amount=self._client_failures,
                key=here,
                windows=self._failures_here,
                whose="for this client from this address",
            ),
            _FailureLimit(
                amount=self._address_failures,
                key=network,
                windows=self._failures_of_address,
                whose="from this address",
            ),
            _FailureLimit(
                amount=self._all_failures,
                key=client,
                windows=self._failures_of_client,
                whose="for this client from all addresses",
            ),
        )
        return limits[:2] if self._trusted.count(here) else limits

    def _check_calls(self, key: Hashable) -> None:
        if self._calls.count(key) >= self._client_calls:
            raise _too_many(
                f"There were {self._client_calls} requests in a minute for this client from this "
                "address. Use each token until it expires.",
                self._calls.seconds_left(key),
            )

    def _check(self, limit: _FailureLimit) -> None:
        """Raise ProblemError where one more wrong secret would pass `limit`."""
        failures = limit.windows.count(limit.key)
        if failures >= limit.amount:
            raise _too_many(
                f"There were {limit.amount} wrong secrets in a minute {limit.whose}. "
                "Check the secret, and try again later.",
                limit.windows.seconds_left(limit.key),
            )
        in_flight = self._in_flight[limit.key]
        if failures and failures + in_flight >= limit.amount:
            raise _too_many(
                f"There were wrong secrets in the last minute {limit.whose}, so at most "
                f"{limit.amount - failures} requests may be in flight. Check the secret, and try "
                "again when one has ended.",
                1,
            )

    def _land(self, keys: Sequence[Hashable]) -> None:
        for key in keys:
            self._in_flight[key] -= 1
            if not self._in_flight[key]:
                del self._in_flight[key]

    def _hash(self, name: str) -> bytes:
        data = name.encode(errors="surrogatepass")
        return hashlib.blake2b(data, key=self._salt, digest_size=12).digest()


def _too_many(detail: str, retry_after: int) -> ProblemError:
    return ProblemError(
        Problem(reason=pb.PROBLEM_REASON_TOO_MANY_ATTEMPTS, detail=detail, retry_after=retry_after)
    )
