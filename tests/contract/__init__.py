"""Contract tests: cases as data, sent by every way into the sidecar."""

import pytest

# Otherwise a failed assertion in this module does not show the compared values.
pytest.register_assert_rewrite("tests.contract.checks")
