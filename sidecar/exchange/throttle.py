"""Throttle of guesses at client secrets (RFC 6749 section 2.3.1).

A wrong secret is counted three times, each with a limit of its own: for the client and the
address, for the address, and for the client over all addresses. The third limit does not
apply at an address where the client succeeded within 24 hours, so guesses from elsewhere
cannot lock the client out there. An address is an IPv4 address or an IPv6 /64 network.
"""

import hashlib
import secrets
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from karmo.problem.v1 import problem_details_pb2 as pb

from sidecar.auth_api.client_credentials import ClientCredentials, RejectedError
from sidecar.client_address import UNIX_PEER, network_of
from sidecar.exchange.windows import Windows
from sidecar.problems import Problem, ProblemError

# Maximum number of windows of each kind. Beyond it a new window evicts an old one, so that
# invented clients cannot fill the memory.
MAX_WINDOWS = 50_000
_MINUTE = 60.0
# Seconds for which an address is trusted after a client succeeded from it, and the maximum
# number of pairs of client and address that are remembered.
TRUST, MAX_TRUSTED = 24 * 3600.0, 10_000


class Limit(StrEnum):
    """The limits: three of wrong secrets, and one of exchanges."""

    CLIENT_FAILURES = "client_failures"
    ADDRESS_FAILURES = "address_failures"
    ALL_FAILURES = "all_failures"
    CLIENT_CALLS = "client_calls"


@dataclass(frozen=True, slots=True, kw_only=True)
class ThrottleCounts:
    """How many windows of each kind are kept now, including those that have just ended.

    `refused` are the exchanges refused so far, by the limit that refused them.
    """

    calls: int
    failures_of_pair: int
    failures_of_address: int
    failures_of_client: int
    guesses: int
    trusted: int
    refused: Mapping[Limit, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _FailureLimit:
    """A limit of `amount` wrong secrets per minute for `key`; `scope` describes it in texts."""

    name: Limit
    amount: int
    key: Hashable
    windows: Windows
    scope: str


class Throttle:
    """Limits the exchanges of each client and address in windows of one minute.

    * `client_failures`: maximum number of wrong secrets for one client from one address.
    * `address_failures`: maximum number of wrong secrets from one address.
    * `all_failures`: maximum number of wrong secrets for one client over all addresses.
    * `client_calls`: maximum number of exchanges for one client from one address.
    * `now` returns seconds.

    While a window has no wrong secret, calls in flight do not count. From its first wrong
    secret on, wrong secrets and calls in flight together are limited. So if guesses are sent
    in parallel, the auth-api receives at most the limit, plus the calls that were in flight
    at the first wrong secret.
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
        self._refused: Counter[Limit] = Counter()
        self._client_failures = client_failures
        self._address_failures = address_failures
        self._all_failures = all_failures
        self._client_calls = client_calls
        self._calls = Windows(_MINUTE, capacity=MAX_WINDOWS, now=now)
        self._failures_of_pair = Windows(_MINUTE, capacity=MAX_WINDOWS, now=now)
        self._failures_of_address = Windows(_MINUTE, capacity=MAX_WINDOWS, now=now)
        self._failures_of_client = Windows(_MINUTE, capacity=MAX_WINDOWS, now=now)
        self._guesses = Windows(_MINUTE, capacity=MAX_WINDOWS, now=now)
        self._trusted = Windows(TRUST, capacity=MAX_TRUSTED, now=now)
        self._in_flight: Counter[Hashable] = Counter()
        # A random key for the hashes. Without one, an attacker could compute two client ids
        # with the same hash, which would share a window.
        self._salt = secrets.token_bytes(16)

    @property
    def counts(self) -> ThrottleCounts:
        """The counts of now."""
        return ThrottleCounts(
            calls=len(self._calls),
            failures_of_pair=len(self._failures_of_pair),
            failures_of_address=len(self._failures_of_address),
            failures_of_client=len(self._failures_of_client),
            guesses=len(self._guesses),
            trusted=len(self._trusted),
            refused=dict(self._refused),
        )

    @contextmanager
    def attempt(self, address: str, credentials: ClientCredentials) -> Iterator[None]:
        """Count the exchange that runs in the context.

        `address` is the client's IP address. A RejectedError in the context is a wrong secret.
        Without any exception the client has succeeded, and its address is trusted. This method
        itself verifies nothing. Raises ProblemError if a limit is reached.
        """
        network = network_of(address)
        client = self._hash(credentials.client_id.reveal())
        # All hashes have the same length, so two different pairs never have the same key.
        pair = client + b"@" + network.encode()
        guess = pair + self._hash(credentials.client_secret.reveal())
        limits = self._limits(network, client, pair)
        # Some clients send their secret by Basic and, if that fails, again in the body. Both
        # requests together are one guess.
        if credentials.authorization is None and self._guesses.count(guess):
            limits = ()
        for limit in limits:
            self._check(limit)
        self._check_calls(pair)
        self._guesses.forget(guess)
        self._calls.add(pair)
        keys = [limit.key for limit in limits]
        self._in_flight.update(keys)
        try:
            yield
        except RejectedError:
            for limit in limits:
                limit.windows.add(limit.key)
            if credentials.authorization is not None:
                self._guesses.renew(guess)
            raise
        else:
            self._trusted.renew(pair)
        finally:
            self._release(keys)

    def _limits(self, network: str, client: bytes, pair: bytes) -> Sequence[_FailureLimit]:
        limits = (
            _FailureLimit(
                name=Limit.CLIENT_FAILURES,
                amount=self._client_failures,
                key=pair,
                windows=self._failures_of_pair,
                scope="for this client from this address",
            ),
            _FailureLimit(
                name=Limit.ADDRESS_FAILURES,
                amount=self._address_failures,
                key=network,
                windows=self._failures_of_address,
                scope="from this address",
            ),
            _FailureLimit(
                name=Limit.ALL_FAILURES,
                amount=self._all_failures,
                key=client,
                windows=self._failures_of_client,
                scope="for this client from all addresses",
            ),
        )
        # Behind a Unix socket are all clients of a proxy: their sum says nothing of one of them.
        kept = (limits[0], limits[2]) if network == UNIX_PEER else limits
        return kept[:-1] if self._trusted.count(pair) else kept

    def _check_calls(self, key: Hashable) -> None:
        if self._calls.count(key) >= self._client_calls:
            raise self._too_many(
                Limit.CLIENT_CALLS,
                f"There were {self._client_calls} requests in a minute for this client from this "
                "address. Use each token until it expires.",
                self._calls.seconds_left(key),
            )

    def _check(self, limit: _FailureLimit) -> None:
        """Raise ProblemError if one more wrong secret could exceed `limit`."""
        failures = limit.windows.count(limit.key)
        if failures >= limit.amount:
            raise self._too_many(
                limit.name,
                f"There were {limit.amount} wrong secrets in a minute {limit.scope}. "
                "Check the secret, and try again later.",
                limit.windows.seconds_left(limit.key),
            )
        in_flight = self._in_flight[limit.key]
        if failures and failures + in_flight >= limit.amount:
            raise self._too_many(
                limit.name,
                f"There were wrong secrets in the last minute {limit.scope}, so at most "
                f"{limit.amount - failures} requests may be in flight. Check the secret, and try "
                "again when one has ended.",
                1,
            )

    def _too_many(self, limit: Limit, detail: str, retry_after: int) -> ProblemError:
        """Count a refusal by `limit`, and return its problem."""
        self._refused[limit] += 1
        reason = pb.PROBLEM_REASON_TOO_MANY_ATTEMPTS
        return ProblemError(Problem(reason=reason, detail=detail, retry_after=retry_after))

    def _release(self, keys: Sequence[Hashable]) -> None:
        for key in keys:
            self._in_flight[key] -= 1
            if not self._in_flight[key]:
                del self._in_flight[key]

    def _hash(self, name: str) -> bytes:
        data = name.encode(errors="surrogatepass")
        return hashlib.blake2b(data, key=self._salt, digest_size=12).digest()
