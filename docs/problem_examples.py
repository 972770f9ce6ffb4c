"""Write the section of docs/rest-api.md that shows every problem, from the catalogue.

`make docs` runs it. With `--check` it changes nothing, and fails if the section is out of date.
"""

import re
import sys
from operator import attrgetter
from pathlib import Path

from google.protobuf.json_format import MessageToJson
from karmo.problem.v1 import problem_details_pb2 as pb

from sidecar.exchange.credentials import TokenRequest, check
from sidecar.problems import CATALOGUE, Definition, Problem, ProblemError, find_detail, to_status
from sidecar.runtime import MAX_REQUEST_BYTES
from sidecar.secret import Secret
from sidecar.transcoding.body import Shape
from sidecar.transcoding.body_formats import choose_reader
from sidecar.transcoding.errors import (
    ContentTooLargeError,
    MethodNotAllowedError,
    PathNotFoundError,
    RequestError,
)

PAGE = Path(__file__).with_name("rest-api.md")
BEGIN, END = "<!-- problems: made by `make docs` -->\n", "<!-- end of problems -->\n"


def refuse(grant_type: str) -> Problem:
    """Return the problem of a token request with this grant type."""
    secret = Secret("demo")
    try:
        check(
            TokenRequest(
                grant_type=grant_type, client_id=secret, client_secret=secret, authorization=()
            )
        )
    except ProblemError as error:
        return error.problem
    raise AssertionError(grant_type)


def refuse_media_type() -> RequestError:
    """Return the error of a body of another media type."""
    try:
        choose_reader(Shape.OBJECT, ["text/plain"], [])
    except RequestError as error:
        return error
    raise AssertionError


# The problems whose detail is not the text of the catalogue.
PROBLEMS = {
    problem.reason: problem
    for problem in (
        refuse(""),
        refuse("password"),
        Problem(
            reason=pb.PROBLEM_REASON_INVALID_CLIENT,
            detail="The client is unknown, or its secret is wrong. "
            "Check client_id and client_secret.",
        ),
        Problem(reason=pb.PROBLEM_REASON_NOT_FOUND, detail=PathNotFoundError().detail),
        Problem(
            reason=pb.PROBLEM_REASON_METHOD_NOT_ALLOWED,
            detail=MethodNotAllowedError("POST, OPTIONS").detail,
        ),
        Problem(
            reason=pb.PROBLEM_REASON_CONTENT_TOO_LARGE,
            detail=ContentTooLargeError(MAX_REQUEST_BYTES, is_last=True).detail,
        ),
        Problem(reason=pb.PROBLEM_REASON_UNSUPPORTED_MEDIA_TYPE, detail=refuse_media_type().detail),
    )
}


def render(entry: Definition) -> str:
    """Return the part of the section that shows one kind of problem."""
    status = to_status(
        PROBLEMS.get(entry.reason) or Problem(reason=entry.reason),
        request_id="5b0c7b2e-3c8f-4f0a-9d52-1f6f0f9b9a11",
        public_url="https://api.example.com",
    )
    example = MessageToJson(find_detail(status, pb.ProblemDetails) or pb.ProblemDetails(), indent=2)
    retry = ", `Retry-After` from 1 to 60 (seconds)" if entry.retry_after_seconds else ""
    sentences = re.sub(r"(?<=\.) ", "\n", f"{entry.meaning} {entry.remedy}")  # one a line
    return (
        f"### {entry.http_status} {entry.title}\n\n"
        f"`karmoCode` `{entry.karmo_code}`, `error` `{entry.oauth_error}`{retry}.\n\n"
        f"{sentences}\n\n```json\n{example}\n```\n\n"
    )


def main() -> int:
    """Rewrite the section, or check it; return the exit status."""
    page = PAGE.read_text("utf-8")
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    entries = sorted(CATALOGUE.values(), key=attrgetter("http_status"))
    section = "".join(map(render, entries))
    renewed = f"{before}{BEGIN}\n{section}{END}{after}"
    if "--check" in sys.argv:
        return int(page != renewed)
    PAGE.write_text(renewed, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
