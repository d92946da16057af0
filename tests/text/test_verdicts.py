"""The verify judge: asked as it was trained, spoiled answers are wrong ones, and a model that was trained can tell."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from in_process import solve_here
from models import lively_model
from scripted import Letters
from strategies import grids, pairs, prediction

from arc_kaggle.answering.candidates import CandidateScore, Prediction, group_candidates
from arc_kaggle.answering.predict import Interpreter
from arc_kaggle.answering.requests import make_requests
from arc_kaggle.answering.rescore import rescore
from arc_kaggle.commands.score import ScoreConfig, score
from arc_kaggle.config.answer import GenerateConfig, RescoreConfig
from arc_kaggle.config.model import BOX_FOLDER
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.config.tune import OptimConfig, TuneConfig
from arc_kaggle.engines.fake import FAKE_FORMAT, FAKE_NOTATION, SymbolTokenizer
from arc_kaggle.engines.hf.engine import HFEngine
from arc_kaggle.errors import ArcKaggleError, ConfigError, PromptError
from arc_kaggle.models.loading import LoadedModel, load_model
from arc_kaggle.models.new_model import new_model
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.system.files import read_lines
from arc_kaggle.tasks.grid import Grid, as_grid, same_grid
from arc_kaggle.tasks.task import Pair, Query, Task
from arc_kaggle.text.presets import PRESETS
from arc_kaggle.text.prompt import query_prompt
from arc_kaggle.text.prompt_format import PromptFormat
from arc_kaggle.text.tokens import NOT_TRAINED, tokenize
from arc_kaggle.text.verdicts import (
    MOST_CHANGED,
    check_verdicts,
    spoiled,
    verdict_example,
    verdict_prompt,
    verdicts_of,
)
from arc_kaggle.tuning.examples import tuning_examples
from arc_kaggle.tuning.tuner import InProcessTuner, step_batches

TOKENIZER = SymbolTokenizer()


def copy_task(n_train: int = 3) -> Task:
    """Every output is its input."""
    given = [as_grid([[1, 2], [i, 3]]) for i in range(n_train)]
    return Task("copy", tuple(Pair(grid, grid) for grid in given), (Pair(as_grid([[4, 2], [1, 1]]), None),))


# Prompts --------------------------------------------------------------------------------------------------------------


def test_the_prompt_of_a_verdict_is_a_query_an_answer_and_a_verdict() -> None:
    prompt = verdict_prompt(copy_task(2), as_grid([[7]]), False, FAKE_NOTATION)
    assert prompt.text == "^I12\n03O12\n03$" + "I12\n13O" + "7$" + "O" + "I"
    assert [(span.text, span.trained) for span in prompt.spans if span.trained] == [("I", True)]
    assert verdict_prompt(copy_task(2), as_grid([[7]]), True, FAKE_NOTATION).text == prompt.text[:-1] + "O"


@pytest.mark.parametrize("name", ["plain", "arc24", "architects"])
def test_an_example_is_what_scoring_asks(name: str) -> None:
    """Token by token: a request's prompt, a written answer, and an ending."""
    fmt = PRESETS[name].for_tokens("<bos>", "<eos>").format
    notation = replace(FAKE_NOTATION, format=fmt, tokenizer=Letters())
    if name == "plain":
        notation = replace(load_model(BOX_FOLDER, "fp32", "cpu").notation, format=fmt)
    task, proposed = copy_task(3), as_grid([[5, 6]])
    example = tokenize(verdict_prompt(task, proposed, True, notation), notation.tokenizer)
    asked = Query(Task("copy", task.train[:-1], task.train[-1:]), 0)
    before = tokenize(query_prompt(asked, notation), notation.tokenizer).ids
    answer = notation.completion_ids(proposed)
    right, wrong = verdicts_of(fmt).endings(notation.tokenizer)
    assert example.ids.tolist() == [*before.tolist(), *answer, *right.tolist()]
    assert right[:-1].tolist() == wrong[:-1].tolist() and right[-1] != wrong[-1]
    assert example.labels[example.labels != NOT_TRAINED].tolist() == [right[-1]]
    assert (example.labels[:-1] == NOT_TRAINED).all()


def test_a_format_without_verdicts_is_refused_by_name() -> None:
    with pytest.raises(
        PromptError, match=r"found no text that asks for a verdict, .*--rescore\.verify and --tune\.ver"
    ):
        check_verdicts(replace(FAKE_NOTATION, format=PRESETS["nvarc"].format))


@pytest.mark.parametrize(
    "verdict",
    [
        {"verify": "?"},
        {"right": "y", "wrong": "n"},
        {"verify": "", "right": "y", "wrong": "y"},
        {"verify": "?", "right": "", "wrong": "n"},
    ],
)
def test_half_a_way_to_ask_is_refused(verdict: dict[str, str]) -> None:
    with pytest.raises(PromptError, match="expected a text and two different verdicts, or none of the three"):
        PromptFormat("B", "I", "O", "E", **verdict)


def test_a_verdict_is_one_token_and_not_the_other() -> None:
    check_verdicts(FAKE_NOTATION)
    with pytest.raises(PromptError, match=r"^verdict: '12' is 2 tokens, expected 1"):
        check_verdicts(replace(FAKE_NOTATION, format=replace(FAKE_FORMAT, right="12")))
    with pytest.raises(PromptError, match=r"^tokenizer: .* in 'yes\?', expected it to take every text"):
        check_verdicts(replace(FAKE_NOTATION, format=replace(FAKE_FORMAT, verify="yes?")))

    class Blind(Letters):
        def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
            return [7]

    with pytest.raises(PromptError, match=r"^verdict: 'O' and 'I' are the same token 7, expected two"):
        check_verdicts(replace(FAKE_NOTATION, tokenizer=Blind()))


def test_the_model_in_the_box_has_tokens_for_verdicts() -> None:
    check_verdicts(load_model(BOX_FOLDER, "fp32", "cpu").notation)


# Examples -------------------------------------------------------------------------------------------------------------


@given(st.lists(pairs(5), min_size=2, max_size=4), st.integers(0, 2**32))
def test_what_is_spoiled_is_a_grid_and_not_the_answer(train: list[Pair], seed: int) -> None:
    task = Task("any", tuple(train), ())
    grid = spoiled(task, np.random.default_rng(seed))
    answer = train[-1].output
    assert answer is not None and not same_grid(grid, answer)
    assert same_grid(as_grid(grid.tolist()), grid)
    assert same_grid(grid, spoiled(task, np.random.default_rng(seed)))


@given(grids(1), st.integers(0, 99))
def test_an_answer_that_only_changed_cells_can_spoil_is_spoiled(cell: Grid, seed: int) -> None:
    grid = spoiled(Task("even", (Pair(cell, cell),) * 3, ()), np.random.default_rng(seed))
    assert grid.shape == (1, 1) and grid[0, 0] != cell[0, 0]


def test_answers_are_spoiled_in_every_way() -> None:
    pairs = (Pair(as_grid([[9, 9]]), as_grid([[8]])), Pair(as_grid([[7, 7, 7]]), as_grid([[1, 2, 3], [4, 5, 6]])))
    found = [spoiled(Task("ways", pairs, ()), np.random.default_rng(seed)) for seed in range(300)]
    answer = pairs[1].output
    assert answer is not None
    like = [grid for grid in found if grid.shape == answer.shape and sorted(grid.flat) != sorted(answer.flat)]
    ways = {
        "another output": sum(grid.shape == (1, 1) for grid in found),
        "the input": sum(same_grid(grid, pairs[1].input) for grid in found),
        "changed": len(like),
        "turned": sum(grid.shape == (3, 2) for grid in found),
        "moved": sum(grid.shape == (2, 3) and sorted(grid.flat) == sorted(answer.flat) for grid in found),
    }
    assert sum(ways.values()) == 300 and min(ways.values()) > 25, ways
    assert all((grid != answer).sum() <= max(1, MOST_CHANGED * answer.size) for grid in like)
    assert {int(cell) for grid in like for cell in grid.flat} <= {*range(1, 10)}  # colours of the task


def examples_of(share: float, seed: int = 0, task: Task | None = None, **options: Any) -> list[Any]:
    config, rng = TuneConfig(verify_share=share, **options), np.random.default_rng(seed)
    return list(islice(tuning_examples(task or copy_task(), FAKE_NOTATION, config, rng), 200))


def verdicts(examples: list[Any]) -> list[int]:
    """The labels of the examples that have one alone."""
    labels = [example.labels[example.labels != NOT_TRAINED] for example in examples]
    return [int(each[0]) for each in labels if len(each) == 1]


def test_a_share_of_the_examples_are_verdicts_half_of_them_right() -> None:
    found = verdicts(examples_of(0.4))
    assert 0.3 < len(found) / 200 < 0.5
    assert 0.35 < found.count(TOKENIZER.id_of("O")) / len(found) < 0.65
    assert set(found) == {TOKENIZER.id_of("O"), TOKENIZER.id_of("I")}
    assert verdicts(examples_of(0.0)) == []


def test_examples_follow_from_the_generator_and_never_from_the_solution() -> None:
    known = replace(copy_task(), test=(Pair(as_grid([[4, 2], [1, 1]]), as_grid([[9]])),))
    first, again, other, solved = (
        [each.ids.tolist() for each in examples_of(0.5, seed, task)]
        for seed, task in ((0, None), (0, None), (1, None), (0, known))
    )
    assert first == again == solved != other


def test_the_first_example_is_one_of_answers_whatever_the_share() -> None:
    for seed in range(5):
        assert verdicts(examples_of(0.99, seed)[:1]) == []


def test_verdicts_say_what_is_true() -> None:
    """In the copy task an answer is right exactly where it repeats what was asked."""
    for example in examples_of(0.5):
        if verdicts([example]):
            text = TOKENIZER.decode(example.ids.tolist())
            asked, proposed = text[:-2].rsplit("I", 1)[1].rstrip("$").split("O")
            assert (text[-1] == "O") is (asked == proposed)


def test_where_a_verdict_does_not_fit_an_answer_is_trained() -> None:
    """Two pairs are 1 + 2 * 13 tokens; a question and a verdict are two more."""
    for most, some in ((27, False), (28, False), (29, True)):
        assert bool(verdicts(examples_of(0.5, task=copy_task(2), max_tokens=most))) is some
    rng = np.random.default_rng(0)
    assert verdict_example(copy_task(2), FAKE_NOTATION, 28, "last", rng) is None


def test_verdicts_have_steps_of_their_own() -> None:
    config = TuneConfig(batch_size=4, verify_share=0.5)
    batches = list(step_batches(iter(examples_of(0.5)), config))
    kinds = [{len(verdicts([example])) for example in batch} for batch in batches]
    assert {frozenset(kind) for kind in kinds} == {frozenset({0}), frozenset({1})}
    assert all(len(batch) == 4 for batch in batches) and len(batches) >= 48


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_a_share_is_a_share(share: float) -> None:
    with pytest.raises(ConfigError, match=r"option tune\.verify_share: found .*, expected (a share, 0\.\.1|less)"):
        TuneConfig(verify_share=share)


# Scores ---------------------------------------------------------------------------------------------------------------


def interpreter_of(model: LoadedModel) -> Interpreter:
    return Interpreter(HFEngine(model), model.notation)


def scored(
    model: LoadedModel, found: list[Prediction], task: Task, verify: bool = True, background: float = 0.9
) -> list[CandidateScore]:
    """Under three views."""
    options = RescoreConfig(n_views=3, verify=verify)
    config, rng = GenerateConfig(n_views=3, keep_background=background), np.random.default_rng(5)
    return list(rescore(task, found, interpreter_of(model), config, options, rng, Deadline.never()))


PROPOSED = [prediction(grid, view) for view, grid in enumerate([[[4, 2], [1, 1]], [[4, 2], [1, 7]], [[5]]])]


def test_a_verdict_is_what_full_prompts_say() -> None:
    model, task = lively_model(3), copy_task()
    found = scored(model, PROPOSED, task)
    rng = np.random.default_rng(5)
    requests = make_requests(task, model.notation, GenerateConfig(n_views=3), rng)
    prompts = {request.view: request for request in requests}
    right, wrong = verdicts_of(model.notation.format).endings(model.tokenizer)
    assert len(found) == 9
    for each in found:
        request = prompts[each.view]
        asked = np.concatenate([request.ids, interpreter_of(model).write(request, each.grid), right[:-1]])
        following = logits_at_end(model, asked)
        assert each.verdict == pytest.approx(following[right[-1]] - following[wrong[-1]], abs=1e-4)
    assert len({round(each.verdict or 0, 3) for each in found}) == 9


def logits_at_end(model: LoadedModel, ids: Any) -> Any:
    import torch

    with torch.inference_mode():
        network: Any = model.network
        return network(input_ids=torch.from_numpy(ids)[None], use_cache=False).logits[0, -1].double().numpy()


def test_asking_changes_no_score() -> None:
    model, task = lively_model(3), copy_task()
    asked, alone = scored(model, PROPOSED, task), scored(model, PROPOSED, task, verify=False)
    assert [(s.view, s.grid.tolist()) for s in asked] == [(s.view, s.grid.tolist()) for s in alone]
    np.testing.assert_allclose([s.nll for s in asked], [s.nll for s in alone], atol=1e-5)
    assert {score.verdict for score in alone} == {None}


def test_scores_on_disk_carry_it_and_older_ones_are_read() -> None:
    score = CandidateScore("small", 0, 2, as_grid([[1]]), 0.5, -1.25)
    plain = json.loads(json.dumps(score.to_json()))
    assert CandidateScore.from_json(plain, "here").to_json() == plain and plain["verdict"] == -1.25
    without = replace(score, verdict=None).to_json()
    assert "verdict" not in without and CandidateScore.from_json(without, "here").verdict is None
    for broken in ("1", 1):
        with pytest.raises(ArcKaggleError, match=r"^here: verdict: found .*, expected float"):
            CandidateScore.from_json({**plain, "verdict": broken}, "here")


def test_a_candidate_has_the_verdicts_on_it() -> None:
    given = [CandidateScore("small", 0, view, as_grid([[1]]), 1.0, verdict) for view, verdict in ((0, 0.5), (1, -2.5))]
    one, other = group_candidates([prediction([[1]], 0), prediction([[2]], 1)], given)
    assert (one.verdicts, one.mean_verdict) == ({0: 0.5, 1: -2.5}, -1.0)
    assert (other.verdicts, other.mean_verdict) == ({}, -np.inf)


def asking_run(out: Path, model: Path = BOX_FOLDER) -> SolveConfig:
    """The model in the box, untuned: its views disagree."""
    views, scores = GenerateConfig(n_views=3), RescoreConfig(n_views=2, verify=True)
    options: dict[str, Any] = {"recipe": "none", "generate": views, "rescore": scores, "select_by": "verify"}
    return SolveConfig("arc1:training", out, "shortest:1", model=model, **options)


def test_a_run_asks_selects_and_keeps_what_it_is_told(tmp_path: Path) -> None:
    config = asking_run(tmp_path / "out")
    solve_here(config)
    lines = [line for path in (config.out / "scores").glob("*.jsonl") for line in read_lines(path).values]
    by_grid: dict[str, list[float]] = {}
    for line in lines:
        by_grid.setdefault(str(line["grid"]), []).append(line["verdict"])
    assert len(by_grid) > 1 and {len(verdicts) for verdicts in by_grid.values()} == {2}
    (attempts,) = next(iter(json.loads((config.out / "submission.json").read_text()).values()))
    assert str(attempts["attempt_1"]) == max(by_grid, key=lambda grid: sum(by_grid[grid]))
    assert "verify" in score(ScoreConfig(config.out, config.tasks, config.select))["selection"]


def test_a_model_that_cannot_be_asked_is_refused_before_its_first_task(tmp_path: Path) -> None:
    shutil.copytree(BOX_FOLDER, tmp_path / "model")
    card = json.loads((tmp_path / "model" / "arc_kaggle.json").read_text())
    del card["prompt_format"]["verify"], card["prompt_format"]["right"], card["prompt_format"]["wrong"]
    (tmp_path / "model" / "arc_kaggle.json").write_text(json.dumps(card))
    with pytest.raises(ArcKaggleError, match="prompt format: found no text that asks for a verdict"):
        solve_here(asking_run(tmp_path / "out", tmp_path / "model"))
    assert not list((tmp_path / "out" / "predictions").glob("*"))


def test_what_cannot_be_asked_for_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"rescore\.verify: found it with rescore\.n_views 0, .* add --rescore\.n-views 8"
    ):
        RescoreConfig(verify=True)
    with pytest.raises(ConfigError, match=r"select_by: found verify without rescore\.verify, .* add --rescore\.verify"):
        SolveConfig("arc1:training", tmp_path, select_by="verify", rescore=RescoreConfig(n_views=2))


def test_training_teaches_to_tell_right_from_wrong() -> None:
    """Every output is one black cell; proposed for a test input that no example had, which is spoiled in two ways."""
    black, steady = as_grid([[0]]), OptimConfig(1e-3, schedule="constant_with_warmup")
    train = tuple(Pair(pair.input, black) for pair in copy_task(5).train)
    task = Task("black", train, (Pair(as_grid([[4, 2], [1, 1]]), None),))
    config = TuneConfig(weights="all", steps=120, batch_size=8, verify_share=0.8, keep_background=1.0, optim=steady)
    model, proposed = (
        new_model(64, 2, 0),
        [prediction(grid, i) for i, grid in enumerate([[[0]], [[4]], [[4, 2], [1, 1]]])],
    )
    rng = np.random.default_rng(0)
    examples = tuning_examples(task, model.notation, config, rng)
    assert InProcessTuner(model, config).tune(examples, 0, Deadline.never()).text == "tuned"
    right, *wrong = (
        each.mean_verdict for each in group_candidates(proposed, scored(model, proposed, task, background=1))
    )
    assert right > 2 and max(wrong) < -2
