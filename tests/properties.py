"""How properties are tested: many examples, the same in every run, without a clock."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

many = settings(
    derandomize=True,  # a red run stays red until its cause is mended
    max_examples=100,
    deadline=None,  # how fast an example runs says more of the machine than of us
    suppress_health_check=[HealthCheck.too_slow],  # as above
)

# Every string that Python can hold, lone surrogates included: JSON can escape them.
any_text = st.text(st.characters())
# RFC 6749 appendix A: %x20-7E, of which identifiers and secrets of clients are made.
vschar = st.characters(min_codepoint=0x20, max_codepoint=0x7E)
