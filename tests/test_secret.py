"""Tests of secrets: only `reveal` shows one."""

import copy
import json
import pickle
from collections.abc import Callable

import pytest

from sidecar.secret import Secret

CANARY = "canary-5f0c"

SHOWN: dict[str, Callable[[Secret[str]], str]] = {
    "repr": repr,
    "str": str,
    "format": lambda secret: f"{secret}",
    "format to a width": lambda secret: f"{secret!s:>40}",
    "format with repr": lambda secret: f"{secret!r}",
    "percent": lambda secret: "%s %r" % (secret, secret),  # noqa: UP031 as logging does
    "in a container": lambda secret: repr({"secret": [secret]}),
    "in an exception": lambda secret: repr(ValueError(secret)),
    "default of json": lambda secret: json.dumps({"secret": secret}, default=str),
}
COPIED: dict[str, Callable[[Secret[str]], object]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": pickle.dumps,
    "pickle of protocol 0": lambda secret: pickle.dumps(secret, 0),
    "pickle in a container": lambda secret: pickle.dumps([secret]),
    "deepcopy in a container": lambda secret: copy.deepcopy({"secret": secret}),
}


def test_reveal_gives_the_value() -> None:
    """`reveal` returns the value unchanged."""
    assert Secret(CANARY).reveal() == CANARY


@pytest.mark.parametrize("show", SHOWN.values(), ids=SHOWN.keys())
def test_no_text_shows_the_value(show: Callable[[Secret[str]], str]) -> None:
    """Every text of a secret is the mask."""
    shown = show(Secret(CANARY))
    assert CANARY not in shown
    assert "***" in shown


def test_the_mask_is_the_same_for_all() -> None:
    """Secrets of different lengths have the same text, so that not even the length shows."""
    assert repr(Secret("")) == repr(Secret("x" * 100)) == "Secret('***')"


@pytest.mark.parametrize("make", COPIED.values(), ids=COPIED.keys())
def test_copies_are_refused(make: Callable[[Secret[str]], object]) -> None:
    """A secret can be neither pickled nor copied."""
    with pytest.raises(TypeError, match="cannot be pickled or copied"):
        make(Secret(CANARY))


def test_there_is_no_dictionary_to_dump() -> None:
    """A secret has no `__dict__` that a dump of attributes could show."""
    with pytest.raises(TypeError):
        vars(Secret(CANARY))
