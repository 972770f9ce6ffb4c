"""Hypothesis settings and strategies: many examples, equal in every run, without a clock."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

many = settings(
    derandomize=True,  # a failure stays until its cause is fixed
    max_examples=100,
    deadline=None,  # the time of an example depends more on the machine than on us
    suppress_health_check=[HealthCheck.too_slow],  # as above
)

# Every string that Python can hold, lone surrogates included: JSON can escape them.
any_text = st.text(st.characters())
# RFC 6749 appendix A: %x20-7E, of which identifiers and secrets of clients are made.
vschar = st.characters(min_codepoint=0x20, max_codepoint=0x7E)
