"""Progress: one line that is replaced on a terminal, and a line a step in a log."""

from __future__ import annotations

from io import StringIO
from itertools import count

from arc_kaggle.system.steps import Steps


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def told(stream: StringIO) -> str:
    seconds = count(100.0, 7.0)
    steps = Steps("preflight", stream, lambda: next(seconds))
    steps("loading the model")
    steps("asking")
    steps.done()
    return stream.getvalue()


def test_a_log_has_a_line_a_step() -> None:
    assert told(StringIO()) == "preflight: 7 s, loading the model\npreflight: 14 s, asking\n"


def test_a_terminal_has_one_line_that_is_empty_in_the_end() -> None:
    text = told(Terminal())
    assert text.count("\r\x1b[K") == 3 and "\n" not in text
    assert text.endswith("\r\x1b[K")
    assert text.split("\r\x1b[K")[1:3] == ["preflight: 7 s, loading the model ...", "preflight: 14 s, asking ..."]
