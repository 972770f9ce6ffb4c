"""The client of the auth-api's token endpoint, with timeouts, one retry and fail-fast.

Only this module and `errors` know the HTTP client library. Its exceptions end here.
"""

import asyncio
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Self, cast

import httpx2
from karmo.problem.v1 import problem_details_pb2 as pb

from sidecar import logs
from sidecar.auth_api import errors, request, retry
from sidecar.auth_api.client_credentials import ClientCredentials, RejectedError
from sidecar.auth_api.errors import ForeignError
from sidecar.auth_api.fail_fast import FailFast
from sidecar.auth_api.response import BadResponseError, Response, Token, interpret
from sidecar.auth_api.retry import RetryBudget
from sidecar.call import current_call
from sidecar.problems import Problem, ProblemError, Reason
from sidecar.secret import Secret

_MAX_BODY_BYTES = 64 * 1024
# No connection is used twice: bytes that follow a response in the library's buffer would be
# the next caller's response, with its token. Admission control limits their number.
_LIMITS = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
# Errors of the HTTP client: its own, TLS errors that come in place of a response, and others.
_CLIENT_ERRORS = (httpx2.TransportError, ssl.SSLError, ForeignError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Timeouts in seconds: to open a connection, for one try, for a whole exchange."""

    connect: float = 0.5
    one_try: float = 2.0
    total: float = 5.0


class AuthApi:
    """Exchanges credentials at the token endpoint of the auth-api.

    `tls` returns the current SSL context for https; without it the certificate store of the
    operating system is trusted.
    """

    def __init__(
        self,
        token_url: str,
        timeouts: Timeouts,
        *,
        tls: Callable[[], ssl.SSLContext] | None = None,
        fail_fast: FailFast | None = None,
    ) -> None:
        self._token_url = token_url
        self._timeouts = timeouts
        self._tls = tls
        self._context: ssl.SSLContext | None = None
        self._client = self._open()
        self._budget = RetryBudget()
        self._fail_fast = fail_fast or FailFast()
        # The trace event of the HTTP client for an open connection.
        step = "start_tls" if token_url.lower().startswith("https:") else "connect_tcp"
        self._open_event = f"connection.{step}.complete"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def exchange(self, credentials: ClientCredentials, *, deadline: float | None) -> Token:
        """Return a token for `credentials`.

        `deadline` is the caller's, in the time of the event loop. Raises RejectedError if
        the auth-api rejects the credentials, and ProblemError for every other failure, also
        when the deadline or a timeout passes.
        """
        call = _Call(credentials=credentials)
        start = time.perf_counter()
        try:
            outcome = await self._interpret(call, deadline)
        except ProblemError as error:
            # RFC 6749 section 2.3.1: each 401 counts as a wrong secret, also one with a broken
            # or late body. Else guessing would be free.
            if call.status == HTTPStatus.UNAUTHORIZED:
                raise RejectedError(error.problem) from None
            raise
        finally:
            milliseconds = round((time.perf_counter() - start) * 1000, 3)
            current_call().note(upstream_ms=milliseconds)
        if isinstance(outcome, Token):
            return outcome
        is_rejected = outcome.reason == pb.PROBLEM_REASON_INVALID_CLIENT
        raise (RejectedError if is_rejected else ProblemError)(outcome)

    async def _interpret(self, call: "_Call", deadline: float | None) -> Token | Problem:
        """Return the interpreted response to `call`. Raises ProblemError if there is none."""
        end = asyncio.get_running_loop().time() + self._timeouts.total
        try:
            async with asyncio.timeout_at(end if deadline is None else min(end, deadline)) as limit:
                response = await self._ask(call, cast("float", limit.when()))
            return interpret(response, call.credentials)
        except TimeoutError:
            raise _error(pb.PROBLEM_REASON_UPSTREAM_TIMEOUT, "timeout") from None
        except BadResponseError as error:
            raise _error(pb.PROBLEM_REASON_UPSTREAM_BAD_ANSWER, str(error)) from None
        except _CLIENT_ERRORS as error:
            raise _error(errors.reason_of(error), errors.name_of(error)) from None

    async def _ask(self, call: "_Call", end: float) -> Response:
        """Return the response, from a second try if the first was refused and there is time."""
        self._budget.earn()
        try:
            return await self._try(call)
        except httpx2.ConnectError as error:
            pause = retry.jitter()
            now = asyncio.get_running_loop().time()
            is_in_time = now + pause + self._timeouts.connect < end
            if not errors.is_refusal(error) or not is_in_time or not self._budget.spend():
                raise
        current_call().note(upstream_tries=2)
        await asyncio.sleep(pause)
        return await self._try(call)

    async def _try(self, call: "_Call") -> Response:
        seconds = self._fail_fast.admit()
        if seconds:
            raise _error(
                pb.PROBLEM_REASON_UPSTREAM_UNAVAILABLE, "not tried: it is down", retry_after=seconds
            )
        is_probe = self._fail_fast.is_down
        try:
            async with asyncio.timeout(self._timeouts.one_try):
                response = await self._post(call, is_probe=is_probe)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            self._note_down(error, is_probe=is_probe)
            raise
        except (*_CLIENT_ERRORS, BadResponseError, TimeoutError):
            # The connection was open: its timeout is shorter than that of the whole try.
            self._note_up()
            raise
        except asyncio.CancelledError:
            if is_probe and self._fail_fast.is_down:
                self._fail_fast.give_back()
            raise
        self._note_up()
        return response

    def _note_down(self, error: Exception, *, is_probe: bool) -> None:
        was_down = self._fail_fast.is_down
        self._fail_fast.failed(is_probe=is_probe)
        if self._fail_fast.is_down and not was_down:
            logs.warning("auth-api down", fault=errors.name_of(error))

    def _note_up(self) -> None:
        if self._fail_fast.is_down:
            logs.event("auth-api up")
        self._fail_fast.succeeded()

    def _open(self) -> httpx2.AsyncClient:
        """Return a client with the current SSL context."""
        self._context = self._tls() if self._tls else None
        client = httpx2.AsyncClient(
            verify=self._context or True,
            follow_redirects=False,  # a redirect would send the credentials elsewhere
            trust_env=False,  # neither a proxy nor a .netrc may steer them
            # One timeout covers each try. This one tells that a connection did not open.
            timeout=httpx2.Timeout(None, connect=self._timeouts.connect),
            limits=_LIMITS,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        )
        client.headers = httpx2.Headers()
        return client

    def _current(self) -> httpx2.AsyncClient:
        """Return the client, a new one if the SSL context has changed.

        The old client is not closed: it has no connections but those in use.
        """
        if self._tls and self._tls() is not self._context:
            self._client = self._open()
        return self._client

    async def _post(self, call: "_Call", *, is_probe: bool) -> Response:
        headers, body = request.write(call.credentials)
        # An open connection ends fail-fast, even if the caller of the probe has gone away.
        extensions = {"trace": self._trace} if is_probe else None
        try:
            async with self._current().stream(
                "POST", self._token_url, headers=headers, content=body, extensions=extensions
            ) as response:
                return await _read_response(response, call)
        except (*_CLIENT_ERRORS, BadResponseError):
            raise
        except Exception as error:
            raise ForeignError from error

    async def _trace(self, event: str, _info: object) -> None:
        if event == self._open_event:
            self._note_up()


@dataclass(slots=True, kw_only=True)
class _Call:
    """One exchange: the credentials sent, and the HTTP status once the head has come."""

    credentials: ClientCredentials
    status: int | None = None


async def _read_response(response: httpx2.Response, call: _Call) -> Response:
    call.status = response.status_code
    current_call().note(upstream_status=response.status_code)
    try:
        body = await _read(response)
    except BadResponseError:
        if response.status_code == HTTPStatus.OK:
            raise
        body = b""  # the status and the header fields of an error say enough
    return Response(
        status=response.status_code,
        content_type=response.headers.get("content-type", ""),
        retry_after=response.headers.get("retry-after", ""),
        has_challenge="www-authenticate" in response.headers,
        body=Secret(body),
    )


async def _read(response: httpx2.Response) -> bytes:
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise BadResponseError("a body with a Content-Encoding")
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > _MAX_BODY_BYTES:
            raise BadResponseError(f"a body of more than {_MAX_BODY_BYTES} bytes")
    return bytes(body)


def _error(reason: Reason, fault: str, retry_after: int | None = None) -> ProblemError:
    """Return the error for the caller, and note `fault`, which is only for the log."""
    current_call().note(upstream_fault=fault)
    return ProblemError(Problem(reason=reason, retry_after=retry_after))
