"""What is tried is what is submitted: one saved config runs in solve, preflight, evaluate and the notebooks."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tyro

from arc_kaggle.cli import main, with_saved
from arc_kaggle.config.answer import GenerateConfig, RescoreConfig
from arc_kaggle.config.command_line import known_defaults
from arc_kaggle.config.evaluate import EvaluateConfig
from arc_kaggle.config.json import config_to_json
from arc_kaggle.config.model import BOX_FOLDER, EngineOptions, ModelOptions, options_of
from arc_kaggle.config.preflight import PreflightConfig
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.config.tune import RECIPES, LoraConfig, OptimConfig, TuneConfig
from arc_kaggle.errors import ConfigError
from arc_kaggle.kaggle.machines import as_words
from arc_kaggle.kaggle.notebook import read_options

TUNE = TuneConfig(steps=7, optim=OptimConfig(learning_rate=3e-4), lora=LoraConfig(9, modules=("q_proj", "v_proj")))
CONFIG = SolveConfig(
    tasks="arc1:training",
    select="shortest:3",
    out=Path("there"),
    time_limit_minutes=3,
    precision="fp32",
    recipe="lora",
    cut_vocabulary=True,
    select_by="poe",
    rescore=RescoreConfig(n_views=4),
    generate=GenerateConfig(n_views=12, keep_background=0.5),
    tune=TUNE,
    first_views=3,
)


@pytest.fixture
def saved(tmp_path: Path) -> str:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config_to_json(CONFIG)))
    return str(path)


def parsed(name: str, kind: Any, words: list[str]) -> Any:
    """The config that the command line makes of words."""
    words = with_saved(name, words)
    return tyro.cli(kind, args=words, **known_defaults(kind, words))


def test_it_runs_in_solve_and_preflight(saved: str) -> None:
    solve = parsed("solve", SolveConfig, ["--config", saved, "--tasks", "arc2:evaluation", "--out", "here"])
    assert (solve.tasks, solve.select, solve.out, solve.time_limit_minutes) == (
        "arc2:evaluation",
        "",
        Path("here"),
        700,
    )
    preflight = parsed("preflight", PreflightConfig, ["--config", saved])
    for found in (solve, preflight, preflight.run):
        assert options_of(found, ModelOptions) == options_of(CONFIG, ModelOptions)


def test_it_runs_in_evaluate(saved: str) -> None:
    found = parsed("evaluate", EvaluateConfig, ["--config", saved])
    assert options_of(found, EngineOptions) == options_of(CONFIG, EngineOptions)
    assert (found.checkpoints, found.recipes, found.given_tune) == ((BOX_FOLDER,), ("none", "lora"), TUNE)
    other = parsed("evaluate", EvaluateConfig, ["other", "--config", saved, "--recipes", "arc24"])
    assert (other.checkpoints, other.recipes) == ((Path("other"),), ("arc24",))


def test_it_runs_in_the_notebooks(saved: str) -> None:
    """On the model that is attached there."""
    options = read_options(saved)
    assert {"model", "adapter", "out", "tasks"} & options.keys() == set()
    words = as_words({"model": BOX_FOLDER, **options, "tasks": "t", "out": "o"})
    found = tyro.cli(SolveConfig, args=words, **known_defaults(SolveConfig, words))
    assert options_of(found, ModelOptions) == options_of(CONFIG, ModelOptions)
    assert read_options({"tune.steps": 3}) == {"tune.steps": 3} and read_options(None) == {}


def test_options_that_are_given_win(saved: str) -> None:
    words = ["--config", saved, "--tasks", "t", "--out", "o", "--tune.steps", "20", "--select-by=votes"]
    found = parsed("solve", SolveConfig, words)
    assert (found.tune, found.select_by) == (replace(TUNE, steps=20), "votes")


def test_what_is_no_config_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text, said in (("{", "expected the config.json"), ('{"a": 1}', "found no options of a run")):
        (tmp_path / "config.json").write_text(text)
        assert main(["solve", "--config", str(tmp_path / "config.json"), "--tasks", "t", "--out", "o"]) == 2
        assert said in capsys.readouterr().err
    assert main(["solve", "--config"]) == 2
    assert "option config: found no file behind it" in capsys.readouterr().err


def test_evaluate_takes_single_options_of_fine_tuning() -> None:
    """On top of the recipe of the model, and for no other recipe than that."""
    assert parsed("evaluate", EvaluateConfig, []).given_tune.weights == "lora"  # a stand-in: the recipe decides
    found = parsed("evaluate", EvaluateConfig, ["--tune.steps", "20", "--rescore.n-views", "2", "--select-by", "poe"])
    assert found.given_tune == replace(RECIPES["box"], steps=20)
    assert (found.rescore.n_views, found.select_by) == (2, "poe")
    several = replace(found, recipes=("none", "box", "lora"))
    with pytest.raises(ConfigError, match="option tune: found it with the recipes box, lora"):
        _ = several.given_tune


def test_evaluate_judges_an_adapter_on_the_model_that_is_named(tmp_path: Path) -> None:
    from arc_kaggle.evaluation.evaluate import find_models

    (tmp_path / "lora").mkdir()
    (tmp_path / "lora" / "adapter_config.json").write_text(
        '{"peft_type": "LORA", "r": 3, "target_modules": ["q_proj"]}'
    )
    base = shutil.copytree(BOX_FOLDER, tmp_path / "base")
    (found,) = find_models(EvaluateConfig((base,), adapter=tmp_path / "lora"))
    assert (found.folder, found.base) == (tmp_path / "lora", base)
    with pytest.raises(ConfigError, match="option adapter: found 2 models"):
        EvaluateConfig((base, base), adapter=tmp_path / "lora")
