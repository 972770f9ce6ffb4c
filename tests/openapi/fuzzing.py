"""Runner of schemathesis: it makes requests from a document and checks the responses by it."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import schemathesis
from schemathesis import Case, HookContext, Response
from schemathesis.config import SchemathesisConfig
from schemathesis.core.failures import Failure
from schemathesis.engine import events, from_schema
from schemathesis.openapi.checks import RejectedPositiveData

from tests.openapi.described import Tree

CLIENT_ID, CLIENT_SECRET = "demo-partner", "demo-secret"


@dataclass(slots=True)
class Result:
    """The numbers of requests by phase, of responses by status, and everything that is wrong."""

    requests: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


def fuzz(document: Tree, url: str, *, examples: int, has_credentials: bool, seed: int) -> Result:
    """Fuzz the server at `url` by `document`, with every check of schemathesis.

    `examples` is the number of random requests. With `has_credentials` each has the right
    credentials by HTTP Basic.
    """
    options: dict[str, Any] = {
        "seed": seed,
        "base-url": url,
        "continue-on-failure": True,
        "generation": {"max-examples": examples, "database": "none"},
    }
    if has_credentials:
        options["auth"] = {"basic": {"username": CLIENT_ID, "password": CLIENT_SECRET}}
    config = SchemathesisConfig.from_dict(options)
    schema = schemathesis.openapi.from_dict(document, config=config)
    schema.hook("filter_failure")(_is_wrong)
    result = Result()
    for event in from_schema(schema).execute():
        _count(result, event)
    return result


def _is_wrong(_context: HookContext, failure: Failure, case: Case[Any], response: Response) -> bool:
    """Whether a failure is one of the document or the server.

    A schema describes a body without the header fields beside it. So it cannot say that HTTP
    Basic authentication excludes a client_secret in the body, and a client_id of another client:
    both are 400, for a body that is valid by itself.
    """
    if not isinstance(failure, RejectedPositiveData) or response.status_code != 400:
        return True
    has_basic = "Authorization" in response.request.headers
    body = case.body if isinstance(case.body, dict) else {}
    client_id, secret = body.get("client_id"), body.get("client_secret")
    return not (has_basic and (secret or client_id not in (None, "", CLIENT_ID)))


def _count(result: Result, event: events.EngineEvent) -> None:
    if isinstance(event, events.ScenarioFinished):
        result.requests[event.phase.value] += len(event.recorder.cases)
        for interaction in event.recorder.interactions.values():
            if interaction.response is not None:
                result.statuses[interaction.response.status_code] += 1
        for check in (check for checks in event.recorder.checks.values() for check in checks):
            if check.failure_info is not None:
                code = check.failure_info.code_sample
                result.failures.append(f"{check.failure_info.failure}\n{code}")
    elif isinstance(event, events.NonFatalError):
        result.failures.append(f"{event.label}: {event.value!r}")
    elif isinstance(event, events.FatalError):
        result.failures.append(repr(event.exception))
