"""Commands that need no network but its tokenizer, on the model in the box: one sentence, never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest
from strategies import TASK_JSON, WriteJson

from arc_kaggle.cli import main
from arc_kaggle.config.model import BOX_FOLDER

SENTENCE = "expected it to take every text of the encoder and of the prompt format"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["show", "--tasks", "{tasks}", "--what", "training_prompt", "--encoder", "rows+minimal"], SENTENCE),
        (["fit", "--tokenizer", "{box}", "--tasks", "{tasks}"], SENTENCE),
        (["fit", "--tokenizer", "{box}", "--tasks", "{tasks}", "--prompt", "chat"], "found none in the tokenizer"),
        (["fit", "--tokenizer", "{empty}", "--tasks", "{tasks}", "--prompt", "chat"], "found no tokenizer that can be"),
        (
            ["show", "--tasks", "{tasks}", "--what", "query_prompt", "--model", "{empty}"],
            "found no tokenizer that can be",
        ),
        (["symbols", "--tokenizer", "{box}"], "a closed vocabulary has no symbols to choose from"),
    ],
    ids=["show", "fit", "fit chat", "fit an empty folder", "show an empty folder", "symbols"],
)
def test_what_a_tokenizer_cannot_write_is_one_sentence(
    words: list[str], said: str, write_json: WriteJson, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    places = {"tasks": write_json("tasks.json", {"a": TASK_JSON}), "box": BOX_FOLDER, "empty": tmp_path / "empty"}
    assert main([word.format(**places) for word in words]) != 0
    printed = capsys.readouterr().err
    assert printed.startswith("arc-kaggle: ") and said in printed and printed.count("\n") == 1
