"""The contract: cases as data, and what holds them against every way into the sidecar."""

import pytest

# Without it a failed assertion there does not say what it compared.
pytest.register_assert_rewrite("tests.contract.checks")
