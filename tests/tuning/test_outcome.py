"""Reports of fine-tuning: what they say, and that those of earlier versions are read."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from arc_kaggle.tuning.outcome import TuneReport

REPORTS = {
    "tuned": TuneReport(True, steps=3),
    "tuned (cut off after 3 steps)": TuneReport(True, "cut off after 3 steps", 3, cut_off=True),
    "tuned (gradient checkpointing)": TuneReport(True, "gradient checkpointing", 3),
    "base: one train pair": TuneReport(False, "one train pair", 3),
}


@pytest.mark.parametrize("text", REPORTS)
def test_a_report_is_one_phrase_and_comes_back_from_json(text: str) -> None:
    assert REPORTS[text].text == text
    assert TuneReport.from_json(asdict(REPORTS[text])) == REPORTS[text]


@pytest.mark.parametrize("text", [*REPORTS, "tuned, gradient checkpointing"])
def test_a_report_of_the_time_when_the_outcome_was_a_text_is_read(text: str) -> None:
    found = TuneReport.from_json({"outcome": text, "steps": 3, "first_loss": None, "last_loss": None, "seconds": 0.0})
    assert found == REPORTS.get(text, REPORTS["tuned (gradient checkpointing)"])
