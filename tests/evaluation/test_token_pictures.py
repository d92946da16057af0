"""The study of tokens: what a model says of every cell of a right answer."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from processes import write_tasks
from studies import Ticking

from arc_kaggle.config.study import StudyConfig
from arc_kaggle.tasks.grid import as_grid
from arc_kaggle.tasks.task import Pair, Query, Task


def test_tokens_of_all_puzzles_are_kept_and_compared(tmp_path: Path) -> None:
    from arc_kaggle.evaluation.study.token_pictures import draw_tokens

    config = StudyConfig("tokens", tasks=str(write_tasks(tmp_path, 3)), out=tmp_path / "study", window=8, query=1)
    text = draw_tokens(config)
    cells = [json.loads(line) for line in (tmp_path / "study" / "cells.jsonl").read_text().splitlines()]
    assert len(cells) == 6 and (tmp_path / "study" / "table.md").read_text() == text
    for line, context in zip(text.splitlines()[2:], ("full", "last 8"), strict=True):
        means = [np.mean(each["entropy"]) for each in cells if each["context"] == context]
        assert line.startswith(f"| box, {context} context | 3 | {np.mean(means):.3f} (")
    with (tmp_path / "study" / "table.csv").open() as file:
        (full, _) = csv.DictReader(file)
    own = [each for each in cells if each["context"] == "full"]
    assert full["row"] == "box, full context" and full["n_puzzles"] == "3"
    for kind in ("entropy", "right", "confidence"):
        assert float(full[kind]) == pytest.approx(np.mean([np.mean(each[kind]) for each in own]), abs=1e-5)
    with (tmp_path / "study" / "tokens.csv").open() as file:
        drawn = [float(row["entropy_nats"]) for row in csv.DictReader(file) if row["context"] == "full"]
    kept = next(each for each in cells if each["puzzle"] == "t01" and each["context"] == "full")
    assert drawn == pytest.approx(np.ravel(kept["entropy"]), abs=1e-5)
    assert draw_tokens(config) == text and len((tmp_path / "study" / "cells.jsonl").read_text().splitlines()) == 6
    short = replace(config, out=tmp_path / "short", hours=0.05)
    assert "| 2 |" in draw_tokens(short, lambda _: None, Ticking(30.0)), "180 s, of which a puzzle takes 30"


def test_a_window_hides_tokens_and_moves_none() -> None:
    """With one layer nothing that is hidden comes through others; what is left stands where it stood."""
    import torch
    from models import alone, lively_model

    from arc_kaggle.evaluation.study.token_pictures import _logits
    from arc_kaggle.models.new_model import new_grid_model

    model = alone(new_grid_model(64, 1, 0))
    model.network.load_state_dict(lively_model(0, "grid alone").network.state_dict(), strict=False)
    ids, places, window = np.random.default_rng(0).integers(16, size=60), np.arange(5, 60), 12
    near = torch.ones(60, 60, dtype=torch.bool).tril().triu(1 - window)
    mask = torch.zeros(60, 60).masked_fill_(~near, torch.finfo(torch.float32).min)[None, None]
    with torch.inference_mode():
        expected = model.network(input_ids=torch.from_numpy(ids)[None], attention_mask=mask).logits[0, 4:59]
        torch.testing.assert_close(_logits(model, ids, places, window), expected, rtol=1e-4, atol=1e-4)


def test_every_cell_has_the_token_that_says_its_colour() -> None:
    from arc_kaggle.config.model import BOX_FOLDER
    from arc_kaggle.evaluation.study.token_pictures import cell_places, cells_of
    from arc_kaggle.models.loading import load_model

    model = load_model(BOX_FOLDER, "fp32", "cpu")
    answer = as_grid([[1, 2, 3], [4, 5, 6]])
    ids, places = model.notation.completion_ids(answer), cell_places(answer, model.notation)
    assert [[model.tokenizer.decode([ids[place]])[0] for place in line] for line in places] == [
        list("123"),
        list("456"),
    ]
    pairs = tuple(Pair(as_grid([[i, 2]]), as_grid([[2, i]])) for i in (1, 3))
    query = Query(Task("t", pairs, (Pair(as_grid([[4, 2, 1]]), answer),)), 0)
    full, wide, narrow = (cells_of(model, query, window) for window in (0, 4096, 8))
    from arc_kaggle.engines.hf.engine import HFEngine
    from arc_kaggle.system.deadline import Deadline
    from arc_kaggle.text.prompt import query_prompt
    from arc_kaggle.text.tokens import tokenize

    prompt = tokenize(query_prompt(query, model.notation), model.tokenizer).ids
    ends = [[*map(int, ids[: place + 1])] for place in places.ravel()]
    starts = [end[:-1] for end in ends]
    scored = [np.array(each, dtype=np.int64) for each in (*ends, *(start for start in starts if start))]
    ((_, nlls),) = HFEngine(model).score([prompt], [scored], Deadline.never())
    after = dict(zip(map(tuple, (each.tolist() for each in scored)), nlls, strict=True))
    expected = [
        np.exp(after.get(tuple(start), 0.0) - after[tuple(end)]) for start, end in zip(starts, ends, strict=True)
    ]
    np.testing.assert_allclose(full["right"].ravel(), expected, rtol=1e-3)
    np.testing.assert_allclose(wide["entropy"], full["entropy"], rtol=1e-3)
    assert np.abs(narrow["entropy"] - full["entropy"]).max() > 0.01
    assert (full["confidence"] >= full["right"] - 1e-12).all() and (full["entropy"] >= 0).all()
