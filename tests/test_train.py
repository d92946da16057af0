"""`train`: seeded, clean of evaluation tasks unless told otherwise, and ending in a folder that loads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models import weights_of
from strategies import WriteJson

from arc_kaggle.augmentation import Augmentation
from arc_kaggle.card import read_card
from arc_kaggle.errors import ConfigError, LeakError, PromptError, TaskError
from arc_kaggle.grid import as_grid, grid_lists
from arc_kaggle.model import load_model, new_model
from arc_kaggle.prompt import Loss
from arc_kaggle.task import Pair, Task, task_to_json
from arc_kaggle.tokens import NOT_TRAINED, Example
from arc_kaggle.train import ExampleSource, TrainConfig, keep_clean, load_rules, split_rules, train

DISGUISE = Augmentation(5, (3, 1, 4, 0, 5, 9, 2, 6, 8, 7))


def random_task(task_id: str, n_train: int = 3, side: int = 3) -> Task:
    """Every output is its input turned upside down; grids follow from the id."""
    rng = np.random.default_rng(list(task_id.encode()))
    grids = [as_grid(rng.integers(10, size=(side, side + i % 2))) for i in range(n_train + 1)]
    pairs = [Pair(grid, as_grid(grid[::-1])) for grid in grids]
    return Task(task_id, tuple(pairs[:-1]), tuple(pairs[-1:]))


def disguised(pair: Pair) -> Pair:
    assert pair.output is not None
    return Pair(DISGUISE.apply(pair.input), DISGUISE.apply(pair.output))


CLEAN = [random_task(f"clean{i}") for i in range(8)]
SECRET = random_task("secret")
LEAKS = {
    "by its id": (replace(random_task("other"), id="secret"), "rule secret: 4 of 4 pairs, by ['its id']"),
    "by a train pair": (
        replace(random_task("other"), test=(disguised(SECRET.train[1]),)),
        "rule other: 1 of 4 pairs, by ['a pair of secret']",
    ),
    "by a test pair": (
        replace(random_task("other"), train=(disguised(SECRET.test[0]), *random_task("other").train)),
        "rule other: 1 of 5 pairs, by ['a pair of secret']",
    ),
}
leaks = pytest.mark.parametrize(("leaking", "said"), LEAKS.values(), ids=LEAKS.keys())


@pytest.fixture
def config(write_json: WriteJson, tmp_path: Path) -> TrainConfig:
    """Three tiny steps on eight rules, against a set of one task."""
    data = write_json("data.json", {task.id: task_to_json(task) for task in CLEAN})
    against = write_json("against.json", {SECRET.id: task_to_json(SECRET)})
    sizes: dict[str, Any] = {"hidden_size": 32, "n_layers": 1, "steps": 3, "tokens_per_batch": 512, "max_tokens": 256}
    return TrainConfig(
        tmp_path / "out", (str(data),), precision="fp32", hold_out=0.45, against=(str(against),), **sizes
    )


def with_leak(config: TrainConfig, leaking: Task, write_json: WriteJson) -> TrainConfig:
    leak = write_json("leak.json", {leaking.id: task_to_json(leaking)})
    return replace(config, data=(*config.data, str(leak)))


def log_of(config: TrainConfig) -> list[dict[str, Any]]:
    """The log, without the seconds."""
    train(config)
    rows = [json.loads(line) for line in (config.out / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def test_equal_seeds_give_equal_losses(config: TrainConfig, tmp_path: Path) -> None:
    first = log_of(config)
    torch.rand(3)  # nothing depends on the global generator
    second = log_of(replace(config, out=tmp_path / "second"))
    other = log_of(replace(config, out=tmp_path / "other", seed=1))
    assert first == second
    assert [row["step"] for row in first] == [1, 2, 3]
    assert all(row["loss"] != another["loss"] for row, another in zip(first, other, strict=True))
    assert weights_of(load_model(config.out).network) == weights_of(load_model(tmp_path / "second").network)


def test_a_longer_run_learns(config: TrainConfig) -> None:
    rows = log_of(replace(config, steps=25, optim=replace(config.optim, learning_rate=0.01), save_every=10))
    assert rows[-1]["loss"] < 0.93 * rows[0]["loss"]
    assert [row["step"] for row in rows if "validation_loss" in row] == [10, 20, 25]


def test_what_is_trained_loads_and_says_how_it_was_made(config: TrainConfig) -> None:
    facts = train(replace(config, recipe="lora"))
    model, card = load_model(config.out), read_card(config.out)
    assert card is not None
    assert (card.recipe, card.facts, card.prompt_format) == ("lora", facts, model.prompt_format)
    assert (facts["steps"], facts["data"], facts["leaks_trained_on"], facts["started_from"]) == (
        3,
        ["data.json"],
        [],
        None,
    )
    _, held = split_rules(load_rules(config.data), config.hold_out)
    assert facts["held_out_rules"] == sorted(rule.id for rule in held) != []
    assert facts["validation_loss"] > 0
    assert facts["settings"]["seed"] == 0


def test_training_goes_on_from_a_folder(config: TrainConfig, tmp_path: Path) -> None:
    train(config)
    facts = train(replace(config, start=config.out, out=tmp_path / "next", hidden_size=640))
    assert (facts["started_from"]["steps"], facts["started_from"]["started_from"]) == (config.steps, None)
    assert load_model(tmp_path / "next").network.config.hidden_size == 32


@leaks
def test_a_leak_is_refused(config: TrainConfig, leaking: Task, said: str, write_json: WriteJson) -> None:
    with pytest.raises(LeakError) as caught:
        train(with_leak(config, leaking, write_json))
    assert str(caught.value).startswith(f"1 rules appear in {config.against[0]}; the first: {said}. Use other data, or")
    assert not config.out.exists()


@leaks
def test_leaks_are_dropped_where_asked(config: TrainConfig, leaking: Task, said: str, write_json: WriteJson) -> None:
    config = replace(with_leak(config, leaking, write_json), drop_leaks=True)
    kept, _ = keep_clean(load_rules(config.data), config)
    n_kept = {rule.id: len(rule.pairs) for rule in kept}
    others = {} if leaking.id == "secret" else {"other": len(leaking.train)}  # all but the one that leaks
    assert n_kept == {task.id: 4 for task in CLEAN} | others
    facts = train(config)
    assert (facts["leaks_left_out"], facts["leaks_trained_on"]) == ([said], [])


@leaks
def test_leaks_that_are_allowed_are_stamped_into_the_card(
    config: TrainConfig, leaking: Task, said: str, write_json: WriteJson
) -> None:
    config = replace(with_leak(config, leaking, write_json), allow_leak=True)
    kept, _ = keep_clean(load_rules(config.data), config)
    assert [rule.id for rule in kept] == [*(task.id for task in CLEAN), leaking.id]
    train(config)
    card = read_card(config.out)
    assert card is not None
    assert (card.facts["leaks_left_out"], card.facts["leaks_trained_on"]) == ([], [said])
    assert card.facts["settings"]["allow_leak"] is True


def test_a_rule_that_keeps_fewer_than_two_pairs_is_dropped(config: TrainConfig, write_json: WriteJson) -> None:
    leaking = Task("other", tuple(map(disguised, SECRET.train)), random_task("other").test)
    config = replace(with_leak(config, leaking, write_json), drop_leaks=True)
    kept, leaks = keep_clean(load_rules(config.data), config)
    assert [rule.id for rule in kept] == [task.id for task in CLEAN]
    assert leaks == ["rule other: 3 of 4 pairs, by ['a pair of secret']"]


def test_arc2_training_holds_most_of_arc1_evaluation(tmp_path: Path) -> None:
    config = TrainConfig(tmp_path / "out", ("arc2:training",), against=("arc1:evaluation",))
    with pytest.raises(LeakError, match=r"^\d+ rules appear in arc1:evaluation; the first: rule ") as caught:
        train(config)
    assert 300 < int(str(caught.value).split()[0]) <= 420
    assert not config.out.exists()


def write_rules(path: Path, rules: dict[str, int]) -> str:
    """A pair file with rules of so many pairs each."""
    lines = [
        {"task": name, "pairs": [[grid_lists(p.input), grid_lists(p.input)] for p in random_task(name, n).train]}
        for name, n in rules.items()
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def test_the_weight_of_a_source_is_shared_by_its_rules(tmp_path: Path) -> None:
    a = write_rules(tmp_path / "a.jsonl", {"a": 2, "b": 3})
    b = write_rules(tmp_path / "b.jsonl", {"c": 2})
    rules = load_rules([f"{a}=2.5", b])
    assert {rule.id: rule.weight for rule in rules} == {"a": 1.25, "b": 1.25, "c": 1.0}


def test_rules_are_drawn_by_weight(config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a = write_rules(tmp_path / "a.jsonl", {"a": 3})
    b = write_rules(tmp_path / "b.jsonl", {"b": 3})
    source = ExampleSource(load_rules([f"{a}=3", b]), new_model(32, 1, 0), config)
    drawn: list[str] = []

    def choose(index: int, *rest: Any) -> list[int]:
        drawn.append(source.rules[index].id)
        return [0, 1]

    monkeypatch.setattr(source, "_choose_pairs", choose)
    rng = np.random.default_rng(0)
    for _ in range(400):
        source.draw(rng, 256)
    assert 270 < drawn.count("a") < 330


@pytest.mark.parametrize("weight", ["x", "0", "-1", "inf", "nan", "1=2", "2,5"])
def test_a_bad_weight_is_refused(tmp_path: Path, weight: str) -> None:
    source = write_rules(tmp_path / "a.jsonl", {"a": 2})
    with pytest.raises(
        ConfigError, match=rf"^data '.*a.jsonl={weight}': found weight '{weight}', expected a number over 0"
    ):
        load_rules([f"{source}={weight}"])


@pytest.mark.parametrize("rules", [{}, {"a": 1}, {"a": 0, "b": 1}], ids=["empty", "one pair", "no pair"])
def test_a_source_without_a_rule_is_refused(tmp_path: Path, rules: dict[str, int]) -> None:
    source = write_rules(tmp_path / "a.jsonl", rules)
    with pytest.raises(ConfigError, match=r"^data '.*a.jsonl=2': found no rule with two pairs, expected one or more"):
        load_rules([f"{source}=2"])


def test_rules_with_fewer_than_two_pairs_are_left_out(tmp_path: Path) -> None:
    source = write_rules(tmp_path / "a.jsonl", {"a": 1, "b": 2, "c": 0, "d": 4})
    assert [(rule.id, len(rule.pairs), rule.weight) for rule in load_rules([source])] == [("b", 2, 0.5), ("d", 4, 0.5)]


def test_unsolved_test_pairs_are_no_pairs_of_a_rule(write_json: WriteJson) -> None:
    path = write_json("a.json", {task.id: task_to_json(task.without_solution()) for task in CLEAN})
    assert {len(rule.pairs) for rule in load_rules([str(path)])} == {3}


@pytest.mark.parametrize("source", ["missing.jsonl", "missing.jsonl.xz", "missing.json", "arc9:training"])
def test_a_missing_source_is_a_clear_error(source: str) -> None:
    with pytest.raises(TaskError, match=source):
        load_rules([source])


def test_holding_everything_out_leaves_nothing_to_train_on(config: TrainConfig) -> None:
    with pytest.raises(ConfigError, match=r"^training data: found no rule to train on"):
        train(replace(config, hold_out=1.0))


def test_holding_nothing_out_gives_no_validation_loss(config: TrainConfig) -> None:
    facts = train(replace(config, hold_out=0.0))
    assert (facts["validation_loss"], facts["held_out_rules"]) == (None, [])


def test_a_held_out_rule_that_does_not_fit_is_in_no_validation_batch(config: TrainConfig, tmp_path: Path) -> None:
    names = [f"large{i}" for i in range(40)]
    large = tmp_path / "large.json"
    large.write_text(json.dumps({name: task_to_json(random_task(name, 3, side=16)) for name in names}))
    facts = train(replace(config, data=(*config.data, str(large))))
    assert len(set(facts["held_out_rules"]) & set(names)) >= 4
    assert facts["validation_loss"] > 0


def test_rules_of_which_no_two_pairs_fit_are_a_clear_error(config: TrainConfig) -> None:
    short = replace(config, max_tokens=20, first_max_tokens=20)
    with pytest.raises(
        ConfigError, match=r"^training data: found no two pairs of a rule within 20 tokens in 1000 draws"
    ):
        train(short)


@pytest.mark.parametrize("max_pairs", [2, 3, 6])
def test_an_example_has_no_more_pairs_and_tokens_than_allowed(config: TrainConfig, max_pairs: int) -> None:
    model = new_model(32, 1, 0)
    rules = [replace(rule, pairs=rule.pairs * 2) for rule in load_rules(config.data)]
    source = ExampleSource(rules, model, replace(config, max_pairs=max_pairs))
    rng = np.random.default_rng(0)
    examples = [source.draw(rng, 90) for _ in range(100)]
    assert max(len(example.ids) for example in examples) <= 90
    n_pairs = {int((example.ids == model.end_id).sum()) for example in examples}
    assert min(n_pairs) >= 2
    assert max(n_pairs) <= max_pairs
    assert {int((source.draw(rng, 256).ids == model.end_id).sum()) for _ in range(50)} == set(
        range(min(3, max_pairs), max_pairs + 1)
    )


def test_input_from_inputs_takes_its_share(config: TrainConfig) -> None:
    model, rng = new_model(32, 1, 0), np.random.default_rng(0)
    source = ExampleSource(load_rules(config.data), model, replace(config, inputs_share=0.5))
    texts = [model.tokenizer.decode(source.draw(rng, 256).ids.tolist()) for _ in range(200)]
    assert 70 < sum("O" not in text for text in texts) < 130
    with pytest.raises(ConfigError, match="no form for input from inputs"):
        bare = replace(model, preset=replace(model.preset, inputs=None))
        ExampleSource(load_rules(config.data), bare, replace(config, inputs_share=1.0)).draw(rng, 256)


def test_the_loss_is_chosen(config: TrainConfig) -> None:
    model = new_model(32, 1, 0)

    def share_trained(loss: Loss) -> float:
        source = ExampleSource(load_rules(config.data), model, replace(config, loss=loss))
        return float(np.mean([(source.draw(np.random.default_rng(i), 256).labels >= 0).mean() for i in range(20)]))

    shares = [share_trained(loss) for loss in ("last_output", "outputs_but_first", "outputs", "everything")]
    assert shares == sorted(shares) and len(set(shares)) == 4 and shares[-1] == 1.0


def test_an_example_that_teaches_nothing_stops_training_before_its_first_step(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unlabelled(source: ExampleSource, rng: np.random.Generator, max_tokens: int) -> Example:
        example = draw(source, rng, max_tokens)
        return Example(example.ids, np.full_like(example.labels, NOT_TRAINED))

    draw = ExampleSource.draw
    monkeypatch.setattr(ExampleSource, "draw", unlabelled)
    with pytest.raises(PromptError, match="found no label"):
        train(config)
