"""Tests of the OpenAPI document by tools of others: it is valid, true and usable."""

import pytest

# Otherwise a failed assertion in this module does not show the compared values.
pytest.register_assert_rewrite("tests.openapi.described")
