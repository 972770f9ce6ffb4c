"""Explains what the REST listener answers: its routes, and single requests.

The listener's own limits are not applied, and the service is not called. What a method refuses by
itself is known from its check.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Any, TypeAlias

from google.protobuf.descriptor import ServiceDescriptor
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.routing import Match, Route, Router
from starlette.types import ASGIApp

from sidecar.problems import Problem, nearest
from sidecar.rest import app, openapi
from sidecar.rest.openapi import Examples
from sidecar.rest.pages.document import Document
from sidecar.rest.problem_documents import CHALLENGE
from sidecar.transcoding import Options
from sidecar.transcoding.errors import Violation
from sidecar.transcoding.explanation import report
from sidecar.transcoding.explanation.explainer import Explainer, Explanation
from sidecar.transcoding.explanation.http_request import HttpRequest
from sidecar.transcoding.metadata import Metadata

# Returns the problem for which a method refuses a message and its metadata, if there is one.
Check: TypeAlias = Callable[[Any, Metadata], Problem | None]
# The pages are not shown, so no one follows their links.
_PUBLIC_URL = "http://localhost"


class RequestExplainer:
    """Explains requests to `services`.

    `services` and `examples` are given as to `rest.app.build`. `checks` finds what a method
    refuses by itself, by the full name of the method.
    """

    def __init__(
        self,
        services: Mapping[ServiceDescriptor, Options],
        examples: Mapping[str, Examples],
        checks: Mapping[str, Check],
    ) -> None:
        self._checks = checks
        tree = openapi.document(services, examples, public_url=_PUBLIC_URL)
        self._pages = app.pages(Document(tree=tree, public_url=_PUBLIC_URL))
        self._explainer = Explainer(services, mount=self._mount)

    def list_routes(self) -> Iterator[str]:
        """Yield the lines of a table of all routes: those of rules, then the pages."""
        pages = ((", ".join(sorted(page.methods or ())), page.path) for page in self._pages)
        return report.list_routes(self._explainer.rules, pages)

    async def explain(self, request: HttpRequest) -> tuple[Explanation, list[str]]:
        """Return what would happen to `request`, and the lines that say so."""
        explanation = await self._explainer.explain(request)
        problem = self._find_problem(explanation)
        if problem is not None and explanation.call is not None:
            explanation = _refused(explanation, problem)
        return explanation, [*report.describe(explanation), *self._add(request, problem)]

    def _mount(self, transcoder: ASGIApp) -> ASGIApp:
        """Return the routes of the REST application, without what observes its requests."""
        router = Router(self._pages, redirect_slashes=False, default=transcoder)
        return ExceptionMiddleware(router)

    def _find_problem(self, explanation: Explanation) -> Problem | None:
        """Return the problem of a refusal: of the application, or of the method of a call."""
        rule, call, status = explanation.rule, explanation.call, explanation.status
        if rule is not None and call is not None:
            check = self._checks.get(rule.method.full_name)
            return check(call.message, call.metadata) if check else None
        return Problem(reason=nearest(status)) if status and explanation.is_refused else None

    def _add(self, request: HttpRequest, problem: Problem | None) -> Iterator[str]:
        """Yield the lines of what the transcoder does not know: pages and problems."""
        page = self._find_page(request)
        if page is not None:
            yield report.line("page", page.path)
        if problem is not None:
            entry = problem.definition
            yield report.line("problem", f"{entry.slug}, karmoCode {entry.karmo_code}")

    def _find_page(self, request: HttpRequest) -> Route | None:
        scope = request.scope()
        matching = (page for page in self._pages if page.matches(scope)[0] is not Match.NONE)
        return next(matching, None)


def _refused(explanation: Explanation, problem: Problem) -> Explanation:
    """Return the explanation of a call that its method refuses for `problem`."""
    detail, status = problem.detail or "", problem.definition.http_status
    violations = [Violation(detail=each.detail, pointer=each.pointer) for each in problem.errors]
    if detail not in [each.detail for each in violations]:
        violations.insert(0, Violation(detail=detail))
    return replace(
        explanation,
        status=status,
        detail=detail,
        violations=tuple(violations),
        headers={"WWW-Authenticate": CHALLENGE} if status == HTTPStatus.UNAUTHORIZED else {},
    )
