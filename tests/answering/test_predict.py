"""Requests are answered in waves: drafts change nothing, searches give all they find, every view has an answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from in_process import solve_here
from processes import fake_config
from strategies import prediction

from arc_kaggle.answering.candidates import Prediction, read_prediction_folder
from arc_kaggle.answering.predict import Interpreter, lead, predict, waves
from arc_kaggle.answering.requests import Request, make_requests
from arc_kaggle.answering.rescore import rescore
from arc_kaggle.config.answer import Decoding, GenerateConfig, RescoreConfig, Search
from arc_kaggle.config.model import BOX_FOLDER
from arc_kaggle.engines.base import Completion, Drafts, Engine, Found, Nlls
from arc_kaggle.engines.fake import FAKE_NOTATION, EchoEngine, SymbolTokenizer
from arc_kaggle.engines.hf.engine import HFEngine
from arc_kaggle.errors import ConfigError
from arc_kaggle.evaluation.early_stopping import asked_for
from arc_kaggle.models.loading import load_model
from arc_kaggle.run.launch.start import gather_crew
from arc_kaggle.run.planning.jobs import Job, Stage
from arc_kaggle.run.supervisor import Supervisor
from arc_kaggle.run.worker import stages
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.tasks.dataset import load_tasks
from arc_kaggle.tasks.grid import Grid, as_grid, same_grid
from arc_kaggle.tasks.task import Pair, Task

TOKENIZER, ENCODER = SymbolTokenizer(), FAKE_NOTATION.encoder
END = TOKENIZER.id_of("$")
TASK = Task("small", (Pair(as_grid([[1]]), as_grid([[2]])),) * 2, (Pair(as_grid([[3, 4], [5, 6]]), None),))


@dataclass
class ScriptedEngine:
    """Says in each view what `answers` have for it, as grids of the task, and keeps what it was asked."""

    answers: dict[int, list[Grid]]
    requests: list[Request] = field(default_factory=list)
    asked: list[tuple[str, list[int], list[list[Grid]]]] = field(default_factory=list)

    def generate(
        self, prompts: Any, limits: Any, deadline: Deadline, **options: Any
    ) -> Iterator[tuple[int, Completion]]:
        for position, request in enumerate(self._note("generate", prompts, options["drafts"])):
            yield position, self._say(request, self.answers[request.view][0])

    def search(
        self, prompts: Any, limits: Any, deadline: Deadline, search: Search, **options: Any
    ) -> Iterator[tuple[int, Found]]:
        for position, request in enumerate(self._note("search", prompts, options["drafts"])):
            found = tuple(self._say(request, grid) for grid in self.answers[request.view][1:])
            yield position, Found(found, nodes=9, cut=int(request.view == 3 and not found))

    def score(self, prompts: Any, candidates: Any, deadline: Deadline, **options: Any) -> Iterator[tuple[int, Nlls]]:
        raise AssertionError

    def _note(self, verb: str, prompts: Sequence[Any], drafts: Drafts) -> list[Request]:
        requests = [next(r for r in self.requests if r.ids is prompt) for prompt in prompts]
        read = [[self._grid(r, ids) for ids in of_prompt] for r, of_prompt in zip(requests, drafts, strict=True)]
        self.asked.append((verb, [request.view for request in requests], read))
        return requests

    def _say(self, request: Request, grid: Grid) -> Completion:
        ids = INTERPRETER.write(request, grid)
        return Completion(ids, np.full(len(ids), -0.5, dtype=np.float32), ended=True)

    def _grid(self, request: Request, ids: Any) -> Grid:
        assert ids[-1] == END
        return request.augmentation.invert(ENCODER.decode(TOKENIZER.decode(ids[:-1].tolist())))


INTERPRETER = Interpreter(EchoEngine(TOKENIZER.id_of("I"), END), FAKE_NOTATION)


def run(config: GenerateConfig, answers: dict[int, list[list[list[int]]]]) -> tuple[ScriptedEngine, list[Prediction]]:
    engine = ScriptedEngine({view: [as_grid(grid) for grid in grids] for view, grids in answers.items()})
    engine.requests = requests_of(TASK, config)
    interpreter = replace(INTERPRETER, engine=engine)
    return engine, list(predict(engine.requests, interpreter, config, Deadline.never()))


def requests_of(task: Task, config: GenerateConfig) -> list[Request]:
    return list(make_requests(task, FAKE_NOTATION, config, np.random.default_rng(0)))


def same(found: Sequence[Grid], expected: Sequence[list[list[int]]]) -> bool:
    return len(found) == len(expected) and all(map(same_grid, found, map(as_grid, expected)))


def test_the_pilot_has_the_test_input_as_its_draft_and_the_others_what_it_gave() -> None:
    config = GenerateConfig(n_views=4, n_pilots=1)
    engine, found = run(config, {view: [[[7, view]]] for view in range(4)})
    (_, first, pilots), (_, rest, others) = engine.asked
    assert (first, rest) == ([0], [1, 2, 3])
    assert same(pilots[0], [[[3, 4], [5, 6]]])
    assert all(same(drafts, [[[7, 0]]]) for drafts in others)  # mapped into each view's own orientation and colours
    assert [p.grid is not None and p.grid.tolist() for p in found] == [[[7, view]] for view in range(4)]


def test_drafts_are_the_candidates_of_most_views() -> None:
    answers = {0: [[[1]]], 1: [[[2]]], 2: [[[2]]], 3: [[[3]]]}
    engine, _ = run(GenerateConfig(n_views=4, n_pilots=3), answers)
    assert same(engine.asked[1][2][0], [[[2]], [[1]]])


def test_a_wave_is_as_large_as_asked() -> None:
    greedy = GenerateConfig(n_pilots=2, views_a_wave=3)
    assert [list(views) for views, _ in waves(range(8), greedy)] == [[0, 1], [2, 3, 4], [5, 6, 7]]
    assert [list(views) for views, _ in waves(range(8), GenerateConfig(n_pilots=0))] == [list(range(8))]
    assert list(waves([], greedy)) == []
    searched = list(waves(range(4), GenerateConfig(n_pilots=1, p_min=0.2)))
    assert [(list(views), search and search.p_min) for views, search in searched] == [([0], None), ([0, 1, 2, 3], 0.2)]


def test_a_search_gives_all_it_finds_and_a_pilot_speaks_where_it_finds_nothing() -> None:
    answers = {0: [[[1]]], 1: [[[9]], [[2]], [[3]]], 2: [[[9]]], 3: [[[9]]]}
    engine, found = run(GenerateConfig(n_views=4, n_pilots=1, p_min=0.2), answers)
    assert [(verb, views) for verb, views, _ in engine.asked] == [("generate", [0]), ("search", [0, 1, 2, 3])]
    told = [(p.view, p.rank, p.reason or p.grid.tolist()) for p in found if p.grid is not None or p.reason]
    assert told == [(0, 0, [[1]]), (1, 0, [[2]]), (1, 1, [[3]]), (2, 0, "nothing_likely"), (3, 0, "no_end")]


@pytest.mark.parametrize(("stop_lead", "n_asked"), [(0, 6), (2, 4), (1, 2), (5, 6)])
def test_a_settled_query_is_asked_no_further_and_says_so(stop_lead: int, n_asked: int) -> None:
    answers = {view: [[[1]]] for view in range(6)} | {1: [[[2]]], 0: [[[1]]]}
    if stop_lead == 1:
        answers[1] = [[[1]]]
    config = GenerateConfig(n_views=6, n_pilots=2, views_a_wave=2, stop_lead=stop_lead)
    engine, found = run(config, answers)
    assert sum(len(views) for _, views, _ in engine.asked) == n_asked
    assert Counter(p.reason for p in found if p.reason) == Counter({"settled": 6 - n_asked} if n_asked < 6 else {})
    assert sorted(p.view for p in found) == list(range(6))


@pytest.mark.parametrize(("lead_of", "wave"), [(1, 1), (2, 1), (2, 2), (2, 4), (3, 2), (4, 8)])
def test_what_a_run_would_have_asked_is_what_it_asks(lead_of: int, wave: int) -> None:
    answers = {view: [[[int(cell)]]] for view, cell in enumerate("1211212222")}
    config = GenerateConfig(n_views=10, views_a_wave=wave)
    _, whole = run(config, answers)
    stops = replace(config, stop_lead=lead_of)
    _, found = run(stops, answers)
    assert [p.view for p in asked_for(whole, stops)] == [p.view for p in found if p.reason != "settled"]


def test_what_is_known_of_other_views_is_a_draft_and_settles_nothing() -> None:
    config = GenerateConfig(n_views=4, n_pilots=1, stop_lead=2)
    engine = ScriptedEngine({view: [as_grid([[7]])] for view in range(4)})
    engine.requests = requests_of(TASK, config)
    known = [prediction([[9]], view) for view in (-1, -2, -3)]
    found = list(predict(engine.requests, replace(INTERPRETER, engine=engine), config, Deadline.never(), known))
    (_, _, pilots), (_, rest, others) = engine.asked
    assert same(pilots[0], [[[9]]]) and rest == [1, 2, 3]
    assert all(same(drafts, [[[9]], [[7]]]) for drafts in others)
    assert [p.grid is not None and p.grid.tolist() for p in found] == [[[7]]] * 4


def test_a_lead_is_counted_in_views() -> None:
    found = [prediction([[1]], 0), prediction([[1]], 1), prediction([[2]], 2), prediction(None, 3)]
    assert (lead([]), lead(found[3:]), lead(found[:1]), lead(found)) == (0, 0, 1, 1)
    twice = replace(prediction([[2]], 2), rank=1)
    assert lead([*found, twice]) == 1  # a view has one vote for a candidate, however often it finds it


def test_the_views_asked_for_are_those_of_the_whole() -> None:
    config = GenerateConfig(n_views=6)
    some = make_requests(TASK, FAKE_NOTATION, config, np.random.default_rng(0), range(3, 5))
    whole = requests_of(TASK, config)
    assert [(r.view, r.augmentation, r.ids.tolist()) for r in some] == [
        (r.view, r.augmentation, r.ids.tolist()) for r in whole[3:5]
    ]


@pytest.mark.parametrize("options", [{"n_pilots": -1}, {"stop_lead": -2}, {"views_a_wave": -1}, {"p_min": 1.5}])
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        GenerateConfig(**options)
    with pytest.raises(ConfigError, match="expected greedy decoding"):
        GenerateConfig(p_min=0.2, decoding=Decoding(beams=2))


def test_later_views_are_told_of_earlier_ones_as_drafts_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, list[list[int]]] = {}
    own = stages.answer_views

    def answer_views(tasks: Any, views: Any, *rest: Any) -> Any:
        told.setdefault(tasks[0].id, []).append(sorted({prediction.view for prediction in rest[-1]}))
        return own(tasks, views, *rest)

    monkeypatch.setattr(stages, "answer_views", answer_views)
    found = []
    for n_pilots in (0, 1):
        views = GenerateConfig(n_views=6, n_pilots=n_pilots)
        config = fake_config(tmp_path / str(n_pilots), 2, first_views=3, generate=views)
        solve_here(config)
        by_task = read_prediction_folder(config.out / "predictions")
        found.append(
            {task_id: [p.to_json() for p in sorted(of, key=lambda p: p.key)] for task_id, of in by_task.items()}
        )
    assert found[0] == found[1]
    assert {len(of) for of in found[0].values()} == {6}
    assert all(of[: len(of) // 2] == [[]] * (len(of) // 2) for of in told.values())  # without pilots
    assert all(known == [*range(len(known))] for of in told.values() for known in of)
    assert max(len(known) for of in told.values() for known in of) >= 3


def test_what_a_worker_is_told_of_a_task(tmp_path: Path) -> None:
    config = fake_config(tmp_path, 1, generate=GenerateConfig(n_views=6, n_pilots=1))
    supervisor = Supervisor(config, load_tasks(config.tasks), Deadline.never(), partial(gather_crew, config, None))
    for view in range(6):
        supervisor.journal.keep_prediction(prediction([[view]], view, task_id="t00"))
    jobs = [Job("t00", stage, 0, views, 9.0, 1.0) for stage, views in STAGES]
    told = [[p.view for p in supervisor._known(job)] for job in jobs]
    supervisor.finish()
    assert told == [[], [], [], [0, 1, 2], [0, 1, 2, 3, 4, 5]]


STAGES: list[tuple[Stage, tuple[int, int]]] = [
    ("quick", (0, 2)),
    ("tune", (0, 0)),
    ("answer", (0, 3)),
    ("answer", (3, 6)),
    ("score", (0, 6)),
]


# Answers among other words -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extract", [None, "lines"])
def test_an_answer_among_other_words_counts_apart_and_only_where_that_is_asked_for(extract: str | None) -> None:
    fmt = replace(FAKE_NOTATION.format, extract=extract)
    interpreter = replace(INTERPRETER, notation=replace(FAKE_NOTATION, format=fmt))
    (request,) = requests_of(TASK, GenerateConfig(n_views=1))
    words = {"exact": "34\n56$", "wrapped": "II\n7\nO\n34\n56\nOO$", "without": "II$", "unended": "O\n34"}
    found = {}
    for name, text in words.items():
        ids = np.array(TOKENIZER.encode(text, add_special_tokens=False))
        completion = Completion(ids, np.zeros(len(ids), dtype=np.float32), ended=text.endswith("$"))
        found[name] = interpreter.read(request, completion, "no_end")
    outcomes = {name: each.outcome for name, each in found.items()}
    wrapped = "unknown_symbol" if extract is None else "extracted"
    assert outcomes == {"exact": "answered", "wrapped": wrapped, "without": "unknown_symbol", "unended": "no_end"}
    again = [Prediction.from_json(each.to_json(), "") for each in found.values()]
    assert [each.outcome for each in again] == list(outcomes.values())
    if extract:
        grids = [each.grid for each in (found["exact"], found["wrapped"])]
        assert all(grid is not None and same_grid(grid, as_grid([[3, 4], [5, 6]])) for grid in grids)


# With the model in the box --------------------------------------------------------------------------------------------


@cache
def box() -> Interpreter:
    model = replace(load_model(BOX_FOLDER, "fp32", "cpu"), autocast=None)
    return Interpreter(HFEngine(model), model.notation)


@cache
def some_tasks() -> list[Task]:
    return load_tasks("arc1:training", "shortest:4")


def answered(
    config: GenerateConfig,
    engine: Engine | None = None,
    views: range | None = None,
    known: Sequence[Prediction] = (),
) -> list[Prediction]:
    interpreter = replace(box(), engine=engine or box().engine)
    requests = [
        request
        for task in some_tasks()
        for request in make_requests(task, interpreter.notation, config, np.random.default_rng(1), views)
    ]
    return sorted(predict(requests, interpreter, config, Deadline.never(), known), key=lambda p: p.key)


def assert_same_predictions(found: list[Prediction], expected: list[Prediction]) -> None:
    assert [(p.key, p.text, p.reason) for p in found] == [(p.key, p.text, p.reason) for p in expected]
    np.testing.assert_allclose([p.log_prob for p in found], [p.log_prob for p in expected], atol=1e-3)


def test_waves_and_drafts_change_no_answer() -> None:
    alone = answered(GenerateConfig(n_views=4, n_pilots=0))
    assert_same_predictions(answered(GenerateConfig(n_views=4, n_pilots=1, views_a_wave=2)), alone)
    assert sum(p.grid is not None for p in alone) >= 8


def test_what_is_known_changes_no_answer() -> None:
    config = GenerateConfig(n_views=4)
    alone = answered(config)
    known = [p for p in alone if p.view < 2]
    later = [p for p in alone if p.view >= 2]
    assert_same_predictions(answered(config, views=range(2, 4), known=known), later)
    assert_same_predictions(answered(config, views=range(2, 4)), later)


def test_waves_and_drafts_change_no_search() -> None:
    searched = GenerateConfig(n_views=3, n_pilots=0, p_min=0.01, max_nodes=1000)
    alone = [p for p in answered(searched) if p.grid is not None]
    piloted = answered(replace(searched, n_pilots=1))
    greedy = {p.key for p in answered(GenerateConfig(n_views=1, n_pilots=0))}
    others = [p for p in piloted if p.grid is not None and (p.probability > 0.01 or p.key not in greedy)]
    # what the pilot said and the search found comes twice, as any prediction that replaces an earlier one
    assert_same_predictions(list({p.key: p for p in others}.values()), alone)
    assert {p.rank for p in alone} >= {0, 1}


def test_scores_are_what_the_answers_would_have_had() -> None:
    config = GenerateConfig(n_views=3, n_pilots=0)
    task = some_tasks()[0]
    found = [p for p in answered(config) if p.task_id == task.id]
    scores = list(
        rescore(task, found, box(), config, RescoreConfig(n_views=3), np.random.default_rng(1), Deadline.never())
    )
    grids = {p.grid.tobytes() for p in found if p.grid is not None}
    assert len(grids) > 1 and len(scores) == 3 * len(grids)
    own = {(s.view, s.grid.tobytes()): s.nll for s in scores}
    for p in found:
        if p.grid is not None:
            assert own[p.view, p.grid.tobytes()] == pytest.approx(-p.log_prob, abs=1e-3)


def test_nothing_is_scored_where_there_is_nothing_to_choose_or_no_time() -> None:
    config, task = GenerateConfig(n_views=3, n_pilots=0), some_tasks()[0]
    found = [p for p in answered(config) if p.task_id == task.id]

    def scored(predictions: list[Prediction], views: int, deadline: Deadline) -> list[Any]:
        options = RescoreConfig(n_views=views)
        return list(rescore(task, predictions, box(), config, options, np.random.default_rng(1), deadline))

    assert scored([p for p in found if p.view == 0], 3, Deadline.never()) == []
    assert scored(found, 0, Deadline.never()) == []
    assert scored(found, 3, Deadline(0.0, lambda: 1.0)) == []
    assert len({s.grid.tobytes() for s in scored(found, 3, Deadline.never())}) > 1
