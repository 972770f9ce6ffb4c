"""Throttle of guesses at client secrets (RFC 6749 section 2.3.1).

A wrong secret is counted three times, each with a limit of its own: for the client and the
address, for the address, and for the client over all addresses. The third limit does not
apply at an address where the client succeeded within 24 hours, so guesses from elsewhere
cannot lock the client out there. A call that its caller gave up is counted by the first two
limits, unless the client succeeded there within 24 hours. An address is an IPv4 address or an
IPv6 /64 network.
"""

import asyncio
import hashlib
import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from types import TracebackType

from sidecar.auth_api.client_credentials import ClientCredentials, RejectedError
from sidecar.client_address import UNIX_PEER, network_of
from sidecar.exchange.failure_limit import MAX_WINDOWS, MINUTE, FailureLimit, too_many
from sidecar.exchange.limit import Limit
from sidecar.exchange.shared_address import SharedAddress
from sidecar.exchange.windows import Windows
from sidecar.problems import Problem, ProblemError
from sidecar.secret import Secret

# Seconds for which an address is trusted after a client succeeded from it, and the maximum
# number of pairs of client and address that are remembered.
TRUST, MAX_TRUSTED = 24 * 3600.0, 10_000
# The key of a pair is the hash of the client, of so many bytes, and the network of the address.
_HASH_BYTES = 12
_UNIX = UNIX_PEER.encode()


# Takes a limit that has counted a wrong secret, and the key of its count.
OnFailure = Callable[[Limit, bytes], None]
# The limits that count an exchange, each with its name and the key of its count.
_Counted = Sequence[tuple[Limit, FailureLimit, bytes]]


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


class Throttle:
    """Limits the exchanges of each client and address in windows of one minute.

    * `client_failures`: maximum number of wrong secrets for one client from one address.
    * `address_failures`: maximum number of wrong secrets from one address.
    * `all_failures`: maximum number of wrong secrets for one client over all addresses.
    * `client_calls`: maximum number of exchanges for one client from one address.
    * `key` makes the hashes of client ids and secrets: by default a random one.
    * `on_failure` is called after each wrong secret, once for each limit that counted it. It must
      not raise. The key that it gets has a client only as a hash, an IP address in plain text.
    * `now` returns seconds.

    If guesses are sent in parallel, the auth-api receives at most the limit, plus the calls
    that were in flight at the first wrong secret.
    """

    def __init__(
        self,
        *,
        client_failures: int,
        address_failures: int,
        all_failures: int,
        client_calls: int,
        key: bytes | None = None,
        on_failure: OnFailure | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._of_pair = FailureLimit(client_failures, "for this client from this address")
        self._of_address = FailureLimit(address_failures, "from this address")
        self._of_client = FailureLimit(all_failures, "for this client from all addresses")
        self._limits: Mapping[Limit, FailureLimit] = {
            Limit.CLIENT_FAILURES: self._of_pair,
            Limit.ADDRESS_FAILURES: self._of_address,
            Limit.ALL_FAILURES: self._of_client,
        }
        self._client_calls = client_calls
        self._calls = Windows(MINUTE, capacity=MAX_WINDOWS)
        self._guesses = Windows(MINUTE, capacity=MAX_WINDOWS)
        self._trusted = Windows(TRUST, capacity=MAX_TRUSTED)
        self._shared_address = SharedAddress()
        self._refused: Counter[Limit] = Counter()
        self._on_failure = on_failure
        self._now = now
        # Without a key, an attacker could compute two client ids with the same hash, which
        # would share a window. blake2b takes keys of at most 64 bytes, hence the digest.
        derived = hashlib.blake2b(key or secrets.token_bytes(32)).digest()
        # All hashes have the same length, so two different pairs never have the same key.
        self._keyed = hashlib.blake2b(key=derived, digest_size=_HASH_BYTES)

    @property
    def counts(self) -> ThrottleCounts:
        """The counts of now."""
        return ThrottleCounts(
            calls=len(self._calls),
            failures_of_pair=len(self._of_pair.failures),
            failures_of_address=len(self._of_address.failures),
            failures_of_client=len(self._of_client.failures),
            guesses=len(self._guesses),
            trusted=len(self._trusted),
            refused=dict(self._refused),
        )

    def attempt(self, address: str, credentials: ClientCredentials) -> AbstractContextManager[None]:
        """Begin an exchange, and return the context in which it runs. Enter it at once.

        `address` is the client's IP address. A RejectedError in the context is a wrong secret.
        Without any exception the client has succeeded, and its address is trusted. The throttle
        itself verifies nothing. Raises ProblemError if a limit is reached.
        """
        now = self._now()
        network = network_of(address).encode()
        client = self._hash(credentials.client_id)
        pair = client + network
        counted = self._limits_of(pair, network, client, now)
        if credentials.authorization is None and self._repeats(pair, credentials, now):
            counted = ()
        for name, limit, key in counted:
            refusal = limit.refusal(key, now)
            if refusal is not None:
                raise self._refused_by(name, refusal)
        if self._calls.add(pair, now) > self._client_calls:
            raise self._refused_by(Limit.CLIENT_CALLS, self._too_many_calls(pair, now))
        for _, limit, key in counted:
            limit.begin(key)
        return _Running(partial(self._end, pair, counted, credentials))

    def learn(self, limit: Limit, key: bytes, count: int, seconds: float) -> None:
        """Raise the wrong secrets that `limit` has counted for `key` to `count`.

        `count` is known from elsewhere, such as other replicas, and so is the time in `seconds`
        after which its window ends; a minute at most counts. A `count` that is not higher than
        the one here changes nothing. Raises KeyError if `limit` counts no wrong secrets.
        """
        self._limits[limit].failures.learn(key, count, seconds, self._now())

    def _limits_of(self, pair: bytes, network: bytes, client: bytes, now: float) -> _Counted:
        """Return the limits that an exchange can reach. The last one spares trusted addresses."""
        of_pair = (Limit.CLIENT_FAILURES, self._of_pair, pair)
        of_address = (Limit.ADDRESS_FAILURES, self._of_address, network)
        of_client = (Limit.ALL_FAILURES, self._of_client, client)
        is_trusted = self._is_trusted(pair, now)
        if network == _UNIX:
            # Its clients are all those of a proxy: their sum says nothing of one of them.
            return (of_pair,) if is_trusted else (of_pair, of_client)
        return (of_pair, of_address) if is_trusted else (of_pair, of_address, of_client)

    def _repeats(self, pair: bytes, credentials: ClientCredentials, now: float) -> bool:
        """Whether this is a guess that failed by Basic and now, once, comes in the body.

        Some clients send their secret by Basic and, if that fails, again in the body. Both
        requests together are one guess. Without a recent wrong secret of the pair there is
        nothing to repeat.
        """
        if not self._of_pair.failures.count(pair, now):
            return False
        guess = pair + self._hash(credentials.client_secret)
        is_repeated = self._guesses.count(guess, now) > 0
        self._guesses.forget(guess)
        return is_repeated

    def _end(
        self,
        pair: bytes,
        counted: _Counted,
        credentials: ClientCredentials,
        error: BaseException | None,
    ) -> None:
        """End an exchange that `error` ended, or that succeeded if it is None."""
        for _, limit, key in counted:
            limit.end(key)
        now = self._now()
        if error is None:
            is_new = self._trusted.renew(pair, now)
            if is_new:
                self._shared_address.succeeded(pair[:_HASH_BYTES], pair[_HASH_BYTES:])
        elif isinstance(error, RejectedError):
            if credentials.authorization is not None:
                self._guesses.renew(pair + self._hash(credentials.client_secret), now)
            self._count_failure(counted, now)
        elif isinstance(error, asyncio.CancelledError) and not self._is_trusted(pair, now):
            # Its caller left, or its deadline passed. A guesser could see from that alone that a
            # secret is wrong, where the auth-api takes longer to refuse than to accept.
            local = [one for one in counted if one[0] is not Limit.ALL_FAILURES]
            self._count_failure(local, now)

    def _is_trusted(self, pair: bytes, now: float) -> bool:
        return self._trusted.count(pair, now) > 0

    def _count_failure(self, counted: _Counted, now: float) -> None:
        for name, limit, key in counted:
            limit.failures.add(key, now)
            if self._on_failure is not None:
                self._on_failure(name, key)

    def _too_many_calls(self, pair: bytes, now: float) -> Problem:
        return too_many(
            f"There were {self._client_calls} requests in a minute for this client from this "
            "address. Use each token until it expires.",
            self._calls.seconds_left(pair, now),
        )

    def _refused_by(self, limit: Limit, refusal: Problem) -> ProblemError:
        self._refused[limit] += 1
        return ProblemError(refusal)

    def _hash(self, value: Secret[str]) -> bytes:
        # Copying a hash object costs less than making one with its key.
        keyed = self._keyed.copy()
        keyed.update(value.reveal().encode(errors="surrogatepass"))
        return keyed.digest()


class _Running:
    """The context of a running exchange: calls `end` with the exception that ended it."""

    __slots__ = ("_end",)

    def __init__(self, end: Callable[[BaseException | None], None]) -> None:
        self._end = end

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        _type: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._end(error)
