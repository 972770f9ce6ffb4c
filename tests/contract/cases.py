"""Contract cases: one exchange each, independent of protocol, and its outcome.

Each name begins with the rules that it proves: R1-R52 are the rules of the token endpoint.
Requests are in `requests`, answers of the auth-api in `answers` and `relayed`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from tests.contract.answers import ANSWERS, Token
from tests.contract.expected import ExpectedProblem
from tests.contract.relayed import ECHOES, RELAYED
from tests.contract.requests import ACCEPTED, REFUSED, header
from tests.upstream import TOKEN, answer
from tests.ways import Sent, basic


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One exchange: `sent`, the upstream's `reply`, and the resulting token or problem.

    Without a reply the upstream must not be called.
    """

    name: str
    sent: Sent
    reply: bytes | None = None
    token: Token | None = None
    problem: ExpectedProblem | None = None


def _cases() -> Iterator[Case]:
    for name, sent in ACCEPTED.items():
        yield Case(name=name, sent=sent, reply=answer(200, TOKEN), token=TOKEN)
    for name, (sent, problem) in REFUSED.items():
        yield Case(name=name, sent=sent, problem=problem)
    for name, (reply, outcome) in (*ANSWERS.items(), *RELAYED.items()):
        yield _answered(name, header(basic()), reply, outcome)
    for name, (sent, reply, problem) in ECHOES.items():
        yield _answered(name, sent, reply, problem)


def _answered(name: str, sent: Sent, reply: bytes, outcome: Token | ExpectedProblem) -> Case:
    if isinstance(outcome, ExpectedProblem):
        return Case(name=name, sent=sent, reply=reply, problem=outcome)
    return Case(name=name, sent=sent, reply=reply, token=outcome)


CASES = tuple(_cases())
