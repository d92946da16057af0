"""Integer division that rounds up."""

from __future__ import annotations


def ceil_div(n: int, divisor: int) -> int:
    """The least integer that is not below n / divisor."""
    return -(-n // divisor)


def round_up(n: int, multiple: int) -> int:
    """The least multiple of `multiple` that is not below n."""
    return ceil_div(n, multiple) * multiple
