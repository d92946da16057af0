"""The pairwise judge: asked as it was trained, on the model's own errors, and a model that was trained can choose."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from in_process import solve_here
from models import lively_model
from scripted import Letters
from strategies import prediction

from arc_kaggle.answering.candidates import CandidateScore, Prediction, group_candidates
from arc_kaggle.answering.own_errors import own_errors
from arc_kaggle.answering.predict import Interpreter
from arc_kaggle.answering.requests import make_requests
from arc_kaggle.answering.rescore import rescore
from arc_kaggle.answering.vote import rank_candidates
from arc_kaggle.commands.score import ScoreConfig, score
from arc_kaggle.config.answer import GenerateConfig, RescoreConfig
from arc_kaggle.config.model import BOX_FOLDER
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.config.tune import OptimConfig, TuneConfig
from arc_kaggle.engines.fake import FAKE_NOTATION, EchoEngine, SymbolTokenizer
from arc_kaggle.engines.hf.engine import HFEngine
from arc_kaggle.errors import ArcKaggleError, ConfigError
from arc_kaggle.models.loading import LoadedModel, load_model
from arc_kaggle.models.new_model import new_model
from arc_kaggle.models.vocabulary_cut import used_ids
from arc_kaggle.run.worker.method import Method, tune_task
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.system.files import read_lines
from arc_kaggle.tasks.grid import Grid, as_grid, same_grid
from arc_kaggle.tasks.task import Pair, Query, Task
from arc_kaggle.text.choices import between_choices, choice_endings, choice_prompt, pairings
from arc_kaggle.text.presets import PRESETS
from arc_kaggle.text.prompt import query_prompt
from arc_kaggle.text.tokens import NOT_TRAINED, Example, tokenize
from arc_kaggle.tuning.examples import tuning_examples
from arc_kaggle.tuning.outcome import TuneReport
from arc_kaggle.tuning.tuner import InProcessTuner

TOKENIZER = SymbolTokenizer()


def copy_task(n_train: int = 3) -> Task:
    """Every output is its input."""
    given = [as_grid([[1, 2], [i, 3]]) for i in range(n_train)]
    return Task("copy", tuple(Pair(grid, grid) for grid in given), (Pair(as_grid([[4, 2], [1, 1]]), None),))


# Prompts and examples -------------------------------------------------------------------------------------------------


def test_the_prompt_of_a_choice_is_a_query_two_answers_and_the_choice() -> None:
    prompt = choice_prompt(copy_task(2), (as_grid([[7]]), as_grid([[8]])), False, FAKE_NOTATION)
    assert prompt.text == "^I12\n03O12\n03$" + "I12\n13O" + "7$" + "O" + "8$" + "O" + "I"
    assert [(span.text, span.trained) for span in prompt.spans if span.trained] == [("I", True)]
    first = choice_prompt(copy_task(2), (as_grid([[7]]), as_grid([[8]])), True, FAKE_NOTATION)
    assert first.text == prompt.text[:-1] + "O"


@pytest.mark.parametrize("name", ["plain", "arc24", "architects"])
def test_an_example_is_what_scoring_asks(name: str) -> None:
    """Token by token: a request's prompt, and the endings of a first and a second answer."""
    fmt = PRESETS[name].for_tokens("<bos>", "<eos>").format
    notation = replace(FAKE_NOTATION, format=fmt, tokenizer=Letters())
    if name == "plain":
        notation = replace(load_model(BOX_FOLDER, "fp32", "cpu").notation, format=fmt)
    task, answers = copy_task(3), (as_grid([[5, 6]]), as_grid([[7]]))
    asked = Query(Task("copy", task.train[:-1], task.train[-1:]), 0)
    before = tokenize(query_prompt(asked, notation), notation.tokenizer).ids
    first, second = map(notation.completion_ids, answers)
    endings = choice_endings(first, second, notation)
    for is_first, ending in zip((True, False), endings, strict=True):
        example = tokenize(choice_prompt(task, answers, is_first, notation), notation.tokenizer)
        assert example.ids.tolist() == [*before.tolist(), *ending.tolist()]
        assert example.labels[example.labels != NOT_TRAINED].tolist() == [ending[-1]]
    assert endings[0][:-1].tolist() == endings[1][:-1].tolist() and endings[0][-1] != endings[1][-1]
    assert set(endings[0].tolist()) <= used_ids(notation), "a cut vocabulary keeps what choices are asked with"


def test_a_chat_asks_in_words_and_the_second_answer_stands_where_answers_stand() -> None:
    against, choose = between_choices(replace(FAKE_NOTATION, format=PRESETS["arc24"].format))
    assert "Give another output for the test case." in against and against.endswith("assistant\n### Output\n\n")
    assert "Is the first of these two outputs the right one" in choose and choose.endswith("assistant\n")


def examples_of(share: float, errors: dict[int, list[Grid]], seed: int = 0) -> list[str]:
    """The texts of the examples of choices, of 200 in all."""
    config, rng = TuneConfig(pair_share=share), np.random.default_rng(seed)
    found = islice(tuning_examples(copy_task(), FAKE_NOTATION, config, rng, errors), 200)
    return [TOKENIZER.decode(e.ids.tolist()) for e in found if (e.labels != NOT_TRAINED).sum() == 1]


OWN = as_grid([[9, 9, 9]])


def test_a_share_of_the_examples_are_choices_that_say_what_is_true() -> None:
    """In the copy task the right answer repeats what was asked. A train pair with an own error has that beside it."""
    texts = examples_of(0.4, {1: [OWN]})
    assert 60 < len(texts) < 100 and 0.3 < sum(text[-1] == "O" for text in texts) / len(texts) < 0.7
    n_own = 0
    for text in texts:
        asked, first, second = text[:-2].rsplit("I", 1)[1].rstrip("$").split("O")
        first = first.rstrip("$")
        assert (first == asked) is (text[-1] == "O") and (second == asked) is (text[-1] == "I")
        wrong = second if text[-1] == "O" else first
        n_own += len(set(wrong.replace("\n", ""))) == 1 and len(wrong.replace("\n", "")) == 3
    assert 0.2 < n_own / len(texts) < 0.5, "one train pair of three"
    assert examples_of(0.0, {1: [OWN]}) == []


def test_examples_without_choices_are_those_of_before() -> None:
    """A recipe without choices trains the same tokens, whatever errors there are."""
    plain, other = (
        [e.ids.tolist() for e in islice(tuning_examples(copy_task(), FAKE_NOTATION, TuneConfig(), rng, errors), 20)]
        for rng, errors in ((np.random.default_rng(3), {}), (np.random.default_rng(3), {0: [OWN]}))
    )
    assert plain == other


def test_own_errors_are_wrong_answers_to_train_pairs_in_the_tasks_own_view() -> None:
    """The echo engine repeats what is asked: right for the pairs that copy, wrong for the others."""
    given = [as_grid([[1, 2, i], [3, 4, 5]]) for i in range(3)]
    train = (Pair(given[0], given[0]), Pair(given[1], as_grid([[7]])), Pair(given[2], given[2]))
    task = Task("mixed", train, (Pair(as_grid([[6]]), as_grid([[1, 1]])),))
    (open_id,) = FAKE_NOTATION.ids("O")
    echo = EchoEngine(FAKE_NOTATION.ids("I")[0], FAKE_NOTATION.stop_id)
    assert open_id != FAKE_NOTATION.ids("I")[0]
    found = own_errors(task, Interpreter(echo, FAKE_NOTATION), GenerateConfig(), 0, Deadline.never())
    assert list(found) == [1] and len(found[1]) == 1 and same_grid(found[1][0], given[1])


# Scores ---------------------------------------------------------------------------------------------------------------

PROPOSED = [prediction(grid, view) for view, grid in enumerate([[[4, 2], [1, 1]], [[4, 2], [1, 7]], [[5]]])]


def scored(
    model: LoadedModel, found: list[Prediction], task: Task, pairs: int = 3, n_views: int = 4, background: float = 0.9
) -> list[CandidateScore]:
    options = RescoreConfig(n_views=n_views, verify=True, pairs=pairs)
    config, rng = GenerateConfig(n_views=n_views, keep_background=background), np.random.default_rng(5)
    interpreter = Interpreter(HFEngine(model), model.notation)
    return list(rescore(task, found, interpreter, config, options, rng, Deadline.never()))


def test_a_comparison_is_what_full_prompts_say() -> None:
    import torch

    model, task = lively_model(3), copy_task()
    interpreter = Interpreter(HFEngine(model), model.notation)
    views = make_requests(task, model.notation, GenerateConfig(n_views=4), np.random.default_rng(5))
    prompts = {request.view: request for request in views}
    found = scored(model, PROPOSED, task)
    margins = []
    for each in found:
        request = prompts[each.view]
        for other, margin in each.duels:
            answers = (interpreter.write(request, grid) for grid in (each.grid, other))
            one, two = choice_endings(*answers, model.notation)
            network: Any = model.network
            with torch.inference_mode():
                ids = torch.from_numpy(np.concatenate([request.ids, one[:-1]]))[None]
                logits = network(input_ids=ids, use_cache=False).logits[0, -1].double().numpy()
            assert margin == pytest.approx(logits[one[-1]] - logits[two[-1]], abs=1e-4)
            margins.append(margin)
    assert len(margins) == 4 * 3 and len({round(margin, 3) for margin in margins}) == 12


def test_comparing_changes_neither_likelihoods_nor_verdicts() -> None:
    model, task = lively_model(3), copy_task()
    asked, alone = scored(model, PROPOSED, task), scored(model, PROPOSED, task, pairs=0)
    assert [(s.view, s.grid.tolist()) for s in asked] == [(s.view, s.grid.tolist()) for s in alone]
    for name in ("nll", "verdict"):
        np.testing.assert_allclose([getattr(s, name) for s in asked], [getattr(s, name) for s in alone], atol=1e-4)
    assert {s.duels for s in alone} == {()}


def test_of_more_candidates_the_first_are_compared() -> None:
    found = scored(lively_model(3), PROPOSED, copy_task(), pairs=2)
    assert sum(len(each.duels) for each in found) == 4
    assert not any(
        same_grid(each.grid, PROPOSED[2].grid) and each.duels for each in found if PROPOSED[2].grid is not None
    )


def test_every_pair_is_met_once_a_view_and_as_often_in_either_order() -> None:
    for n, view in ((2, 0), (3, 1), (5, 4)):
        assert sorted(tuple(sorted(pair)) for pair in pairings(n, view)) == list(combinations(range(n), 2))
    assert {(j, i) for i, j in pairings(4, 0)} == set(pairings(4, 1))


def test_scores_on_disk_carry_comparisons_and_older_ones_are_read() -> None:
    given = CandidateScore("small", 0, 2, as_grid([[1]]), 0.5, -1.25, ((as_grid([[2, 3]]), 0.75),))
    plain = json.loads(json.dumps(given.to_json()))
    assert plain["duels"] == [[[[2, 3]], 0.75]] and CandidateScore.from_json(plain, "here").to_json() == plain
    del plain["duels"]
    assert CandidateScore.from_json(plain, "here").duels == ()
    with pytest.raises(ArcKaggleError, match=r"^here: duels: found .*, expected grids and numbers"):
        CandidateScore.from_json({**plain, "duels": [[[[2]], "1"]]}, "here")


def test_a_comparison_that_was_made_again_counts_once() -> None:
    one, other = as_grid([[1]]), as_grid([[2]])
    given = [CandidateScore("small", 0, 0, one, 1.0, None, ((other, margin),)) for margin in (9.0, -1.0)]
    first, _ = group_candidates([prediction([[1]], 0), prediction([[2]], 1)], given)
    assert [margin for _, margin in first.duels] == [-1.0]


# Runs -----------------------------------------------------------------------------------------------------------------


def asking_run(out: Path, **options: Any) -> SolveConfig:
    """The model in the box, untuned: its views disagree."""
    views, scores = GenerateConfig(n_views=3), RescoreConfig(n_views=2, pairs=3)
    chosen: dict[str, Any] = {"recipe": "none", "generate": views, "rescore": scores, "select_by": "pairwise"}
    return SolveConfig("arc1:training", out, "shortest:1", **{**chosen, **options})


def test_a_run_compares_selects_and_keeps_what_it_is_told(tmp_path: Path) -> None:
    config = asking_run(tmp_path / "out")
    solve_here(config)
    lines = [line for path in (config.out / "scores").glob("*.jsonl") for line in read_lines(path).values]
    evidence = [CandidateScore.from_json(line, "here") for line in lines]
    assert sum(len(each.duels) for each in evidence) == 2 * 3
    predictions = [line for path in (config.out / "predictions").glob("*.jsonl") for line in read_lines(path).values]
    ranked = rank_candidates([Prediction.from_json(line, "here") for line in predictions], evidence, "pairwise")
    (attempts,) = next(iter(json.loads((config.out / "submission.json").read_text()).values()))
    assert attempts["attempt_1"] == ranked[0].grid.tolist()
    assert "pairwise" in score(ScoreConfig(config.out, config.tasks, config.select))["selection"]


def test_a_tuned_run_learns_choices_from_its_own_errors(tmp_path: Path) -> None:
    tune = TuneConfig(weights="all", steps=4, batch_size=2, max_tokens=1024, pair_share=0.5)
    config = asking_run(tmp_path / "out", recipe="box", tune=tune)
    result = solve_here(config)
    assert result.reports[0].run is not None and result.reports[0].run.tune.tuned


class Listening(InProcessTuner):
    """Keeps the texts of the first examples in place of training on them."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def tune(self, examples: Iterator[Example], seed: int, deadline: Deadline, level: int = 0) -> TuneReport:
        self.texts = [TOKENIZER.decode(example.ids.tolist()) for example in islice(examples, 60)]
        return TuneReport(True, "tuned")


@pytest.mark.parametrize("pair_share", [0.0, 0.5])
def test_fine_tuning_is_shown_what_the_engine_got_wrong_on_its_train_pairs(
    pair_share: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of five cells, which nothing else in the task is like, comes up in its choices alone."""
    echo, tuner, task = EchoEngine(FAKE_NOTATION.ids("I")[0], FAKE_NOTATION.stop_id), Listening(), copy_task()
    asked: list[Any] = []

    def found(given: Task, interpreter: Interpreter, *rest: Any) -> dict[int, list[Grid]]:
        asked.append((given, interpreter.engine))
        return {1: [as_grid([[9, 9, 9, 9, 9]])]}

    monkeypatch.setattr("arc_kaggle.run.worker.method.own_errors", found)
    config = asking_run(tmp_path, recipe="box", tune=TuneConfig(weights="all", pair_share=pair_share))
    assert tune_task(task, Method(echo, tuner, FAKE_NOTATION), config, Deadline.never()).tuned
    of_five = [text for text in tuner.texts if re.search(r"O((\d)\2{4}|(\d\n){4}\d)\$", text)]
    assert bool(of_five) is bool(pair_share) and asked == ([(task, echo)] if pair_share else [])


def test_what_cannot_be_asked_for_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"rescore\.pairs: found it with rescore\.n_views 0"):
        RescoreConfig(pairs=2)
    with pytest.raises(ConfigError, match=r"rescore\.pairs: found 1, expected 0, or 2"):
        RescoreConfig(n_views=2, pairs=1)
    with pytest.raises(ConfigError, match=r"found pairwise without rescore\.pairs, .* add --rescore\.pairs 4"):
        SolveConfig("arc1:training", tmp_path, select_by="pairwise", rescore=RescoreConfig(n_views=2))
    with pytest.raises(ConfigError, match=r"option tune\.pair_share: found 1, expected less"):
        TuneConfig(pair_share=1.0)


def test_training_teaches_to_choose() -> None:
    """Every output is one black cell; two proposals for a test input that no example had."""
    black, steady = as_grid([[0]]), OptimConfig(3e-3, schedule="constant_with_warmup")
    task = Task(
        "black", tuple(Pair(pair.input, black) for pair in copy_task(5).train), (Pair(as_grid([[4, 2], [1, 1]]), None),)
    )
    config = TuneConfig(weights="all", steps=160, batch_size=8, pair_share=0.8, keep_background=1.0, optim=steady)
    model = new_model(64, 2, 0)
    proposed = [prediction(grid, i) for i, grid in enumerate([[[4]], [[0]], [[4, 2], [1, 1]]])]
    examples = tuning_examples(task, model.notation, config, np.random.default_rng(0))
    assert InProcessTuner(model, config).tune(examples, 0, Deadline.never()).text == "tuned"
    found = scored(model, proposed, task, background=1)
    assert same_grid(rank_candidates(proposed, found, "pairwise")[0].grid, black)
    margins = [
        margin if same_grid(each.grid, black) else -margin
        for each in found
        for other, margin in each.duels
        if same_grid(each.grid, black) or same_grid(other, black)
    ]
    assert len(margins) == 8 and sum(margin > 0 for margin in margins) >= 6 and np.mean(margins) > 1
