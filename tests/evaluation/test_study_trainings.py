"""Studies that train their models themselves."""

from __future__ import annotations

import csv
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from studies import quietly, study_of

from arc_kaggle.config.study import StudyConfig
from arc_kaggle.errors import ConfigError
from arc_kaggle.evaluation.study.catalogue import STUDIES
from arc_kaggle.tasks.grid import as_grid

TINY = ("steps=4", "save-every=2", "hidden-size=32", "n-layers=1", "validation-puzzles=2")
SHORT = ("tokens-per-batch=256", "max-tokens=128", "first-max-tokens=128", "precision=fp32", "hold-out=0.6")


@pytest.fixture
def few_probed_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("trainings", "study"):
        monkeypatch.setattr(f"arc_kaggle.evaluation.study.{module}.PROBED_STEPS", 4)


def test_a_study_trains_its_models_and_judges_every_checkpoint(few_probed_steps: None, tmp_path: Path) -> None:
    from train_data import CLEAN, write_tasks_file

    data = write_tasks_file(tmp_path / "rules.json", [*CLEAN])
    config = study_of(
        tmp_path,
        "checkpoints",
        n_tasks=4,
        over=(),
        seeds=1,
        set=("recipe=none", "generate.n-views=1"),
        train=(*TINY, *SHORT, f"data={data}"),
    )
    rows, lines = quietly(config)
    assert [each.name for each in rows] == ["training, step 2", "training, step 4"]
    assert lines[0].startswith("1 models of seed 0: about 0.00 h of training to go")
    assert "vote_2 against training, step 4" in (tmp_path / "study" / "table.md").read_text()
    with (tmp_path / "study" / "table.csv").open() as file:
        assert [line["against"] for line in csv.DictReader(file)] == ["training, step 4", ""]
    curves = (tmp_path / "study" / "curves.csv").read_text().splitlines()
    assert curves[0].startswith("model,seed,step,validation_loss") and len(curves) == 1 + 3
    assert (tmp_path / "study" / "curves.svg").is_file()
    again, lines = quietly(config)
    assert len(lines) == 2 and [each.values for each in again] == [each.values for each in rows]
    with pytest.raises(ConfigError, match="study checkpoints: found --models, expected none"):
        quietly(replace(config, models=(tmp_path,)))


def test_the_last_and_the_best_of_a_training_are_rows_and_the_best_step_is_told(
    few_probed_steps: None, tmp_path: Path
) -> None:
    """At a rate at which it gets worse the best model is not the last one."""
    from train_data import CLEAN, write_tasks_file

    data = write_tasks_file(tmp_path / "rules.json", [*CLEAN])
    training = (*TINY, *SHORT, f"data={data}", "optim.learning-rate=0.3")
    settings: dict[str, Any] = {"n_tasks": 4, "over": (), "seeds": 1, "set": ("recipe=none", "generate.n-views=1")}
    config = study_of(tmp_path, "loss", train=training, **settings)
    rows, _ = quietly(config)
    kinds = ("last_output", "outputs_but_first", "outputs", "everything")
    assert [each.name for each in rows] == [f"{kind}, {which}" for kind in kinds for which in ("last", "best")]
    table = (tmp_path / "study" / "trainings.md").read_text().splitlines()[2:]
    with (tmp_path / "study" / "curves.csv").open() as file:
        points = [(row["model"], int(row["step"]), float(row["validation_loss"])) for row in csv.DictReader(file)]
    for kind, line in zip(kinds, table, strict=True):
        own = {step: loss for name, step, loss in points if name == kind}
        best = min(own, key=lambda step: own[step])
        cells = line.strip("| ").split(" | ")
        assert cells[:4] == [kind, "0", str(best), f"{own[best]:.4f}"] and cells[5] == "4"
        assert best < 4


def test_models_of_texts_are_trained_and_judged_in_their_own_encodings(tmp_path: Path) -> None:
    """Two rows of `encoders`, from their models' first step to the tables."""
    from train_data import CLEAN, SECRET, write_tasks_file

    study = STUDIES["encoders"]
    study = replace(study, models={name: study.models[name] for name in ("plain", "symbols + shape + rows")})
    data = write_tasks_file(tmp_path / "rules.json", [*CLEAN])
    against = write_tasks_file(tmp_path / "against.json", [SECRET])
    short = (
        "steps=2",
        "save-every=2",
        "examples-per-batch=1",
        "max-symbols=120",
        "validation-puzzles=1",
        "hold-out=0.6",
    )
    options: dict[str, Any] = {"over": (), "seeds": 1, "set": ("generate.n-views=1", "generate.max-new-tokens=4")}
    config = study_of(
        tmp_path,
        "encoders",
        n_tasks=2,
        train=(*short, "precision=fp32", f"data={data}", f"against={against}"),
        **options,
    )
    rows, _ = quietly(config, study=study)
    assert [(each.name, each.n_tasks) for each in rows] == [(name, 2) for name in study.models]
    assert {"table.md", "trainings.md", "curves.svg"} <= {path.name for path in (tmp_path / "study").iterdir()}
    seen = [
        json.loads(path.read_text())["encoder"] for path in sorted((tmp_path / "study").glob("models/seed-0/*/arc*"))
    ]
    assert seen == ["minimal", "shape+rows+replace('ñò÷ûąćďęĚĞ')+minimal"]


def test_hours_that_are_too_few_for_a_seed_train_none_of_its_models(few_probed_steps: None, tmp_path: Path) -> None:
    from train_data import CLEAN, write_tasks_file

    training = (*TINY, *SHORT, f"data={write_tasks_file(tmp_path / 'rules.json', [*CLEAN])}", "steps=50000")
    config = study_of(tmp_path, "dropping-pairs", n_tasks=4, over=(), train=training)
    rows, lines = quietly(replace(config, hours=0.01))
    assert rows == [] and "seed 0: " in lines[-1] and "of which two thirds may be training: it ends here" in lines[-1]
    assert not (tmp_path / "study" / "models").exists()
    rows, lines = quietly(replace(config, plan=True))
    assert rows == [] and lines[-1].startswith("judged as they were after 4 steps, each once a seed: 3 rows x 1 seeds")


@pytest.mark.parametrize("name", ["encoders", "system-prompt"])
def test_rows_in_other_encodings_see_the_same_grids_in_the_same_steps(name: str, tmp_path: Path) -> None:
    """All text but cells and row ends is taken out; what is left is equal in all rows."""
    from arc_kaggle.evaluation.study.trainings import training_config, write_small_model
    from arc_kaggle.models.loading import load_model
    from arc_kaggle.training.examples import ExampleSource
    from arc_kaggle.training.mixture import load_mixture
    from arc_kaggle.training.packing import BatchStream

    config = StudyConfig(name, out=tmp_path, train=("against=arc1:evaluation", "data=synth:0.2"))
    write_small_model(tmp_path / "models" / "small-0", 0)
    seen = []
    for row_name in STUDIES[name].models:
        training = training_config(STUDIES[name], config, row_name, 0)
        model = load_model(tmp_path / "models" / "small-0", "fp32", "cpu", training.prompt, training.encoder)
        stream = BatchStream(ExampleSource(load_mixture(training), model.notation, training), model.pad_id)
        rows = [
            ids[ids != model.pad_id].tolist() for step in (1, 600) for batch in stream[step, 0] for ids in batch.ids
        ]
        assert len(rows) == 32 and max(map(len, rows)) < 0.9 * training.max_tokens, "none had to leave pairs out"
        seen.append(sorted(grids_in(model.tokenizer.decode(row), model.notation) for row in rows))
    assert all(each == seen[0] for each in seen[1:])


def grids_in(text: str, notation: Any) -> str:
    """The grids of a prompt as digits, with slashes for row ends."""
    text = text.translate(str.maketrans("ñò÷ûąćďęĚĞ", "0123456789"))
    text = re.sub(r"[^\d \n]+", "\n", re.sub(r"shape: \d+x\d+", "", text))
    lines = (re.sub(r"^ *\d+ (?=\d)", "", line).strip() for line in text.split("\n"))
    return "/".join(line for line in lines if line and not line.isspace())


def test_the_small_model_keeps_symbols_digits_and_row_numbers_apart() -> None:
    from arc_kaggle.models.new_model import new_text_model
    from arc_kaggle.text.box_tokenizer import TEXT
    from arc_kaggle.text.encoders import parse_encoder
    from arc_kaggle.text.presets import PRESETS

    model = new_text_model(32, 1, 0)
    assert len(model.tokenizer) == len(TEXT) == len(set(TEXT)) == 111
    for words in STUDIES["encoders"].models.values():
        encoder = parse_encoder(shlex.split(words)[-1])
        text = encoder.encode(as_grid([[x % 10 for x in range(12)]] * 11))
        assert len(model.notation.ids(text)) == len(text) and model.tokenizer.decode(model.notation.ids(text)) == text
    chat = PRESETS["arc24"].format
    assert model.tokenizer.decode(model.notation.ids(chat.begin)) == chat.begin
