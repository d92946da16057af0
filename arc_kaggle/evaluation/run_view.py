"""What the report page shows of a run: its tasks, candidates, scores and stages, read from the run's own files."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from arc_kaggle.answering.candidates import Attempts, Candidate, CandidateScore, Prediction, read_prediction_folder
from arc_kaggle.answering.metrics import predictions_of, unanswered_reasons
from arc_kaggle.answering.submission import read_submission
from arc_kaggle.answering.vote import rank_candidates, strengths_of
from arc_kaggle.config.answer import Selection
from arc_kaggle.errors import SubmissionError
from arc_kaggle.evaluation.columns import view_counts
from arc_kaggle.evaluation.time_view import event_rows, losses_of, stage_rows
from arc_kaggle.run.report import proposer
from arc_kaggle.system.files import read_lines
from arc_kaggle.tasks.dataset import load_tasks
from arc_kaggle.tasks.grid import Grid, grid_key, same_grid
from arc_kaggle.tasks.task import Query, Task

KINDS = {
    "solved": "solved by the model",
    "solved_by_rule": "solved by a simple rule or a guess",
    "outvoted": "right answer outvoted",
    "near_miss": "near miss: 90% of the cells or more",
    "wrong_cells": "right size, wrong cells",
    "wrong_size": "wrong size under every view",
    "no_grid": "no view gave a grid",
    "not_reached": "not reached",
    "not_scored": "answer not known",
}
"""What became of a test input, from good to bad, and how the page words it."""
NEAR = 0.9
"""Least share of right cells of a near miss."""
MOST_CANDIDATES = 200
"""Candidates of a test input that the page holds, the best first."""

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a run holds of its tasks: predictions, scores and the submitted attempts, each by task id."""

    predictions: Mapping[str, Sequence[Prediction]]
    scores: Mapping[str, Sequence[CandidateScore]]
    attempts: Mapping[str, Sequence[Attempts]]
    by: Selection


def run_view(folder: Path, name: str, tasks: Sequence[Task] | None = None) -> Json:
    """All that the page shows of one run, as plain JSON values.

    The tasks are those that the run's config.json names where none are given. Raises SubmissionError for a folder that
    `solve` has not finished, TaskError for tasks that cannot be found.
    """
    config, report = _read(folder / "config.json"), _read(folder / "report.json")
    tasks = load_tasks(config["tasks"], config["select"]) if tasks is None else tasks
    evidence = read_evidence(folder, tasks, config["select_by"])
    reports = {each["task_id"]: each for each in report["reports"]}
    events = read_lines(folder / "events.jsonl").values
    stages = [stage for each in report["reports"] for stage in stage_rows(each)]
    return {
        "name": name,
        "facts": facts_of(config, report),
        "scores": report["scores"],
        "curve": coverage_curve(tasks, evidence),
        "stages": [*stages, *event_rows(events, report["seconds"])],
        "losses": losses_of(events, report),
        "trouble": report.get("trouble", ""),
        "ended": Counter(each["ended"] or "not started" for each in report["reports"]),
        "tasks": {task.id: task_view(task, reports.get(task.id), evidence) for task in tasks},
    }


def _read(path: Path) -> Json:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SubmissionError(
            f"{path}: {error}, expected a file that `arc-kaggle solve` leaves in its --out; name that folder"
        ) from error
    if not isinstance(value, dict):
        raise SubmissionError(f"{path}: found {type(value).__name__}, expected an object")
    return value


def read_evidence(folder: Path, tasks: Sequence[Task], by: Selection) -> Evidence:
    """Raises SubmissionError for files of another form."""
    found = (
        [CandidateScore.from_json(value, path.name) for value in read_lines(path).values]
        for path in sorted((folder / "scores").glob("*.jsonl"))
    )
    scores = {each[0].task_id: each for each in found if each}
    attempts = read_submission(folder / "submission.json", tasks)
    return Evidence(read_prediction_folder(folder / "predictions"), scores, attempts, by)


def facts_of(config: Json, report: Json) -> Json:
    """The head of the page: what was run, and for how long."""
    return {
        "tasks": f"{config['tasks']} {config['select']}".strip(),
        "model": Path(config["model"]).name,
        "engine": report.get("engine", ""),
        "fine-tuning": f"{config['tune']['weights']}, {config['tune']['steps']} steps",
        "views": config["generate"]["n_views"],
        "decoding": decoding_words(config["generate"]),
        "selected by": config["select_by"],
        "seed": config["seed"],
        "seconds": round(report["seconds"], 1),
        "limit, minutes": config["time_limit_minutes"],
    }


def decoding_words(generate: Json) -> str:
    """How the tokens of every answer were chosen."""
    decoding = generate["decoding"]
    if generate["p_min"]:
        return f"search, all completions over {generate['p_min']:g}"
    if decoding["temperature"]:
        return f"temperature {decoding['temperature']:g}, best of {decoding['best_of']}"
    return f"{decoding['beams']} beams" if decoding["beams"] > 1 else "greedy"


def task_view(task: Task, report: Json | None, evidence: Evidence) -> Json:
    """A card of the page: the pairs, every test input with its candidates, and what the run says of the task."""
    queries = [query_view(query, evidence) for query in task.queries]
    run = (report or {}).get("run") or {}
    return {
        "train": [[grid_text(pair.input), grid_text(pair.output)] for pair in task.train],
        "queries": queries,
        "views": {prediction.view: view_view(prediction) for prediction in evidence.predictions.get(task.id, ())},
        "kind": max((query["kind"] for query in queries), key=list(KINDS).index),
        "verdict": (report or {}).get("verdict", "not reached"),
        "ended": (report or {}).get("ended", ""),
        "tune": run.get("tune"),
        "infer_seconds": run.get("infer_seconds", 0.0),
        "dropped_pairs": run.get("dropped_pairs", 0),
    }


def view_view(prediction: Prediction) -> list[Any]:
    """What a view does: its symmetry, what the colours 0 to 9 become, and its order of train pairs."""
    augmentation = prediction.augmentation
    return [augmentation.symmetry, "".join(map(str, augmentation.colours)), augmentation.order]


def query_view(query: Query, evidence: Evidence) -> Json:
    """A test input: attempts with who proposed them, candidates with their votes and likelihoods, reasons for none."""
    found = predictions_of(query, evidence.predictions)
    ranked = _ranked(query, evidence)
    attempts = evidence.attempts[query.task.id][query.index]
    given = given_by_views(ranked)
    compared = comparison_views(ranked)
    return {
        "input": grid_text(query.input),
        "answer": grid_text(query.answer),
        "attempts": [attempt_view(attempt, query, given) for attempt in attempts],
        "candidates": [
            candidate_view(candidate, query) | more
            for candidate, more in zip(ranked[:MOST_CANDIDATES], compared, strict=False)
        ],
        "n_candidates": len(ranked),
        "covered": any(right_cells(candidate.grid, query) == 1 for candidate in given),
        "n_views": len({prediction.view for prediction in found}),
        "reasons": unanswered_reasons({"": found}),
        "failed": {prediction.view: prediction.reason for prediction in found if prediction.grid is None},
        "kind": kind_of(query, found, ranked, attempts),
    }


def given_by_views(ranked: Sequence[Candidate]) -> list[Candidate]:
    """The candidates that the model gave: not the grid that the rule `cells` makes of several of them."""
    return [candidate for candidate in ranked if candidate.predictions]


def attempt_view(attempt: Grid, query: Query, given: Sequence[Candidate]) -> Json:
    return {
        "grid": grid_text(attempt),
        "by": proposer(attempt, query, (each.grid for each in given)),
        "pixels": right_cells(attempt, query),
    }


def candidate_view(candidate: Candidate, query: Query) -> Json:
    """Votes are views; `log_prob` in nats is that of its likeliest completion; `nll` the mean over scored views.

    `extracted` has the views whose answer was found among other words, `later` those of which a likelier completion
    was another grid; both are absent where there is no such view.
    """
    views = {
        "extracted": sorted({prediction.view for prediction in candidate.predictions if prediction.extracted}),
        "later": sorted({prediction.view for prediction in candidate.predictions if prediction.rank}),
    }
    return {name: of_name for name, of_name in views.items() if of_name} | {
        "grid": grid_text(candidate.grid),
        "views": sorted({prediction.view for prediction in candidate.predictions}),
        "votes": candidate.votes,
        "log_prob": max((prediction.log_prob for prediction in candidate.predictions), default=None),
        "nll": float(np.mean(list(candidate.nlls.values()))) if candidate.nlls else None,
        "verdict": float(np.mean(list(candidate.verdicts.values()))) if candidate.verdicts else None,
        "pixels": right_cells(candidate.grid, query),
    }


def comparison_views(ranked: Sequence[Candidate]) -> list[Json]:
    """For every candidate its Bradley-Terry strength and [place of another from 1, comparisons won, lost]; nothing
    where it was not compared. A comparison is of one view; one that ends even is neither won nor lost.
    """
    places = {grid_key(candidate.grid): i for i, candidate in enumerate(ranked)}
    counts: list[dict[int, list[int]]] = [defaultdict(lambda: [0, 0]) for _ in ranked]
    for i, candidate in enumerate(ranked):
        for other, margin in candidate.duels:
            if (j := places.get(grid_key(other))) is not None:
                counts[i][j][0] += margin > 0
                counts[i][j][1] += margin < 0
                counts[j][i][0] += margin < 0
                counts[j][i][1] += margin > 0
    duels = [[[j + 1, *count] for j, count in sorted(of_one.items())] for of_one in counts]
    both = zip(strengths_of(ranked).tolist(), duels, strict=True)
    return [{"strength": strength, "duels": of_one} if of_one else {} for strength, of_one in both]


def kind_of(query: Query, found: Sequence[Prediction], ranked: Sequence[Candidate], attempts: Attempts) -> str:
    """One of KINDS."""
    if not found:
        return _unanswered(query, attempts, "not_reached")
    if not ranked:
        return _unanswered(query, attempts, "no_grid")
    if query.answer is None:
        return "not_scored"
    given = given_by_views(ranked)
    right = [attempt for attempt in attempts if same_grid(attempt, query.answer)]
    if right:
        return "solved" if proposer(right[0], query, (each.grid for each in given)) == "model" else "solved_by_rule"
    shares = [right_cells(candidate.grid, query) or 0.0 for candidate in given]
    if max(shares) == 1:
        return "outvoted"
    if max(shares) >= NEAR:
        return "near_miss"
    has_size = any(candidate.grid.shape == query.answer.shape for candidate in given)
    return "wrong_cells" if has_size else "wrong_size"


def _unanswered(query: Query, attempts: Attempts, kind: str) -> str:
    is_right = query.answer is not None and any(same_grid(attempt, query.answer) for attempt in attempts)
    return "solved_by_rule" if is_right else kind


def right_cells(grid: Grid, query: Query) -> float | None:
    """Share of cells that are right, 0 where the size is wrong; None where the answer is not known."""
    if query.answer is None:
        return None
    return float((grid == query.answer).mean()) if grid.shape == query.answer.shape else 0.0


def coverage_curve(tasks: Sequence[Task], evidence: Evidence) -> list[Json]:
    """Over the number of views: test outputs whose answer some view gave, and whose answer is among the first two
    candidates of those views by the run's own rule. What a simple rule gave does not count.

    The gap between the two is what a better selection could win. Empty where no answer is known.
    """
    queries = [query for task in tasks for query in task.queries if query.answer is not None]
    views = (p.view + 1 for query in queries for p in predictions_of(query, evidence.predictions))
    return [_coverage(n, queries, evidence) for n in view_counts(max(views, default=0))]


def _coverage(n_views: int, queries: Sequence[Query], evidence: Evidence) -> Json:
    rows = [(query, _ranked(query, evidence, n_views)) for query in queries]
    return {
        "views": n_views,
        "covered": sum(any(right_cells(c.grid, query) == 1 for c in given_by_views(each)) for query, each in rows),
        "selected": sum(any(right_cells(c.grid, query) == 1 for c in each[:2]) for query, each in rows),
        "n": len(queries),
    }


def _ranked(query: Query, evidence: Evidence, n_views: float = inf) -> list[Candidate]:
    """The candidates of a test input in the order of the run's rule, had it asked so many views alone."""
    found = [p for p in predictions_of(query, evidence.predictions) if p.view < n_views]
    of_query = [score for score in evidence.scores.get(query.task.id, ()) if score.query == query.index]
    return rank_candidates(found, of_query, evidence.by)


def grid_text(grid: Grid | None) -> str | None:
    """Rows of digits with slashes between them, such as 012/345; None for no grid."""
    return None if grid is None else "/".join("".join(map(str, row)) for row in grid.tolist())
