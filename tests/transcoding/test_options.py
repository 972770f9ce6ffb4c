"""The options of a transcoder: what they are by default, and what cannot be one."""

from dataclasses import FrozenInstanceError

import pytest

from sidecar.transcoding.options import Options


def test_defaults() -> None:
    """Without a word no header is passed on, nothing is ignored, and a MiB is read."""
    options = Options()
    assert (options.metadata_headers, options.response_headers) == (frozenset(), frozenset())
    assert [options.ignore_unknown, options.ignore_duplicates, options.ignore_accept] == [False] * 3
    assert (options.max_body_bytes, options.unserved_methods) == (1024 * 1024, frozenset())


@pytest.mark.parametrize("name", ["x-request-id", "authorization", "trace-bin", "a.b_c-1"])
def test_headers(name: str) -> None:
    """A header that means something to a service may be passed on, in both directions."""
    names = frozenset({name})
    options = Options(metadata_headers=names, response_headers=names)
    assert options.metadata_headers == options.response_headers == names


REFUSED = {
    "X-Upper": "'X-Upper' (a name is in lower case, and has only 0-9, a-z, _, . and - in it)",
    "grpc-timeout": "'grpc-timeout' (it is reserved for gRPC)",
    "connection": "'connection' (it is for one connection)",
}


@pytest.mark.parametrize(("name", "told"), REFUSED.items(), ids=REFUSED)
def test_headers_that_must_not_be_passed_on(name: str, told: str) -> None:
    """What is no name of metadata, or not for services, is refused in either direction."""
    names, error = frozenset({"x-fine", name}), "Headers that cannot be passed on must not be named"
    for sent, answered in ((names, frozenset[str]()), (frozenset[str](), names)):
        with pytest.raises(ValueError, match=r".") as raised:
            Options(metadata_headers=sent, response_headers=answered)
        assert str(raised.value) == f"{error}: {told}."


def test_options_do_not_change() -> None:
    """Two transcoders may share their options."""
    with pytest.raises(FrozenInstanceError):
        Options().ignore_unknown = True  # type: ignore[misc] # which is what this proves
