"""The result of a run: a report of every task, and scores where solutions are known."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from arc_kaggle.answering.candidates import Attempts, CandidateScore, Prediction
from arc_kaggle.answering.metrics import (
    PredictionsByTask,
    answer_rank,
    is_solved,
    kaggle_score,
    model_score,
    prediction_scores,
    predictions_of,
    unanswered_reasons,
    voting_accuracy,
)
from arc_kaggle.answering.simple_rules import proven_grids
from arc_kaggle.config.answer import Selection
from arc_kaggle.run.journal import Journal
from arc_kaggle.run.records import Author, StageRun, TaskReport, TaskRun, task_run
from arc_kaggle.system.files import strict_json
from arc_kaggle.tasks.grid import Grid, same_grid
from arc_kaggle.tasks.task import Query, Task, shown_id


def task_report(
    task: Task,
    attempts: Sequence[Attempts],
    predictions: PredictionsByTask,
    run: TaskRun | None,
    tries: int,
    failure: str,
    stages: Sequence[StageRun] = (),
    ended: str = "",
    scores: Sequence[CandidateScore] = (),
    by: Selection = "votes",
) -> TaskReport:
    """Why a task came out as it did; of several test inputs the first that is not solved speaks.

    `scores` and the rule `by` say in which place an answer came that was not among the attempts.
    """
    authors = tuple(author_of(query, attempts[query.index], predictions) for query in task.queries)
    verdicts = [_verdict(query, authors[query.index], predictions, scores, by) for query in task.queries]
    unsolved = [verdict for verdict, author in zip(verdicts, authors, strict=True) if author is None]
    by_others = [verdict for verdict in verdicts if verdict != "solved"]
    verdict = (unsolved or by_others or ["solved"])[0]
    if failure and verdict != "solved":
        verdict = f"{failure}; {verdict}"
    if len(verdicts) > 1 and unsolved and task.has_solution:
        verdict = f"{len(verdicts) - len(unsolved)} of {len(verdicts)} solved; {verdict}"
    return TaskReport(task.id, verdict, tries, run, tuple(stages), ended, authors)


def author_of(query: Query, attempts: Attempts, predictions: PredictionsByTask) -> Author | None:
    """Who gave the right attempt, the model before a rule before a guess; None where none is right."""
    if query.answer is None or not is_solved(query, attempts):
        return None
    found = (prediction.grid for prediction in predictions_of(query, predictions))
    return proposer(query.answer, query, (grid for grid in found if grid is not None))


def proposer(attempt: Grid, query: Query, of_model: Iterable[Grid]) -> Author:
    """Who proposed an attempt: the model, a simple rule that holds for all train pairs, or a guess."""
    if any(same_grid(attempt, grid) for grid in of_model):
        return "model"
    return "rule" if any(same_grid(attempt, grid) for grid in proven_grids(query)) else "guess"


def _verdict(
    query: Query,
    author: Author | None,
    predictions: PredictionsByTask,
    scores: Sequence[CandidateScore],
    by: Selection,
) -> str:
    if author == "model":
        return "solved"
    found = predictions_of(query, predictions)
    if author:
        return f"solved by a {author}, not by the model"
    if not any(prediction.grid is not None for prediction in found):
        reasons = ", ".join(f"{reason} {n}" for reason, n in unanswered_reasons({"": found}).most_common())
        return f"no view gave a grid: {reasons}" if found else "not reached"
    if query.answer is None:
        return "not scored"
    rank = answer_rank(query, found, (score for score in scores if score.query == query.index), by)
    return f"right answer outvoted, place {rank}" if rank else "right answer never produced"


def scores_json(
    attempts: Mapping[str, Sequence[Attempts]], predictions: PredictionsByTask, tasks: Sequence[Task]
) -> dict[str, Any]:
    """Every score of the tasks whose answers are known; empty where none are.

    `model` is the part of `kaggle` that the model solved: outputs with a right attempt that some view of it gave.
    """
    known = [task for task in tasks if task.has_solution]
    if not known:
        return {}
    scores = {"model": model_score(attempts, predictions, known), "kaggle": kaggle_score(attempts, known)}
    scores |= prediction_scores(predictions, known)
    reasons = dict(unanswered_reasons({task.id: predictions.get(task.id, ()) for task in known}))
    plain = {name: asdict(score) for name, score in scores.items()}
    return {**plain, "voting_accuracy": voting_accuracy(scores), "unanswered_by_reason": reasons, "n_tasks": len(known)}


def table(reports: Sequence[TaskReport]) -> str:
    """A line a task: seconds in training and in inference, tries, verdict."""
    lines = [f"{'task':<12}{'train s':>9}{'infer s':>9}{'tries':>7}  result"]
    for report in reports:
        tune_s, infer_s = (report.run.tune.seconds, report.run.infer_seconds) if report.run else (0.0, 0.0)
        note = "" if report.run is None or report.run.tune.text == "tuned" else f" [{report.run.tune.text}]"
        seconds = f"{tune_s:>9.1f}{infer_s:>9.1f}"
        lines.append(f"{shown_id(report.task_id):<12}{seconds}{report.tries:>7}  {report.verdict}{note}")
    return "\n".join(lines)


def score_lines(scores: Mapping[str, Any]) -> str:
    """Scores in per cent with their 95% intervals, a line each."""
    if not scores:
        return "no solutions known: nothing to score"
    means = {name: value for name, value in scores.items() if isinstance(value, dict) and "mean" in value}
    lines = [
        f"{n:<16}{100 * v['mean']:>6.1f}%  (95% {100 * v['low']:.1f}..{100 * v['high']:.1f})" for n, v in means.items()
    ]
    if "voting_accuracy" not in scores:  # a submission alone, without its predictions
        return "\n".join(lines)
    voting = scores["voting_accuracy"]
    lines.append(
        f"{'voting_accuracy':<16}"
        + ("     -   (no right prediction to keep)" if voting is None else f"{100 * voting:>6.1f}%")
    )
    reasons = ", ".join(f"{reason} {n}" for reason, n in scores["unanswered_by_reason"].items()) or "none"
    return "\n".join([*lines, f"unanswered by reason: {reasons}"])


@dataclass(frozen=True, slots=True)
class SolveResult:
    """The finished run: reports in the order of the tasks, scores where solutions are known, seconds in all."""

    reports: tuple[TaskReport, ...]
    scores: dict[str, Any]
    seconds: float
    trouble: str = ""
    """What could not be written, and why; empty where all was."""
    engine: str = ""
    """Which engine answered, and why that one."""
    losses: Mapping[str, int] = field(default_factory=dict)
    """Why workers were lost, and how often each reason came."""

    @property
    def n_answered(self) -> int:
        """Tasks for which the model gave a grid."""
        return sum(report.answered for report in self.reports)

    @property
    def text(self) -> str:
        """The table, the scores, and what went wrong."""
        unanswered = "" if self.n_answered or not self.reports else "the model answered no task at all"
        parts = (f"{table(self.reports)}\n", score_lines(self.scores), self.engine, *self._loss_lines())
        return "\n".join(part for part in (*parts, unanswered, self.trouble) if part)

    def _loss_lines(self) -> Iterator[str]:
        for reason, n in sorted(self.losses.items(), key=lambda item: -item[1]):
            yield f"workers lost: {n}, {'each time' if n > 1 else 'for this reason'}: {reason}"

    def to_json(self) -> str:
        """The text of report.json, a line for each task."""
        rows = ",\n  ".join(strict_json(report.to_json()) for report in self.reports)
        names = ("scores", "seconds", "trouble", "engine", "losses")
        rest = ",\n ".join(f"{json.dumps(name)}: {strict_json(getattr(self, name))}" for name in names)
        return f'{{"reports": [\n  {rows}\n ],\n {rest}\n}}\n'


def result_of(
    tasks: Sequence[Task],
    journal: Journal,
    attempts: Mapping[str, Sequence[Attempts]],
    unfinished: Mapping[str, str],
    ended: Mapping[str, str],
    seconds: float,
    by: Selection = "votes",
) -> SolveResult:
    """What a run came to. `unfinished` has the stages that its end cut short, `ended` why nothing more was started;
    `by` is the rule of selection.
    """
    predictions = {task.id: journal.predictions_of(task.id) for task in tasks}
    by_task: dict[str, list[StageRun]] = {task.id: [] for task in tasks}
    for stage in journal.stages:
        by_task[stage.job.task_id].append(stage)
    reports = []
    for task in tasks:
        stages, cut = by_task[task.id], unfinished.get(task.id)
        failure = f"cut short in {cut}" if cut else stages[-1].lost if stages else ""
        run = task_run(task.id, stages, _reasons(predictions[task.id]))
        begun = Counter((stage.job.stage, stage.job.views) for stage in stages)
        tries = max(begun.values(), default=1 if cut else 0)
        why, scores = ended.get(task.id, ""), journal.scores_of(task.id)
        reports.append(task_report(task, attempts[task.id], predictions, run, tries, failure, stages, why, scores, by))
    return SolveResult(tuple(reports), scores_json(attempts, predictions, tasks), seconds, journal.trouble)


def _reasons(predictions: Sequence[Prediction]) -> Counter[str]:
    return Counter(prediction.outcome for prediction in predictions)
