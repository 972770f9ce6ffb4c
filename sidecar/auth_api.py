"""The upstream auth-api: the only user of the HTTP client library, whose exceptions end here."""

import asyncio
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from http.cookiejar import CookieJar, DefaultCookiePolicy
from importlib.metadata import version
from typing import Self, cast
from urllib.parse import urlencode

import httpx2
from karmo.problem.v1 import problem_details_pb2 as pb

from sidecar import logs, retry, upstream_errors
from sidecar.auth_answer import Answer, BadAnswerError, Token, interpret
from sidecar.credentials import GRANT_TYPE, ClientCredentials
from sidecar.problems import Problem, ProblemError, Reason, explained
from sidecar.retry import FailFast, RetryBudget
from sidecar.secret import Secret

_MAX_BODY_BYTES = 64 * 1024
# No connection is used twice: what an answer left in the library's buffer beyond its
# length would be taken for the next caller's answer, token included.
# How many there are at once is the business of admission.
_LIMITS = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
_HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    "Content-Type": "application/x-www-form-urlencoded",
    "User-Agent": f"karmo-sidecar/{version('karmo-sidecar')}",
}


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
    ) -> None:
        self._token_url = token_url
        self._timeouts = timeouts
        self._tls = tls
        self._context: ssl.SSLContext | None = None
        self._client = self._open()
        self._budget = RetryBudget()
        self._fail_fast = FailFast()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def exchange(self, credentials: ClientCredentials, *, deadline: float | None) -> Token:
        """Return a token for `credentials`.

        `deadline` is the caller's, in the time of the event loop. Raises
        ProblemError, also when the deadline or a timeout passes.
        """
        end = asyncio.get_running_loop().time() + self._timeouts.total
        start = time.perf_counter()
        try:
            async with asyncio.timeout_at(end if deadline is None else min(end, deadline)) as limit:
                answer = await self._ask(credentials, cast("float", limit.when()))
            outcome = interpret(answer, credentials)
        except TimeoutError:
            raise _error(pb.PROBLEM_REASON_UPSTREAM_TIMEOUT, "timeout") from None
        except BadAnswerError as error:
            raise _error(pb.PROBLEM_REASON_UPSTREAM_BAD_ANSWER, str(error)) from None
        except (httpx2.TransportError, ssl.SSLError) as error:
            raise _error(upstream_errors.reason_of(error), upstream_errors.name_of(error)) from None
        finally:
            milliseconds = round((time.perf_counter() - start) * 1000, 3)
            logs.current_call().note(upstream_ms=milliseconds)
        if isinstance(outcome, Problem):
            raise ProblemError(outcome)
        return outcome

    async def _ask(self, credentials: ClientCredentials, end: float) -> Answer:
        """Return the answer, by a second try if the first found nobody and there is time."""
        self._budget.earn()
        try:
            return await self._try(credentials)
        except httpx2.ConnectError as error:
            pause = retry.wait()
            now = asyncio.get_running_loop().time()
            is_in_time = now + pause + self._timeouts.connect < end
            if not upstream_errors.is_refusal(error) or not is_in_time or not self._budget.spend():
                raise
        logs.current_call().note(upstream_tries=2)
        await asyncio.sleep(pause)
        return await self._try(credentials)

    async def _try(self, credentials: ClientCredentials) -> Answer:
        seconds = self._fail_fast.admit()
        if seconds:
            raise _error(
                pb.PROBLEM_REASON_UPSTREAM_UNAVAILABLE, "not tried: it is down", retry_after=seconds
            )
        try:
            async with asyncio.timeout(self._timeouts.one_try):
                answer = await self._post(credentials)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            self._note_down(error)
            raise
        except (httpx2.TransportError, ssl.SSLError, BadAnswerError, TimeoutError):
            # Something is there: to connect has less time than the whole try.
            self._note_up()
            raise
        self._note_up()
        return answer

    def _note_down(self, error: Exception) -> None:
        was_down = self._fail_fast.is_down
        self._fail_fast.failed()
        if self._fail_fast.is_down and not was_down:
            logs.warning("auth-api down", fault=upstream_errors.name_of(error))

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

    async def _post(self, credentials: ClientCredentials) -> Answer:
        headers, body = _write(credentials)
        async with self._current().stream(
            "POST", self._token_url, headers=headers, content=body
        ) as response:
            logs.current_call().note(upstream_status=response.status_code)
            try:
                body = await _read(response)
            except BadAnswerError:
                if response.status_code == 200:
                    raise
                body = b""  # of an error the status alone says enough
            return Answer(
                status=response.status_code,
                content_type=response.headers.get("content-type", ""),
                retry_after=response.headers.get("retry-after", ""),
                body=Secret(body),
            )


def _write(credentials: ClientCredentials) -> tuple[dict[str, str], bytes]:
    """Return the header fields and the body that carry `credentials` as they came."""
    call = logs.current_call()
    headers = _HEADERS | {"X-Request-Id": call.request_id}
    if call.traceparent:
        headers["traceparent"] = call.traceparent
    form = {"grant_type": GRANT_TYPE}
    if credentials.authorization:
        headers["Authorization"] = credentials.authorization.reveal()
    else:
        form["client_id"] = credentials.client_id.reveal()
        form["client_secret"] = credentials.client_secret.reveal()
    return headers, urlencode(form).encode()


async def _read(response: httpx2.Response) -> bytes:
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise BadAnswerError("a body in a coding that was not asked for")
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > _MAX_BODY_BYTES:
            raise BadAnswerError(f"a body of more than {_MAX_BODY_BYTES} bytes")
    return bytes(body)


def _error(reason: Reason, fault: str, retry_after: int | None = None) -> ProblemError:
    """Make the error that the caller reads; `fault` is for the log alone."""
    logs.current_call().note(upstream_fault=fault)
    return ProblemError(replace(explained(reason), retry_after=retry_after))
