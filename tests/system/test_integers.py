from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from arc_kaggle.system.integers import ceil_div, round_up


@given(st.integers(0, 10**30), st.integers(1, 300))
def test_rounding_up_gives_the_next_multiple(n: int, multiple: int) -> None:
    rounded = round_up(n, multiple)
    assert rounded % multiple == 0 and rounded - multiple < n <= rounded
    assert rounded == ceil_div(n, multiple) * multiple
