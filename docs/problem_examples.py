"""Write the section of docs/rest-api.md that shows every problem, from the catalogue.

`make docs` runs it. With `--check` it changes nothing, and fails if the section is out of date.
"""

import re
import sys
from pathlib import Path

from google.protobuf.json_format import MessageToJson
from karmo.problem.v1 import problem_details_pb2 as pb

from sidecar.problems import CATALOGUE, Definition, FieldError, Problem, find_detail, to_status

PAGE = Path(__file__).with_name("rest-api.md")
BEGIN, END = "<!-- problems: made by `make docs` -->\n", "<!-- end of problems -->\n"
# The details of problems for which the sidecar says more than the catalogue.
DETAILS = {
    pb.PROBLEM_REASON_INVALID_REQUEST: "grant_type is missing; send client_credentials.",
    pb.PROBLEM_REASON_UNSUPPORTED_GRANT_TYPE: (
        "grant_type 'password' is not supported; send client_credentials."
    ),
    pb.PROBLEM_REASON_INVALID_CLIENT: (
        "The client is unknown, or its secret is wrong. Check client_id and client_secret."
    ),
    pb.PROBLEM_REASON_NOT_FOUND: (
        "There is nothing at this path; check it, also for a slash at its end."
    ),
    pb.PROBLEM_REASON_METHOD_NOT_ALLOWED: "Use one of the methods POST, OPTIONS.",
    pb.PROBLEM_REASON_CONTENT_TOO_LARGE: "The body must not be larger than 16384 bytes.",
    pb.PROBLEM_REASON_UNSUPPORTED_MEDIA_TYPE: (
        "Send the body as application/x-www-form-urlencoded or application/json."
    ),
}
POINTED = {pb.PROBLEM_REASON_INVALID_REQUEST, pb.PROBLEM_REASON_UNSUPPORTED_GRANT_TYPE}


def render(entry: Definition) -> str:
    """Return the part of the section that shows one kind of problem."""
    detail = DETAILS.get(entry.reason, entry.explanation)
    pointed = (FieldError(detail=detail, pointer="/grant_type"),)
    problem = Problem(
        reason=entry.reason, detail=detail, errors=pointed if entry.reason in POINTED else ()
    )
    status = to_status(
        problem,
        request_id="5b0c7b2e-3c8f-4f0a-9d52-1f6f0f9b9a11",
        public_url="https://api.example.com",
    )
    example = MessageToJson(find_detail(status, pb.ProblemDetails) or pb.ProblemDetails(), indent=2)
    retry = entry.retry_after_seconds
    sentences = re.sub(r"(?<=\.) ", "\n", f"{entry.meaning} {entry.remedy}")  # one a line
    return (
        f"### {entry.http_status} {entry.title}\n\n"
        f"`karmoCode` `{entry.karmo_code}`, `error` `{entry.oauth_error}`"
        f"{f', `Retry-After: {retry}` unless another time is named' if retry else ''}.\n\n"
        f"{sentences}\n\n```json\n{example}\n```\n\n"
    )


def main() -> int:
    """Rewrite the section, or check it; return the exit status."""
    page = PAGE.read_text("utf-8")
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    section = "".join(render(entry) for entry in CATALOGUE.values())
    renewed = f"{before}{BEGIN}\n{section}{END}{after}"
    if "--check" in sys.argv:
        return int(page != renewed)
    PAGE.write_text(renewed, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
