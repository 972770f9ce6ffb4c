"""Explains requests by the decisions of a real transcoder."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import TypeAlias

from google.protobuf.descriptor import ServiceDescriptor

from sidecar.transcoding.errors import (
    PathNotFoundError,
    RequestError,
    SchemaViolations,
    Violation,
)
from sidecar.transcoding.explanation.bindings import MASK, Binding, read_bindings
from sidecar.transcoding.explanation.decision import (
    Application,
    Call,
    Decision,
    build_transcoder,
    decide,
)
from sidecar.transcoding.explanation.http_request import HttpRequest
from sidecar.transcoding.explanation.nearest import Near, find_nearest
from sidecar.transcoding.options import Options, unserved_by
from sidecar.transcoding.router import Router
from sidecar.transcoding.rules import Rule, read_rules, read_unserved

# Metadata that never holds a secret. Any other may: credentials have header fields of many names.
_SHOWN_METADATA = frozenset({"accept-language", "traceparent", "x-request-id"})
# Returns the application in which the transcoder is mounted beside other routes.
Mount: TypeAlias = Callable[[Application], Application]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What the transcoder, or the application around it, does with a request.

    * `rule` takes the request; None if no rule does.
    * For a call `status` is None. `bindings`, `metadata` and `timeout` (seconds) are what the
      method would get. Secrets in `bindings` are masked, and the values of `metadata` but for
      those that never hold a secret. `call` is the same with its secrets, for code that knows the
      method: never show it.
    * For a response without a call `status` is its HTTP status. `detail`, `violations` and
      `headers` are those of the error.
    * `ignored` are violations that the options of the service allow.
    * `nearest` are the rules near a path that no rule serves.
    """

    rule: Rule | None
    status: int | None
    call: Call | None = field(default=None, repr=False)
    bindings: tuple[Binding, ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()
    timeout: float | None = None
    detail: str = ""
    violations: tuple[Violation, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[Violation, ...] = ()
    nearest: tuple[Near, ...] = ()

    @property
    def is_refused(self) -> bool:
        """Whether the response is an error, and no method is called."""
        return self.status is not None and self.status >= HTTPStatus.BAD_REQUEST


class Explainer:
    """Explains requests to `services`, each of which is given with its options.

    `rules` are those of all routes, also of methods that are answered with 501. `mount` returns the
    application around the transcoder, if there is one. Raises SchemaError as Transcoder does.
    """

    def __init__(
        self, services: Mapping[ServiceDescriptor, Options], *, mount: Mount = lambda app: app
    ) -> None:
        strict = {service: _without_leniency(options) for service, options in services.items()}
        self._app, self._strict = (mount(build_transcoder(each)) for each in (services, strict))
        self._router = Router[Rule]()
        unserved = unserved_by(services.values())
        served = read_rules(services, SchemaViolations(), unserved)
        self.rules = tuple(self._add([*served, *read_unserved(services, unserved)]))

    async def explain(self, request: HttpRequest) -> Explanation:
        """Return what would happen to `request`. Nothing is called."""
        scope, rule = request.scope(), self._find(request)
        decision = await decide(self._app, scope, request.body)
        violations = _violations_of(decision)
        # What a transcoder without leniency refuses as well.
        strict = await decide(self._strict, request.scope(), request.body)
        explanation = Explanation(
            # The transcoder leaves its route in the scope; another route of the application
            # may have taken a request that a rule matches too.
            rule=rule if "transcoding.route" in scope else None,
            status=decision.status,
            detail=decision.detail,
            violations=violations,
            headers=decision.headers,
            ignored=tuple(each for each in _violations_of(strict) if each not in violations),
        )
        if isinstance(decision.error, PathNotFoundError):
            return replace(explanation, nearest=find_nearest(request.raw_path, self.rules))
        return _with_call(explanation, decision)

    def _add(self, rules: Iterable[Rule]) -> Iterator[Rule]:
        """Add the rules to the router, and yield them."""
        for rule in rules:
            with suppress(ValueError):  # one that is not served, whose requests another rule serves
                self._router.add(rule, rule)
                yield rule

    def _find(self, request: HttpRequest) -> Rule | None:
        try:
            return self._router.find(request.method, request.raw_path).target
        except RequestError:
            return None


def _with_call(explanation: Explanation, decision: Decision) -> Explanation:
    call, rule = decision.call, explanation.rule
    if call is None or rule is None:
        return explanation
    return replace(
        explanation,
        call=call,
        bindings=read_bindings(call.message, rule),
        metadata=tuple((name, _mask(name, value)) for name, value in call.metadata),
        timeout=call.timeout,
    )


def _without_leniency(options: Options) -> Options:
    return replace(options, ignore_unknown=False, ignore_duplicates=False)


def _violations_of(decision: Decision) -> tuple[Violation, ...]:
    return decision.error.violations if decision.error else ()


def _mask(name: str, value: str | bytes) -> str:
    return str(value) if name in _SHOWN_METADATA else MASK
