"""Write the section of docs/rest-api.md that shows every problem, from the catalogue.

`make docs` runs it. With `--check` it changes nothing, and fails if the section is out of date.
"""

import json
import re
import sys
from operator import attrgetter
from pathlib import Path

from docs.generated_file import write_or_check
from sidecar.api import EXAMPLES, MAX_REQUEST_BYTES
from sidecar.problems import CATALOGUE, Definition
from sidecar.rest import problem_examples
from sidecar.rest.openapi import problems_of

PAGE = Path(__file__).with_name("rest-api.md")
BEGIN, END = "<!-- problems: made by `make docs` -->\n", "<!-- end of problems -->\n"
DOCUMENTS = problem_examples.documents(
    problems_of(EXAMPLES), public_url="https://api.example.com", max_body_bytes=MAX_REQUEST_BYTES
)


def render(entry: Definition) -> str:
    """Return the part of the section that shows one kind of problem."""
    example = json.dumps(DOCUMENTS[entry.reason], indent=2, ensure_ascii=False)
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
    return write_or_check(PAGE, f"{before}{BEGIN}\n{section}{END}{after}")


if __name__ == "__main__":
    sys.exit(main())
