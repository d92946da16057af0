"""Configs: what is written is read back; what does not exist or makes no sense is named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc_kaggle.config.answer import GenerateConfig, RescoreConfig, Selection
from arc_kaggle.config.json import config_from_json, config_to_json
from arc_kaggle.config.model import BOX_FOLDER, BY_RECIPE, recipe_of
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.config.tune import RECIPES, LoraConfig, TuneConfig
from arc_kaggle.errors import ArcKaggleError, ConfigError, ModelError
from arc_kaggle.models.card import ModelCard, read_card, write_card
from arc_kaggle.text.prompt_format import PromptFormat


def config_of(**options: Any) -> SolveConfig:
    return SolveConfig("arc1:evaluation", Path("out"), **{"recipe": "lora", **options})


@given(
    st.builds(
        config_of,
        model=st.sampled_from([Path("/a/b"), Path("c")]),
        seed=st.integers(0, 99),
        overwrite=st.booleans(),
        generate=st.builds(GenerateConfig, n_views=st.integers(1, 9), keep_background=st.floats(0, 1)),
        tune=st.just(BY_RECIPE)
        | st.builds(TuneConfig, steps=st.integers(0, 9), lora=st.builds(LoraConfig, rank=st.integers(1, 9))),
    )
)
def test_json_round_trip(config: SolveConfig) -> None:
    assert config_from_json(SolveConfig, json.loads(json.dumps(config_to_json(config)))) == config


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"sede": 1}, "config: unknown option 'sede' (did you mean 'seed'?)"),
        ({"generate": {"nviews": 1}}, "config.generate: unknown option 'nviews' (did you mean 'n_views'?)"),
        (
            {"tune": {"optim": {"learning_rat": 1}}},
            "config.tune.optim: unknown option 'learning_rat' (did you",
        ),
        ({"qqqq": 1}, "config: unknown option 'qqqq'"),
    ],
)
def test_an_unknown_option_names_the_nearest(value: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config_from_json(SolveConfig, {"tasks": "a", "out": "b", **value})
    assert str(caught.value).startswith(problem)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"max_tries": 0}, "option max_tries: found 0, expected 1 or more"),
        ({"seed": -1}, "option seed: found -1, expected 0 or more"),
        ({"time_limit_minutes": 0.0}, "option time_limit_minutes: found 0.0, expected more than 0"),
        ({"time_limit_minutes": float("nan")}, "option time_limit_minutes: found nan, expected more than 0"),
        ({"recipe": "bxo"}, "recipe 'bxo': no such recipe (did you mean 'box'?); expected one of none, lora, box"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config_of(**options)
    assert str(caught.value).startswith(problem)


def test_a_recipe_is_found_by_name_or_by_the_card_of_the_model(tmp_path: Path) -> None:
    assert recipe_of(tmp_path) is RECIPES["lora"]  # no card
    write_card(tmp_path, ModelCard(PromptFormat("", "I", "O", "$"), "box", {}))
    assert recipe_of(tmp_path) is RECIPES["box"]
    assert recipe_of(tmp_path, "none") is RECIPES["none"]
    assert config_of(model=tmp_path, recipe="auto").tune is RECIPES["box"]
    assert config_of(model=tmp_path, recipe="auto", tune=TuneConfig(steps=3)).tune.steps == 3
    write_card(tmp_path, ModelCard(PromptFormat("", "I", "O", "$"), "boxed", {}))
    with pytest.raises(ConfigError, match=r"recipe 'boxed': no such recipe \(did you mean 'box'\?\)"):
        recipe_of(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "5", "{}"),
        *(
            f'{{"prompt_format": {fmt}, "recipe": "box", "facts": {{}}}}'
            for fmt in ('{"begin": ""}', "{}", "null", "5")
        ),
    ],
)
def test_a_broken_card_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "arc_kaggle.json").write_text(text)
    with pytest.raises(ModelError, match=r"arc_kaggle\.json: "):
        read_card(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "5", "{}", '{"recipe": []}', '{"recipe": null}'])
def test_a_card_without_a_recipe_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "arc_kaggle.json").write_text(text)
    with pytest.raises(ModelError, match=r"arc_kaggle\.json: "):
        recipe_of(tmp_path)


def test_the_shipped_model_names_a_recipe_that_exists() -> None:
    assert recipe_of(BOX_FOLDER) in RECIPES.values()


def test_a_config_is_a_value() -> None:
    config = config_of()
    assert replace(config, seed=3) == replace(config, seed=3) != config
    assert hash(config) == hash(config_of())
    assert issubclass(ConfigError, ArcKaggleError)


@pytest.mark.parametrize("name", ["arc24", "poe", "nvarc"])
def test_recipes_of_public_systems_are_as_published(name: str) -> None:
    recipe = RECIPES[name]
    expected = {
        "arc24": (320, 8e-5, None, "linear", 0.1, "last_output", 0.9, 128, 64, 4),
        "poe": (64, 1e-4, 1e-5, "cosine", 0.5, "outputs_but_first", 0.0, 32, 16, 9),
        "nvarc": (128, 5e-5, None, "cosine", 0.1, "outputs", 0.0, 256, 32, 9),
    }
    optim, lora = recipe.optim, recipe.lora
    rates = (optim.learning_rate, optim.embedding_learning_rate, optim.schedule, optim.warmup_fraction)
    found = (*rates, recipe.loss, recipe.keep_background, lora.rank, lora.alpha, len(lora.modules))
    assert (recipe.steps, *found) == expected[name]
    assert (recipe.weights, recipe.batch_size, lora.rslora) == ("lora", 1, True)
    assert config_of(recipe=name).tune is recipe


@pytest.mark.parametrize("by", ["poe", "nvarc", "probmul"])
def test_a_selection_by_scores_needs_scores(by: Selection, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"select_by: found {by} and rescore\.n_views 0, .* --rescore\.n-views 8"):
        SolveConfig("arc1:training", tmp_path, select_by=by)
    assert SolveConfig("arc1:training", tmp_path, select_by=by, rescore=RescoreConfig(n_views=8)).select_by == by
