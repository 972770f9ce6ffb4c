"""What the tests of the auth-api's client share."""

import pytest

from tests.auth_api.clock import Clock


@pytest.fixture
def clock() -> Clock:
    """Give a clock that stands still."""
    return Clock()
