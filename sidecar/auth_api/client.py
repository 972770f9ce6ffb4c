"""The client of the auth-api's token endpoint, with timeouts, one retry and fail-fast.

Only this module and `transport` know the HTTP client library.
"""

import asyncio
import math
import ssl
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self, cast

import httpx2
from karmo.problem.v1 import problem_details_pb2 as pb

from sidecar import logs
from sidecar.auth_api import request, retry
from sidecar.auth_api.client_credentials import ClientCredentials, RejectedError
from sidecar.auth_api.dns.resolver import LookUps, Resolver
from sidecar.auth_api.fail_fast import FailFast
from sidecar.auth_api.faults import UpstreamError
from sidecar.auth_api.outcomes import Observe, ignore, recorded
from sidecar.auth_api.request import ClientAuthentication
from sidecar.auth_api.response import Response, Token, interpret, registered_error
from sidecar.auth_api.retry import RetryBudget
from sidecar.auth_api.transport.errors import TransportError
from sidecar.auth_api.transport.keep_alive import KeepAliveTransport, Origin
from sidecar.auth_api.transport.pool import ConnectionCounters, ConnectionPool
from sidecar.auth_api.transport.progress import Progress
from sidecar.call import current_call
from sidecar.problems import Problem, ProblemError
from sidecar.secret import Secret
from sidecar.spans import Endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Timeouts in seconds: to open a connection, for one try, for a whole exchange."""

    connect: float = 0.5
    one_try: float = 2.0
    total: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthApiCounts:
    """Counts of exchanges. `tries` includes second tries; `is_down` is the state of fail-fast."""

    connections: ConnectionCounters
    look_ups: LookUps
    tries: int
    second_tries: int
    is_down: bool


class AuthApi:
    """Exchanges credentials at the token endpoint of the auth-api.

    `tls` returns the current SSL context, which https needs: without it ValueError is raised.
    `authentication` is how credentials are sent. Idle connections are kept for `keep_alive`
    seconds. While DNS fails, the last known addresses are used for `dns_stale` seconds.
    `observe` gets each exchange.
    """

    def __init__(
        self,
        token_url: str,
        timeouts: Timeouts,
        *,
        tls: Callable[[], ssl.SSLContext] | None = None,
        authentication: ClientAuthentication = ClientAuthentication.AS_RECEIVED,
        keep_alive: float = 4.0,
        dns_stale: float = 300.0,
        fail_fast: FailFast | None = None,
        observe: Observe | None = None,
    ) -> None:
        self._url = httpx2.URL(token_url)
        self._host = self._url.netloc.decode("ascii")
        self._endpoint = Endpoint.of(token_url)
        self._timeouts = timeouts
        self._authentication = authentication
        self._pool = ConnectionPool(keep_alive)
        self._resolver = Resolver(stale=dns_stale)
        self._transport = KeepAliveTransport(
            Origin.of(self._url),
            pool=self._pool,
            resolver=self._resolver,
            connect_timeout=timeouts.connect,
            tls=tls,
        )
        self._budget = RetryBudget()
        self._fail_fast = fail_fast or FailFast()
        self._observe = observe or ignore
        self._tries = self._second_tries = 0

    @property
    def counts(self) -> AuthApiCounts:
        """The counts of now."""
        return AuthApiCounts(
            connections=replace(self._pool.counters, closed=Counter(self._pool.counters.closed)),
            look_ups=self._resolver.look_ups,
            tries=self._tries,
            second_tries=self._second_tries,
            is_down=self._fail_fast.is_down,
        )

    @property
    def must_decode(self) -> bool:
        """Whether credentials in a Basic header are needed in decoded form."""
        return self._authentication is not ClientAuthentication.AS_RECEIVED

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._transport.aclose()

    async def exchange(self, credentials: ClientCredentials, *, deadline: float | None) -> Token:
        """Return a token for `credentials`.

        `deadline` is the caller's, in the time of the event loop. Raises RejectedError if
        the auth-api rejects the credentials, and ProblemError for every other failure, also
        when the deadline or a timeout passes.
        """
        progress = Progress()
        with recorded(progress, self._observe):
            outcome = await self._interpret(credentials, progress, deadline)
            if isinstance(outcome, Token):
                return outcome
            is_rejected = outcome.reason == pb.PROBLEM_REASON_INVALID_CLIENT
            raise (RejectedError if is_rejected else ProblemError)(outcome)

    async def _interpret(
        self, credentials: ClientCredentials, progress: Progress, deadline: float | None
    ) -> Token | Problem:
        """Return the interpreted response. Raises UpstreamError if there is none."""
        now = asyncio.get_running_loop().time()
        end = min(now + self._timeouts.total, math.inf if deadline is None else deadline)
        if end <= now:  # over a kept connection a request would be sent at once
            raise UpstreamError("timeout")
        response = await self._ask(credentials, progress, end)
        error = registered_error(response)
        if error is not None:
            current_call().note(upstream_error=error)
        return interpret(response, credentials)

    async def _ask(
        self, credentials: ClientCredentials, progress: Progress, end: float
    ) -> Response:
        """Return the response, from a second try if the first was refused and there is time.

        While the auth-api is down there is no second try: it would fail fast, and hide the fault.
        """
        self._budget.earn()
        try:
            return await self._try(credentials, progress, end)
        except UpstreamError as error:
            progress.end_try(error.name)
            pause = retry.jitter()
            now = asyncio.get_running_loop().time()
            is_in_time = now + pause + self._timeouts.connect < end
            is_useful = error.name == "refused" and not self._fail_fast.is_down and is_in_time
            if not is_useful or not self._budget.spend():
                raise
        current_call().note(upstream_tries=2)
        await asyncio.sleep(pause)
        self._second_tries += 1
        return await self._try(credentials, progress, end)

    async def _try(
        self, credentials: ClientCredentials, progress: Progress, end: float
    ) -> Response:
        """Return the response to one request, which takes no longer than to `end`."""
        seconds = self._fail_fast.admit()
        if seconds:
            raise UpstreamError("fail_fast", retry_after=seconds)
        self._tries += 1
        progress.begin_try(self._endpoint)
        now = asyncio.get_running_loop().time()
        is_probe = self._fail_fast.is_down
        progress.on_open = self._note_up
        has_failed = False
        try:
            async with asyncio.timeout_at(min(now + self._timeouts.one_try, end)):
                return await self._post(credentials, progress)
        except TimeoutError:
            # If no connection was open, a look-up or a late event loop took its time.
            error = UpstreamError.of(progress.timed_out())
        except TransportError as failed:
            error = UpstreamError.of(failed)
            has_failed = error.fault.is_down and not progress.is_open
            if has_failed:
                self._note_failure(error, is_probe=is_probe)
        finally:
            if is_probe and not has_failed and self._fail_fast.is_down:
                self._fail_fast.give_back()
        raise error

    def _note_failure(self, error: UpstreamError, *, is_probe: bool) -> None:
        """Tell fail-fast that no connection could be opened."""
        was_down = self._fail_fast.is_down
        self._fail_fast.failed(is_probe=is_probe)
        if self._fail_fast.is_down and not was_down:
            logs.warning("auth-api down", fault=error.name)

    def _note_up(self) -> None:
        """Tell fail-fast that the auth-api is there, even if the caller goes away."""
        if self._fail_fast.is_down:
            logs.event("auth-api up")
        self._fail_fast.succeeded()

    async def _post(self, credentials: ClientCredentials, progress: Progress) -> Response:
        headers, body = request.write(credentials, self._authentication)
        # With its framing and as a stream, httpx2 need not prepare it: that costs 20 us.
        headers |= {"Host": self._host, "Content-Length": str(len(body))}
        if progress.span is not None:
            headers |= progress.span.headers
        response = await self._transport.handle_async_request(
            httpx2.Request(
                "POST",
                self._url,
                headers=headers,
                stream=httpx2.ByteStream(body),
                extensions={"progress": progress},
            )
        )
        return await _read(response)


async def _read(response: httpx2.Response) -> Response:
    fields: dict[bytes, str] = {}
    for name, value in response.headers.raw:  # RFC 9110 section 5.3: several fields are a list
        text = value.decode("latin-1")
        fields[name] = f"{fields[name]}, {text}" if name in fields else text
    stream = cast("httpx2.AsyncByteStream", response.stream)
    return Response(
        status=response.status_code,
        content_type=fields.get(b"content-type", ""),
        retry_after=fields.get(b"retry-after", ""),
        has_challenge=b"www-authenticate" in fields,
        body=Secret(b"".join([part async for part in stream])),
    )
