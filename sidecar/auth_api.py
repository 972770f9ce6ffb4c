"""The upstream auth-api: the only user of the HTTP client library, whose exceptions end here."""

import asyncio
import time
from http.cookiejar import CookieJar, DefaultCookiePolicy
from importlib.metadata import version
from typing import Self
from urllib.parse import urlencode

import httpx2
from karmo.problem.v1 import problem_details_pb2 as pb

from sidecar import logs
from sidecar.auth_answer import Answer, BadAnswerError, Token, interpret
from sidecar.credentials import GRANT_TYPE, ClientCredentials
from sidecar.problems import CATALOGUE, Problem, ProblemError, Reason
from sidecar.secret import Secret

_MAX_BODY_BYTES = 64 * 1024
_MOST_CAUSES = 10
# No connection is used twice: what an answer left in the library's buffer beyond its
# length would be taken for the next caller's answer, token included.
_LIMITS = httpx2.Limits(max_connections=100, max_keepalive_connections=0)
_HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    "Content-Type": "application/x-www-form-urlencoded",
    "User-Agent": f"karmo-sidecar/{version('karmo-sidecar')}",
}
# The most specific class that an error of the library is decides.
_REASONS: tuple[tuple[type[Exception], Reason], ...] = (
    (httpx2.TimeoutException, pb.PROBLEM_REASON_UPSTREAM_TIMEOUT),
    (httpx2.ConnectError, pb.PROBLEM_REASON_UPSTREAM_UNAVAILABLE),
    (httpx2.NetworkError, pb.PROBLEM_REASON_UPSTREAM_CONNECTION_LOST),
    (httpx2.RemoteProtocolError, pb.PROBLEM_REASON_UPSTREAM_CONNECTION_LOST),
    (httpx2.TransportError, pb.PROBLEM_REASON_INTERNAL),
)


class AuthApi:
    """The token endpoint of the auth-api, by one client for all exchanges.

    `timeout` is the longest that one exchange may take, in seconds.
    """

    def __init__(self, token_url: str, *, timeout: float) -> None:
        self._token_url = token_url
        self._timeout = timeout
        self._client = httpx2.AsyncClient(
            follow_redirects=False,  # a redirect would send the credentials elsewhere
            trust_env=False,  # neither a proxy nor a .netrc may steer them
            timeout=None,  # one deadline covers the whole exchange
            limits=_LIMITS,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        )
        self._client.headers = httpx2.Headers()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def exchange(self, credentials: ClientCredentials, *, deadline: float | None) -> Token:
        """Return a token for `credentials`.

        `deadline` is the caller's, in the time of the event loop. Raises
        ProblemError, also when the deadline or the timeout passes.
        """
        end = asyncio.get_running_loop().time() + self._timeout
        start = time.perf_counter()
        try:
            async with asyncio.timeout_at(end if deadline is None else min(end, deadline)):
                answer = await self._post(credentials)
            outcome = interpret(answer, credentials)
        except TimeoutError:
            raise _error(pb.PROBLEM_REASON_UPSTREAM_TIMEOUT, "timeout") from None
        except BadAnswerError as error:
            raise _error(pb.PROBLEM_REASON_UPSTREAM_BAD_ANSWER, str(error)) from None
        except httpx2.TransportError as error:
            raise _error(_reason(error), _name(error)) from None
        finally:
            milliseconds = round((time.perf_counter() - start) * 1000, 3)
            logs.current_call().note(upstream_ms=milliseconds)
        if isinstance(outcome, Problem):
            raise ProblemError(outcome)
        return outcome

    async def _post(self, credentials: ClientCredentials) -> Answer:
        headers, body = _write(credentials)
        async with self._client.stream(
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


def _reason(error: Exception) -> Reason:
    return next(reason for kind, reason in _REASONS if isinstance(error, kind))


def _name(error: BaseException) -> str:
    """Return the type of `error` and that of its first cause, which tells refused from unknown."""
    first = error
    for _ in range(_MOST_CAUSES):  # they may go in a circle
        first = first.__cause__ or first.__context__ or first
    names = dict.fromkeys((type(error).__name__, type(first).__name__))
    return ": ".join(names)


def _error(reason: Reason, fault: str) -> ProblemError:
    """Make the error that the caller reads; `fault` is for the log alone."""
    logs.current_call().note(upstream_fault=fault)
    return ProblemError(Problem(reason=reason, detail=CATALOGUE[reason].explanation))
