"""Command `score`: it judges a submission, or the predictions of a run, against known solutions; or it compares two."""

from __future__ import annotations

import textwrap
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from arc_kaggle.answering.answer_files import read_answers
from arc_kaggle.answering.candidates import Attempts, CandidateScore, read_prediction_folder
from arc_kaggle.answering.metrics import (
    AttemptsByTask,
    is_solved,
    kaggle_score,
    n_solved,
    selection_scores,
    whole_tasks_score,
)
from arc_kaggle.answering.submission import vote_task
from arc_kaggle.config.answer import Selection
from arc_kaggle.errors import ConfigError, SubmissionError, TaskError
from arc_kaggle.evaluation.early_stopping import stopping_table
from arc_kaggle.evaluation.statistics import Paired, paired
from arc_kaggle.run.report import score_lines, scores_json
from arc_kaggle.system.files import read_lines
from arc_kaggle.tasks.dataset import load_solutions_json, load_tasks
from arc_kaggle.tasks.task import Task, shown_id
from arc_kaggle.tasks.task import with_solutions as solved_pairs

FEWEST_TO_TEST = 10
"""Test outputs below which a test of significance says nothing."""
WIDTH = 120


@dataclass(frozen=True, slots=True)
class ScoreConfig:
    """Judge a submission, or predictions by a new vote, against solutions, Kaggle's way; or compare two of them.

    For example: arc-kaggle score out/first --tasks arc1:evaluation --select shortest:5
    """

    submission: Positional[Path]
    """A submission in Kaggle's form; a folder that `solve` wrote, whose predictions are voted on anew; or a folder with
    the answers of a task in each file, as benchmarks keep them."""
    tasks: str
    """The tasks that were solved, as for `solve`. Those that the submission lacks are left out, and told."""
    select: str = ""
    """Which of the tasks, as for `solve`."""
    solutions: Path | None = None
    """Kaggle's solutions file, where the tasks come without solutions."""
    select_by: Selection = "votes"
    """How attempts are chosen anew among the candidates in a folder, as for `solve`."""
    other: Positional[Path | None] = None
    """Another submission, to compare with on the tasks that both hold."""


def run(config: ScoreConfig) -> int:
    """Print the scores, which tasks are solved, and for predictions the table of ways to select and to stop early."""
    print(text_of(score(config)) if config.other is None else compared_text(config))
    return 0


def score(config: ScoreConfig) -> dict[str, Any]:
    """Scores by name, each {mean, low, high}, 0..1, and which tasks are solved. Raises SubmissionError or TaskError."""
    return judge(config, config.submission).scores


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """A submission that was judged: its scores, and its attempts for the tasks that it holds."""

    scores: dict[str, Any]
    attempts: AttemptsByTask
    tasks: Sequence[Task]

    def solved(self) -> dict[Hashable, bool]:
        """Whether a test output is solved, by task id and number."""
        queries = [query for task in self.tasks for query in task.queries]
        return {(q.task.id, q.index): is_solved(q, self.attempts[q.task.id][q.index]) for q in queries}


def judge(config: ScoreConfig, path: Path) -> Judged:
    """Judge one submission under the options of a config. Raises SubmissionError or TaskError."""
    tasks = with_solutions(load_tasks(config.tasks, config.select), config.solutions)
    if unknown := [task.id for task in tasks if not task.has_solution]:
        raise TaskError(
            f"tasks {config.tasks}: {len(unknown)} have no solution, the first is {unknown[0]}; name --solutions"
        )
    attempts: AttemptsByTask
    if holds_predictions(path):
        scores, attempts = _vote_anew(config, path, tasks)
    else:
        attempts = read_answers(path, tasks)
        held = [task for task in tasks if task.id in attempts]
        scores = {"kaggle": asdict(kaggle_score(attempts, held)), "n_tasks": len(held)}
    held = [task for task in tasks if task.id in attempts]
    return Judged({**scores, **_by_task(attempts, held, tasks)}, attempts, held)


def holds_predictions(path: Path) -> bool:
    """Whether a path is a folder that `solve` wrote, or a folder of predictions; else it is a submission."""
    return path.is_dir() and ((path / "predictions").is_dir() or not any(path.glob("*.json")))


def _by_task(attempts: AttemptsByTask, held: Sequence[Task], tasks: Sequence[Task]) -> dict[str, Any]:
    """Which tasks are solved as a whole or in part, and which the submission lacks."""
    counts = {task.id: (n_solved(task, attempts[task.id]), len(task.test)) for task in held}
    return {
        "whole_tasks": asdict(whole_tasks_score(attempts, held)),
        "solved_tasks": [task_id for task_id, (solved, n) in counts.items() if solved == n],
        "partly_solved": {task_id: f"{k} of {n}" for task_id, (k, n) in counts.items() if 0 < k < n},
        "not_answered": [task.id for task in tasks if task.id not in attempts],
    }


def with_solutions(tasks: Sequence[Task], path: Path | None) -> list[Task]:
    """Tasks with the answers of a Kaggle solutions file in place."""
    if path is None:
        return list(tasks)
    solutions = load_solutions_json(path)
    if missing := [task.id for task in tasks if task.id not in solutions]:
        raise TaskError(f"{path}: found no solution of {len(missing)} tasks, the first is {missing[0]}")
    return [
        replace(task, test=solved_pairs(task.test, solutions[task.id], f"{path.name}: task {task.id}"))
        for task in tasks
    ]


def _vote_anew(
    config: ScoreConfig, folder: Path, tasks: Sequence[Task]
) -> tuple[dict[str, Any], dict[str, list[Attempts]]]:
    inner = folder / "predictions" if (folder / "predictions").is_dir() else folder
    predictions = read_prediction_folder(inner)
    if not predictions:
        raise SubmissionError(
            f"folder {folder}: found neither predictions (*.jsonl), as `solve` writes them, nor answers (ID.json)"
        )
    read = (_read_scores(path) for path in sorted((inner.parent / "scores").glob("*.jsonl")))
    scores = {found[0].task_id: found for found in read if found}
    attempts = {
        task.id: vote_task(task, predictions.get(task.id, ()), scores.get(task.id, ()), config.select_by)
        for task in tasks
    }
    selection = selection_scores(predictions, scores, tasks)
    table = {way: {"top_1": asdict(first), "top_2": asdict(second)} for way, (first, second) in selection.items()}
    stopping = [asdict(each) for each in stopping_table(predictions, scores, tasks, config.select_by)]
    return {**scores_json(attempts, predictions, tasks), "selection": table, "stopping": stopping}, attempts


def _read_scores(path: Path) -> list[CandidateScore]:
    return [CandidateScore.from_json(value, f"{path.name}") for value in read_lines(path).values]


def text_of(scores: Mapping[str, Any]) -> str:
    """The scores, which tasks are solved, and what is not judged, as lines."""
    solved, partly, lacking = (scores[name] for name in ("solved_tasks", "partly_solved", "not_answered"))
    lines = [
        score_lines({name: value for name, value in scores.items() if name != "whole_tasks"}),
        score_lines({"whole_tasks": scores["whole_tasks"]}),
        table_lines(scores).rstrip("\n"),
        _listed("solved", list(map(shown_id, solved))),
        _listed("solved in part", [f"{shown_id(task_id)} ({share})" for task_id, share in partly.items()]),
        _listed("not in the submission and not judged", list(map(shown_id, lacking))),
        f"{scores['n_tasks']} tasks" + (f" of {scores['n_tasks'] + len(lacking)}" if lacking else ""),
    ]
    return "\n".join(line for line in lines if line)


def _listed(what: str, names: Sequence[str]) -> str:
    """`what (3): a b c`, wrapped; empty where there are none."""
    return textwrap.fill(f"{what} ({len(names)}): {' '.join(names)}", WIDTH, subsequent_indent="  ") if names else ""


def compared_text(config: ScoreConfig) -> str:
    """Two submissions side by side on the tasks that both hold, and where they differ. Raises ConfigError."""
    assert config.other is not None
    first, second = judge(config, config.submission), judge(config, config.other)
    common = [task for task in first.tasks if task.id in second.attempts]
    if not common:
        raise ConfigError(f"{config.submission} and {config.other}: found no task that both hold, expected some")
    a, b = (replace(each, tasks=common).solved() for each in (first, second))
    rows = [f"{'':<40}{'outputs solved':>16}{'whole tasks':>16}"]
    for path, judged in ((config.submission, first), (config.other, second)):
        outputs, whole = kaggle_score(judged.attempts, common), whole_tasks_score(judged.attempts, common)
        rows.append(f"{str(path)[-38:]:<40}{100 * outputs.mean:>15.1f}%{100 * whole.mean:>15.1f}%")
    queries = [query for task in common for query in task.queries]
    for what, one, another in (("only the first", a, b), ("only the second", b, a)):
        alone = [q for q in queries if one[q.task.id, q.index] and not another[q.task.id, q.index]]
        rows.append(_listed(what, [f"{shown_id(q.task.id)}[{q.index}]" for q in alone]))
    rows.append(_test(paired(a, b)))
    return "\n".join(row for row in [*rows, f"{len(common)} tasks that both hold"] if row)


def _test(pair: Paired) -> str:
    differ = f"{pair.both} test outputs solved by both, {pair.only_first} and {pair.only_second} by one alone"
    if pair.n < FEWEST_TO_TEST:
        return f"{differ}; too few of {pair.n} for a test"
    return f"{differ}; difference {100 * pair.uplift:+.1f} points, p {pair.p_value:.2g} (exact McNemar)"


def table_lines(scores: Mapping[str, Any]) -> str:
    """Per cent of test outputs whose answer is ranked first, and among the first two: by each way to select, and by
    each way to stop early, with the per cent of the views that it asks; empty for a submission alone.
    """
    if "selection" not in scores:
        return ""
    rows = [f"{'selected by':<20}{'top 1':>8}{'top 2':>9}"]
    rows += [f"{way:<20}{_per_cent(share)}" for way, share in scores["selection"].items()]
    rows.append(f"{'stopped early':<20}{'top 1':>8}{'top 2':>9}{'asked':>9}")
    for row in scores["stopping"]:
        name = f"lead {row['stop_lead']}, waves of {row['views_a_wave']}" if row["stop_lead"] else "all views"
        rows.append(f"{name:<20}{_per_cent(row)}{100 * row['asked']:>8.1f}%")
    return "".join(f"{row}\n" for row in rows)


def _per_cent(share: Mapping[str, Any]) -> str:
    return f"{100 * share['top_1']['mean']:>7.1f}%{100 * share['top_2']['mean']:>8.1f}%"
