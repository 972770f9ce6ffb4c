"""Explains what the REST listener answers: its routes, and single requests.

The listener's own limits are not applied, and the service is not called.
"""

from collections.abc import Iterator, Mapping

from google.protobuf.descriptor import ServiceDescriptor
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.routing import Match, Route, Router
from starlette.types import ASGIApp

from sidecar.problems import CATALOGUE, nearest
from sidecar.rest import app, openapi
from sidecar.rest.openapi import Examples
from sidecar.rest.pages.document import Document
from sidecar.transcoding import Options
from sidecar.transcoding.explanation import report
from sidecar.transcoding.explanation.explainer import Explainer, Explanation
from sidecar.transcoding.explanation.http_request import HttpRequest

# The pages are not shown, so no one follows their links.
_PUBLIC_URL = "http://localhost"


class RequestExplainer:
    """Explains requests to `services`, which are given as to `rest.app.build`."""

    def __init__(
        self,
        services: Mapping[ServiceDescriptor, Options],
        examples: Mapping[str, Examples],
    ) -> None:
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
        return explanation, [*report.describe(explanation), *self._add(request, explanation)]

    def _mount(self, transcoder: ASGIApp) -> ASGIApp:
        """Return the routes of the REST application, without what observes its requests."""
        router = Router(self._pages, redirect_slashes=False, default=transcoder)
        return ExceptionMiddleware(router)

    def _add(self, request: HttpRequest, explanation: Explanation) -> Iterator[str]:
        """Yield the lines of what the transcoder does not know: pages and problems."""
        page = self._find_page(request)
        if page is not None:
            yield report.line("page", page.path)
        if explanation.is_refused and explanation.status is not None:
            problem = CATALOGUE[nearest(explanation.status)]
            yield report.line("problem", f"{problem.slug}, karmoCode {problem.karmo_code}")

    def _find_page(self, request: HttpRequest) -> Route | None:
        scope = request.scope()
        matching = (page for page in self._pages if page.matches(scope)[0] is not Match.NONE)
        return next(matching, None)
