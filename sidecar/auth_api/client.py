"""The upstream auth-api: the only user of the HTTP client library, whose exceptions end here."""

import asyncio
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from http import HTTPStatus
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Self, cast

import httpx2
from karmo.problem.v1 import problem_details_pb2 as pb

from sidecar import logs
from sidecar.auth_api import errors, request, retry
from sidecar.auth_api.client_credentials import ClientCredentials, RejectedError
from sidecar.auth_api.errors import ForeignError
from sidecar.auth_api.response import Answer, BadResponseError, Token, interpret
from sidecar.auth_api.retry import FailFast, RetryBudget
from sidecar.call import current_call
from sidecar.problems import Problem, ProblemError, Reason, explained
from sidecar.secret import Secret

_MAX_BODY_BYTES = 64 * 1024
# No connection is used twice: what an answer left in the library's buffer beyond its
# length would be taken for the next caller's answer, token included.
# How many there are at once is the business of admission.
_LIMITS = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
# What may leave the HTTP client: errors of its own, of TLS 1.3 in place of an answer, and others.
_CLIENT_ERRORS = (httpx2.TransportError, ssl.SSLError, ForeignError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long things may take, in seconds: to connect, one try, and all of an exchange."""

    connect: float = 0.5
    one_try: float = 2.0
    total: float = 5.0


class AuthApi:
    """The token endpoint of the auth-api, by one client for all exchanges.

    `tls` gives the context for connections by https, which may be another one later;
    without one the store of the operating system is trusted.
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
        # The trace event of the HTTP client that says that a connection is open.
        opens = "start_tls" if token_url.lower().startswith("https:") else "connect_tcp"
        self._opened = f"connection.{opens}.complete"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def exchange(self, credentials: ClientCredentials, *, deadline: float | None) -> Token:
        """Return a token for `credentials`.

        `deadline` is the caller's, in the time of the event loop. Raises
        RejectedError where the auth-api took them for wrong ones, and ProblemError for
        anything else, also when the deadline or a timeout passes.
        """
        call = _Call(credentials=credentials)
        start = time.perf_counter()
        try:
            outcome = await self._interpret(call, deadline)
        except ProblemError as error:
            # RFC 6749 section 2.3.1: each 401 counts as a wrong secret, also one whose body is
            # broken or late, or guessing would be free.
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
        """Return what the answer to `call` means. Raises ProblemError where there is none."""
        end = asyncio.get_running_loop().time() + self._timeouts.total
        try:
            async with asyncio.timeout_at(end if deadline is None else min(end, deadline)) as limit:
                answer = await self._ask(call, cast("float", limit.when()))
            return interpret(answer, call.credentials)
        except TimeoutError:
            raise _error(pb.PROBLEM_REASON_UPSTREAM_TIMEOUT, "timeout") from None
        except BadResponseError as error:
            raise _error(pb.PROBLEM_REASON_UPSTREAM_BAD_ANSWER, str(error)) from None
        except _CLIENT_ERRORS as error:
            raise _error(errors.reason_of(error), errors.name_of(error)) from None

    async def _ask(self, call: "_Call", end: float) -> Answer:
        """Return the answer, by a second try if the first found nobody and there is time."""
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

    async def _try(self, call: "_Call") -> Answer:
        seconds = self._fail_fast.admit()
        if seconds:
            raise _error(
                pb.PROBLEM_REASON_UPSTREAM_UNAVAILABLE, "not tried: it is down", retry_after=seconds
            )
        is_probe = self._fail_fast.is_down
        try:
            async with asyncio.timeout(self._timeouts.one_try):
                answer = await self._post(call, is_probe=is_probe)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            self._note_down(error, is_probe=is_probe)
            raise
        except (*_CLIENT_ERRORS, BadResponseError, TimeoutError):
            # Something is there: to connect has less time than the whole try.
            self._note_up()
            raise
        except asyncio.CancelledError:
            if is_probe and self._fail_fast.is_down:
                self._fail_fast.give_back()
            raise
        self._note_up()
        return answer

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
        """Return a client that trusts what is to be trusted now."""
        self._context = self._tls() if self._tls else None
        client = httpx2.AsyncClient(
            verify=self._context or True,
            follow_redirects=False,  # a redirect would send the credentials elsewhere
            trust_env=False,  # neither a proxy nor a .netrc may steer them
            # One deadline covers each try; by this alone a connection is known not to open.
            timeout=httpx2.Timeout(None, connect=self._timeouts.connect),
            limits=_LIMITS,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        )
        client.headers = httpx2.Headers()
        return client

    def _current(self) -> httpx2.AsyncClient:
        """Return the client, a new one if the certificates are others than before.

        The one before is not closed: it keeps no connection but those in use.
        """
        if self._tls and self._tls() is not self._context:
            self._client = self._open()
        return self._client

    async def _post(self, call: "_Call", *, is_probe: bool) -> Answer:
        headers, body = request.write(call.credentials)
        # An opened connection ends fail-fast, even if the caller of the probe has gone.
        extensions = {"trace": self._trace} if is_probe else None
        try:
            async with self._current().stream(
                "POST", self._token_url, headers=headers, content=body, extensions=extensions
            ) as response:
                return await _read_answer(response, call)
        except (*_CLIENT_ERRORS, BadResponseError):
            raise
        except Exception as error:
            raise ForeignError from error

    async def _trace(self, event: str, _info: object) -> None:
        if event == self._opened:
            self._note_up()


@dataclass(slots=True, kw_only=True)
class _Call:
    """One exchange: what is sent, and the HTTP status of the answer once its head has come."""

    credentials: ClientCredentials
    status: int | None = None


async def _read_answer(response: httpx2.Response, call: _Call) -> Answer:
    call.status = response.status_code
    current_call().note(upstream_status=response.status_code)
    try:
        body = await _read(response)
    except BadResponseError:
        if response.status_code == HTTPStatus.OK:
            raise
        body = b""  # of an error the status and the header fields say enough
    return Answer(
        status=response.status_code,
        content_type=response.headers.get("content-type", ""),
        retry_after=response.headers.get("retry-after", ""),
        has_challenge="www-authenticate" in response.headers,
        body=Secret(body),
    )


async def _read(response: httpx2.Response) -> bytes:
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise BadResponseError("a body in a coding that was not asked for")
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > _MAX_BODY_BYTES:
            raise BadResponseError(f"a body of more than {_MAX_BODY_BYTES} bytes")
    return bytes(body)


def _error(reason: Reason, fault: str, retry_after: int | None = None) -> ProblemError:
    """Make the error that the caller reads; `fault` is for the log alone."""
    current_call().note(upstream_fault=fault)
    return ProblemError(replace(explained(reason), retry_after=retry_after))
