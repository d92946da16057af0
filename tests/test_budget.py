"""Deadlines read the clock they are given and no other."""

from __future__ import annotations

import math

import pytest

from arc_kaggle.budget import Deadline


class FakeClock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("now", "seconds_left", "passed"),
    [(100.0, 10.0, False), (109.5, 0.5, False), (110.0, 0.0, True), (115.0, -5.0, True)],
)
def test_deadline_follows_its_clock(now: float, seconds_left: float, passed: bool) -> None:
    clock = FakeClock(100.0)
    deadline = Deadline.after(10.0, clock)
    clock.now = now
    assert deadline.seconds_left == seconds_left
    assert deadline.passed is passed


@pytest.mark.parametrize(("seconds", "at_s"), [(3.0, 103.0), (10.0, 110.0), (50.0, 110.0), (-1.0, 99.0)])
def test_earlier_never_moves_a_deadline_back(seconds: float, at_s: float) -> None:
    clock = FakeClock(100.0)
    earlier = Deadline.after(10.0, clock).earlier(seconds)
    assert earlier == Deadline(at_s, clock)


def test_never_does_not_pass_but_can_be_cut_short() -> None:
    never = Deadline.never()
    assert never.seconds_left == math.inf
    assert not never.passed
    assert 0 < never.earlier(1000.0).seconds_left <= 1000.0


def test_a_deadline_that_is_now_has_passed() -> None:
    assert Deadline.after(0.0).passed
