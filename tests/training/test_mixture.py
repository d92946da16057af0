"""What is trained on: weights of sources, what is held out, and that nothing of an evaluation set comes through."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import grids, pairs
from train_data import (
    CLEAN,
    SECRET,
    disguised,
    leaks,
    random_task,
    source_of,
    tiny_config,
    with_leak,
    write_rules,
    write_tasks_file,
)

from arc_kaggle.config.train import TrainConfig
from arc_kaggle.config.tune import Loss
from arc_kaggle.errors import ConfigError, GridError, LeakError, PromptError, TaskError
from arc_kaggle.models.new_model import new_model
from arc_kaggle.tasks.grid import MAX_SIDE, grid_key
from arc_kaggle.tasks.leaks import LeakFinder
from arc_kaggle.tasks.task import Pair, Task
from arc_kaggle.text.encoders import parse_encoder
from arc_kaggle.training.mixture import FIRST_TRAINING_SEED, Mixture, SynthSource, load_mixture
from arc_kaggle.training.remake import TRANSFORMS, remake


def rules_of(mixture: Mixture) -> dict[str, int]:
    """How many pairs each rule of the files has, held out or not."""
    sources = [source for source in mixture.sources if not isinstance(source, SynthSource)]
    return {rule.id: len(rule.pairs) for source in sources for rule in (*source.training, *source.validation)}


@leaks
def test_a_leak_is_refused(tmp_path: Path, leaking: Task, said: str) -> None:
    config = with_leak(tiny_config(tmp_path), leaking)
    with pytest.raises(LeakError) as caught:
        load_mixture(config)
    assert str(caught.value).startswith(f"1 rules appear in {config.against[0]}; the first: {said}. Use other data, or")


def test_of_demonstrations_no_test_pair_is_drawn_and_none_is_a_leak(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    single = replace(SECRET, id="single", train=SECRET.train[:1])
    tasks = write_tasks_file(tmp_path / "tasks.json", [SECRET, single])
    mixture = load_mixture(replace(config, data=(f"demonstrations:{tasks}=2",)))
    (source,) = mixture.sources
    assert (source.name, source.weight, mixture.leaks) == ("demonstrations:tasks.json", 2.0, ())
    assert rules_of(mixture) == {"secret": len(SECRET.train)}
    drawn = {grid_key(pair.input) for pair in mixture.draw(np.random.default_rng(0)).pairs}
    assert drawn == {grid_key(pair.input) for pair in SECRET.train}
    assert not source.held_out(9)
    with pytest.raises(ConfigError, match="found no task with two train pairs"):
        write_tasks_file(tmp_path / "tasks.json", [single])
        load_mixture(replace(config, data=(f"demonstrations:{tasks}",)))


@leaks
def test_leaks_are_dropped_where_asked(tmp_path: Path, leaking: Task, said: str) -> None:
    mixture = load_mixture(replace(with_leak(tiny_config(tmp_path), leaking), drop_leaks=True))
    others = {} if leaking.id == "secret" else {"other": len(leaking.train)}  # all but the one that leaks
    assert rules_of(mixture) == {task.id: 4 for task in CLEAN} | others
    assert mixture.leaks == (said,)


@leaks
def test_leaks_stay_where_they_are_allowed(tmp_path: Path, leaking: Task, said: str) -> None:
    mixture = load_mixture(replace(with_leak(tiny_config(tmp_path), leaking), allow_leak=True))
    assert set(rules_of(mixture)) == {leaking.id, *(task.id for task in CLEAN)}
    assert mixture.leaks == (said,)


def test_a_rule_that_keeps_fewer_than_two_pairs_is_dropped(tmp_path: Path) -> None:
    leaking = Task("other", tuple(map(disguised, SECRET.train)), random_task("other").test)
    mixture = load_mixture(replace(with_leak(tiny_config(tmp_path), leaking), drop_leaks=True))
    assert set(rules_of(mixture)) == {task.id for task in CLEAN}
    assert mixture.leaks == ("rule other: 3 of 4 pairs leak, task secret has them too",)


def test_arc2_training_holds_most_of_arc1_evaluation(tmp_path: Path) -> None:
    config = TrainConfig(tmp_path / "out", ("arc2:training",), against=("arc1:evaluation",))
    with pytest.raises(LeakError, match=r"^\d+ rules appear in arc1:evaluation; the first: rule ") as caught:
        load_mixture(config)
    assert 300 < int(str(caught.value).split()[0]) <= 420


def test_rules_are_held_out_by_their_ids_alone(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    (source,) = load_mixture(config).sources
    held = load_mixture(config).held_out_ids
    assert 0 < len(held) < len(CLEAN)
    assert {rule.id for rule in source.held_out(99)} == set(held)
    rng = np.random.default_rng(0)
    assert {source.draw(rng).id for _ in range(200)} == {task.id for task in CLEAN} - set(held)
    more = replace(config, data=(*config.data, write_rules(tmp_path / "more.jsonl", {"new": 2, held[0]: 3})), seed=5)
    assert set(held) <= set(load_mixture(more).held_out_ids) <= {*held, "new"}


def test_sources_are_drawn_by_weight_whatever_their_size(tmp_path: Path) -> None:
    many = write_rules(tmp_path / "a.jsonl", {f"a{i}": 2 for i in range(20)})
    one = write_rules(tmp_path / "b.jsonl", {"b": 3, "lone": 1})
    mixture = load_mixture(tiny_config(tmp_path, data=(many, f"{one}=3", "synth:0.2=0.5"), hold_out=0.0))
    rng = np.random.default_rng(0)
    drawn = Counter(mixture.draw(rng).id[:1] for _ in range(900))
    assert drawn["b"] == pytest.approx(900 * 3 / 4.5, rel=0.1)
    assert drawn["a"] == pytest.approx(900 * 1 / 4.5, rel=0.2)
    assert drawn["s"] == pytest.approx(900 * 0.5 / 4.5, rel=0.3)


def test_files_of_one_name_are_two_sources(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    paths = [write_rules(folder / "a.jsonl", {"a": 2}) for folder in (tmp_path, tmp_path / "b")]
    sources = load_mixture(tiny_config(tmp_path, data=(*paths, "synth", "synth"))).sources
    assert [source.name for source in sources] == ["a.jsonl", "a.jsonl#2", "synth", "synth#2"]


@pytest.mark.parametrize("entry", ["a.jsonl={}", "synth={}", "synth:{}", "synth:{}=2"])
@pytest.mark.parametrize("number", ["x", "0", "-1", "inf", "nan", "2,5", "1e999"])
def test_a_bad_number_is_refused(tmp_path: Path, entry: str, number: str) -> None:
    write_rules(tmp_path / "a.jsonl", {"a": 2})
    entry = entry.format(number).replace("a.jsonl", str(tmp_path / "a.jsonl"))
    with pytest.raises(ConfigError, match=rf"^data '.*': found (weight|difficulty) '{number}', expected a number over"):
        load_mixture(tiny_config(tmp_path, data=(entry,)))


def test_a_difficulty_over_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^data 'synth:1.5': found difficulty '1.5', expected a number over 0, up"):
        load_mixture(tiny_config(tmp_path, data=("synth:1.5",)))


@pytest.mark.parametrize("rules", [{}, {"a": 1}, {"a": 0, "b": 1}], ids=["empty", "one pair", "no pair"])
def test_a_source_without_a_rule_is_refused(tmp_path: Path, rules: dict[str, int]) -> None:
    source = write_rules(tmp_path / "a.jsonl", rules)
    with pytest.raises(ConfigError, match=r"^data '.*a.jsonl=2': found no rule with two pairs, expected one or more"):
        load_mixture(tiny_config(tmp_path, data=(f"{source}=2",)))


def test_unsolved_test_pairs_are_no_pairs_of_a_rule(tmp_path: Path) -> None:
    path = write_tasks_file(tmp_path / "a.json", [task.without_solution() for task in CLEAN])
    assert set(rules_of(load_mixture(tiny_config(tmp_path, data=(path,)))).values()) == {3}


@pytest.mark.parametrize("source", ["missing.jsonl", "missing.jsonl.xz", "missing.json", "arc9:training"])
def test_a_missing_source_is_a_clear_error(tmp_path: Path, source: str) -> None:
    with pytest.raises(TaskError, match=source):
        load_mixture(tiny_config(tmp_path, data=(source,)))


def test_holding_everything_out_leaves_nothing_to_train_on(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^training data: found no rule to train on"):
        load_mixture(tiny_config(tmp_path, hold_out=1.0))


def synth(finder: LeakFinder | None = None) -> SynthSource:
    return SynthSource("synth:0.2", 1.0, 0.2, 4, finder or LeakFinder([]))


def test_synthetic_rules_follow_their_seed_and_those_held_out_are_of_seeds_that_training_never_uses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert [rule.id for rule in synth().held_out(5)] == [synth().rule(seed).id for seed in range(5)]
    used: list[int] = []
    monkeypatch.setattr(SynthSource, "rule", lambda self, seed: used.append(seed))
    for _ in range(200):
        synth().draw(np.random.default_rng(len(used)))
    assert min(used) >= FIRST_TRAINING_SEED
    assert len(set(used)) == 200


def test_a_synthetic_pair_of_an_evaluation_set_is_left_out() -> None:
    rule = synth().rule(7)
    known = Task("known", (disguised(rule.pairs[1]),), (rule.pairs[3],))
    kept = synth(LeakFinder([known])).rule(7)
    assert kept.id == rule.id
    assert [grid_key(pair.input) for pair in kept.pairs] == [grid_key(rule.pairs[i].input) for i in (0, 2)]


# making new tasks


@pytest.mark.parametrize("name", TRANSFORMS)
@given(a=grids(9), b=grids(9), seed=st.integers(0, 2**32 - 1))
def test_a_transformation_keeps_different_grids_different(name: str, a: np.ndarray, b: np.ndarray, seed: int) -> None:
    transform = TRANSFORMS[name](np.random.default_rng(seed))
    made = [transform(grid) for grid in (a, b)]
    assert all(grid.dtype == np.int8 and grid.min() >= 0 and grid.max() <= 9 for grid in made)
    assert (grid_key(made[0]) == grid_key(made[1])) == (grid_key(a) == grid_key(b))


@given(st.lists(pairs(9), min_size=2, max_size=4), st.integers(0, 2**32 - 1))
def test_a_new_task_differs_on_one_side_alone_and_the_same_way_in_all_pairs(given_pairs: list[Pair], seed: int) -> None:
    made = remake([*given_pairs, given_pairs[0]], np.random.default_rng(seed))
    for part in ("input", "output"):
        sides = [(getattr(old, part), getattr(new, part)) for old, new in zip(given_pairs, made, strict=False)]
        changed = [grid_key(old) != grid_key(new) for old, new in sides]
        other = "output" if part == "input" else "input"
        if any(changed):
            assert all(
                grid_key(getattr(a, other)) == grid_key(getattr(b, other))
                for a, b in zip(given_pairs, made, strict=False)
            )
    assert grid_key(made[0].input) == grid_key(made[-1].input)
    assert max(side for pair in made for grid in (pair.input, pair.output) for side in grid.shape) <= MAX_SIDE


def test_all_transformations_and_both_sides_come() -> None:
    pair = Pair(np.array([[1, 2], [3, 0]], dtype=np.int8), np.array([[4, 5, 6]], dtype=np.int8))
    made = [remake([pair, pair], np.random.default_rng(seed))[0] for seed in range(300)]
    shapes = {(new.input.shape, new.output.shape) for new in made}
    assert {((4, 4), (1, 3)), ((2, 2), (3, 5)), ((3, 3), (1, 3)), ((2, 2), (2, 6)), ((2, 2), (3, 1))} <= shapes
    assert 100 < sum(grid_key(new.input) != grid_key(pair.input) for new in made) < 200


def test_a_grid_that_would_be_too_large_stays_as_it_is() -> None:
    pair = Pair(np.ones((30, 30), dtype=np.int8), np.ones((30, 30), dtype=np.int8))
    shapes = {remake([pair], np.random.default_rng(seed))[0].input.shape for seed in range(100)}
    assert shapes == {(30, 30)}


# examples


def test_the_share_of_new_tasks_is_kept_and_none_is_of_an_evaluation_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source_of(tiny_config(tmp_path, remake_share=0.3))
    made: list[int] = []

    def into_secret(pairs: tuple[Pair, ...], rng: np.random.Generator) -> tuple[Pair, ...]:
        made.append(len(pairs))
        return (disguised(SECRET.train[0]), *pairs[1:])

    monkeypatch.setattr("arc_kaggle.training.examples.remake", into_secret)
    rng = np.random.default_rng(0)
    forbidden = source.notation.encoder.encode(SECRET.train[0].input)
    texts = [source.notation.tokenizer.decode(source.draw(rng, 256).ids.tolist()) for _ in range(300)]
    assert 60 < len(made) < 130
    assert not any(forbidden in text for text in texts)


@pytest.mark.parametrize("max_pairs", [2, 3, 6])
def test_an_example_has_no_more_pairs_and_tokens_than_allowed(tmp_path: Path, max_pairs: int) -> None:
    model = new_model(32, 1, 0)
    path = write_rules(tmp_path / "a.jsonl", {"a": 7, "b": 8})
    source = source_of(tiny_config(tmp_path, data=(path,), hold_out=0.0, max_pairs=max_pairs, remake_share=0.5), model)
    rng = np.random.default_rng(0)
    examples = [source.draw(rng, 90) for _ in range(100)]
    assert max(len(example.ids) for example in examples) <= 90
    n_pairs = {int((example.ids == model.end_id).sum()) for example in examples}
    assert min(n_pairs) >= 2
    assert max(n_pairs) <= max_pairs
    assert {int((source.draw(rng, 512).ids == model.end_id).sum()) for _ in range(50)} == set(
        range(min(3, max_pairs), max_pairs + 1)
    )


def test_rules_of_which_no_two_pairs_fit_are_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^training data: found no two pairs of a rule within 20 tokens in 1000 dra"):
        source_of(tiny_config(tmp_path)).draw(np.random.default_rng(0), 20)


def test_pairs_are_chosen_by_the_tokens_of_the_model_s_own_encoder(tmp_path: Path) -> None:
    source = source_of(tiny_config(tmp_path))
    assert source.tokens_per_symbol == pytest.approx(1, abs=0.01)
    longer = replace(source, notation=source.notation.in_encoder(parse_encoder("repeat(3)")))
    assert longer.tokens_per_symbol == pytest.approx(3, abs=0.1)
    assert len(longer.draw(np.random.default_rng(0), 256).ids) <= 256


def test_input_from_inputs_takes_its_share(tmp_path: Path) -> None:
    source, rng = source_of(tiny_config(tmp_path, inputs_share=0.5)), np.random.default_rng(0)
    texts = [source.notation.tokenizer.decode(source.draw(rng, 256).ids.tolist()) for _ in range(200)]
    assert 70 < sum("O" not in text for text in texts) < 130
    without = replace(source.notation, inputs=None)
    bare = replace(source, notation=without, config=replace(source.config, inputs_share=1.0))
    with pytest.raises(PromptError, match="no form for input from inputs"):
        bare.draw(rng, 256)


def test_the_loss_is_chosen(tmp_path: Path) -> None:
    def share_trained(loss: Loss) -> float:
        source = source_of(tiny_config(tmp_path, loss=loss))
        return float(np.mean([(source.draw(np.random.default_rng(i), 256).labels >= 0).mean() for i in range(20)]))

    shares = [share_trained(loss) for loss in ("last_output", "outputs_but_first", "outputs", "everything")]
    assert shares == sorted(shares) and len(set(shares)) == 4 and shares[-1] == 1.0


def test_published_rules_are_trained_on_and_what_is_bad_can_be_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "re_arc" / "tasks").mkdir(parents=True)
    (tmp_path / "re_arc" / "metadata.json").write_text('{"a": {"n_examples": 5}}')
    listed = [{"input": [[i, 9]], "output": [[i]]} for i in range(5)]
    (tmp_path / "re_arc" / "tasks" / "a.json").write_text(json.dumps(listed))
    barc = [[[[1, i]], [[i, 1, i]]] for i in range(4)]
    (tmp_path / "barc.jsonl").write_text(json.dumps({"examples": barc}) + '\n{"examples": [[[[10]], [[1]]]]}\n')
    config = tiny_config(tmp_path, data=(str(tmp_path / "re_arc"), str(tmp_path / "barc.jsonl")))
    with pytest.raises(GridError, match=r"^barc.jsonl, line 2: task barc-2, pair 0, input, row 0, column 0: found 10"):
        load_mixture(config)
    assert rules_of(load_mixture(replace(config, skip_bad=True))) == {"a": 5, "barc-1": 4}
    assert "arc-kaggle: left out: barc.jsonl, line 2: task barc-2, pair 0" in capsys.readouterr().err
