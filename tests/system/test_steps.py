"""Progress: one line that is replaced on a terminal, and a line a step in a log."""

from __future__ import annotations

from io import StringIO
from itertools import count

from arc_kaggle.system.steps import Steps, bar


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


def test_a_bar_in_a_log_is_a_line_a_state() -> None:
    log = StringIO()
    assert list(bar(range(3), log, unit="rule", mininterval=0, maxinterval=0)) == [0, 1, 2]
    assert "\r" not in log.getvalue()
    assert [line.split("|")[2].split()[0] for line in log.getvalue().splitlines()] == [
        *(f"{i}/3" for i in range(4)),
        "3/3",
    ]


def test_a_bar_in_a_log_is_seldom_told() -> None:
    log = StringIO()
    list(bar(range(1000), log))
    assert len(log.getvalue().splitlines()) == 2  # at the beginning and in the end


def test_a_bar_on_a_terminal_is_one_line() -> None:
    terminal = Terminal()
    list(bar(range(3), terminal, mininterval=0))
    assert terminal.getvalue().count("\r") > 3 and terminal.getvalue().count("\n") == 1
