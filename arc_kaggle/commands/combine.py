"""Command `combine`: it merges runs into one submission, by a vote over all predictions or by one attempt of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import exp
from pathlib import Path
from typing import Literal, TypeVar

from tyro.conf import Positional

from arc_kaggle.answering.answer_files import Answers, read_answers
from arc_kaggle.answering.candidates import Attempts, Candidate, Prediction, group_candidates, read_prediction_folder
from arc_kaggle.answering.metrics import PredictionsByTask
from arc_kaggle.answering.submission import choose_attempts, submission_json
from arc_kaggle.answering.vote import rank_candidates
from arc_kaggle.errors import ConfigError, SubmissionError
from arc_kaggle.system.files import strict_json, write_atomically, write_json
from arc_kaggle.system.paths import remove_below, safe_name
from arc_kaggle.tasks.dataset import load_tasks
from arc_kaggle.tasks.selection import select_tasks
from arc_kaggle.tasks.task import Query, Task

By = Literal["votes", "log_prob"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CombineConfig:
    """Merge runs: folders with predictions by one vote over all of them, submission.json files by one attempt
    each; or submissions that share no task, one after the other."""

    runs: Positional[tuple[Path, ...]]
    """Two or more: all of them folders that `solve` wrote (or folders of predictions), or all of them submissions."""
    tasks: str
    """The tasks that were solved, as for `solve`."""
    out: Path
    """A submission to write (.json), or a folder for submission.json and, where there are any, the predictions."""
    select: str = ""
    """Which of the tasks, as for `solve`."""
    by: Literal["votes", "log_prob"] = "votes"
    """The weight of a prediction in the vote. votes: 1. log_prob: the exponential of its mean log-probability per
    token, from 0 to 1."""
    overwrite: bool = False
    """Replace a submission that is there already."""


@dataclass(frozen=True, slots=True)
class Combined:
    """What was written, and how much evidence there was for it."""

    path: Path
    n_runs: int
    n_tasks: int
    n_queries: int
    n_unanswered: int
    """Queries for which no run had a grid; their attempts are fallback grids."""

    @property
    def text(self) -> str:
        answered = f"{self.n_queries - self.n_unanswered} of {self.n_queries} test inputs answered by a run"
        return f"{self.path} holds two attempts for {self.n_tasks} tasks, from {self.n_runs} runs; {answered}"


def run(config: CombineConfig) -> int:
    """Combine, and say what was written."""
    print(combine(config).text)
    return 0


def combine(config: CombineConfig) -> Combined:
    """Merge runs into a valid submission. Raises ConfigError, TaskError, or SubmissionError for damaged runs."""
    from_folders, path = _check(config), _submission_path(config)
    tasks = load_tasks(config.tasks)
    chosen = select_tasks(tasks, config.select)
    predictions = pool([_named(read_run, run, tasks) for run in config.runs]) if from_folders else {}
    submissions = [] if from_folders else read_submissions(config.runs, chosen)

    def ranked(query: Query) -> list[Candidate]:
        return _ranked(query, predictions, config.by) if from_folders else one_each(query, submissions)

    found = [(query, ranked(query)) for task in chosen for query in task.queries]
    attempts: dict[str, list[Attempts]] = {task.id: [] for task in chosen}
    for query, candidates in found:
        attempts[query.task.id].append(choose_attempts(query, candidates))
    if submissions and are_disjoint(submissions, chosen):  # then nothing is chosen anew
        attempts |= {task_id: [(a, b) for a, b in answers] for each in submissions for task_id, answers in each.items()}
    try:
        _write(path, attempts, {} if path == config.out else predictions)
    except OSError as error:
        raise ConfigError(f"out {config.out}: cannot be written to ({error.strerror})") from error
    n_unanswered = sum(not candidates for _, candidates in found)
    return Combined(path, len(config.runs), len(chosen), len(found), n_unanswered)


def read_submissions(runs: Sequence[Path], tasks: Sequence[Task]) -> list[Answers]:
    """The answers of submissions each of which holds all tasks, or which share no task and hold all of them together.

    Raises SubmissionError for others.
    """
    found = [_named(read_answers, run, tasks) for run in runs]
    for run, answers in zip(runs, found, strict=True):
        missing = [task.id for task in tasks if task.id not in answers]
        if missing and not are_disjoint(found, tasks):
            raise SubmissionError(
                f"run {run}: found no answer for {len(missing)} tasks, the first is {missing[0]}, expected all tasks "
                "in each submission, or each task in one alone"
            )
    return found


def are_disjoint(submissions: Sequence[Answers], tasks: Sequence[Task]) -> bool:
    """Whether every task is in exactly one of the submissions."""
    return sorted(task_id for each in submissions for task_id in each) == sorted(task.id for task in tasks)


def _named(read: Callable[[Path, Sequence[Task]], T], run: Path, tasks: Sequence[Task]) -> T:
    """Errors name the whole path: runs often differ by their folder alone."""
    try:
        return read(run, tasks)
    except SubmissionError as error:
        raise SubmissionError(f"run {run}: {error}") from error


def rank_by_log_prob(predictions: Iterable[Prediction]) -> list[Candidate]:
    """The distinct grids of one query, best first: by the sum over predictions of exp(mean log-probability per token),
    so that an unsure prediction counts less than a sure one; ties by the first view.
    """
    candidates = group_candidates(sorted(predictions, key=lambda prediction: prediction.view))
    return sorted(candidates, key=lambda c: (-sum(map(_weight, c.predictions)), c.predictions[0].view))


def _weight(prediction: Prediction) -> float:
    return exp(min(0.0, prediction.log_prob / max(1, prediction.n_tokens)))


def _ranked(query: Query, predictions: PredictionsByTask, by: By) -> list[Candidate]:
    found = [p for p in predictions.get(query.task.id, ()) if p.query == query.index]
    return rank_by_log_prob(found) if by == "log_prob" else rank_candidates(found)


def one_each(query: Query, submissions: Sequence[Answers]) -> list[Candidate]:
    """The distinct attempts of all submissions in the order in which they are taken: every first one, then the second
    ones. Of two submissions that is the first attempt of each, or a second one where the first ones are equal.
    """
    answers = [held[query.task.id][query.index] for held in submissions if query.task.id in held]
    distinct: dict[tuple[tuple[int, ...], bytes], Candidate] = {}
    for attempt in (answer[place] for place in (0, 1) for answer in answers):
        distinct.setdefault((attempt.shape, attempt.tobytes()), Candidate(attempt, ()))
    return list(distinct.values())


def pool(runs: Sequence[PredictionsByTask]) -> dict[str, list[Prediction]]:
    """The predictions of all runs by task; the views of a run are counted on from those of the runs before it."""
    pooled: dict[str, list[Prediction]] = {}
    for run in runs:
        for task_id, found in run.items():
            before = pooled.setdefault(task_id, [])
            first = max((prediction.view for prediction in before), default=-1) + 1
            before += [replace(prediction, view=first + prediction.view) for prediction in found]
    return pooled


def read_run(folder: Path, tasks: Sequence[Task]) -> dict[str, list[Prediction]]:
    """The predictions of a run's folder, by task id, checked against the tasks. Raises SubmissionError."""
    inner = folder / "predictions"
    predictions = read_prediction_folder(inner if inner.is_dir() else folder)
    if not predictions:
        raise SubmissionError("found no predictions (*.jsonl), expected those that `solve` writes")
    n_queries = {task.id: len(task.test) for task in tasks}
    for task_id, found in predictions.items():
        _check_predictions(task_id, found, n_queries)
    return predictions


def _check_predictions(task_id: str, found: Sequence[Prediction], n_queries: dict[str, int]) -> None:
    at = f"task {task_id}"
    if task_id not in n_queries:
        raise SubmissionError(f"{at}: found no such task among {len(n_queries)}; name the --tasks of this run")
    for prediction in found:
        if not 0 <= prediction.query < n_queries[task_id]:
            raise SubmissionError(
                f"{at}: found query {prediction.query}, expected 0..{n_queries[task_id] - 1}; name the --tasks of "
                "this run"
            )


def _check(config: CombineConfig) -> bool:
    """Whether the runs are folders of predictions. Raises ConfigError for runs that cannot be combined."""
    if len({run.resolve() for run in config.runs}) < max(2, len(config.runs)):
        raise ConfigError(f"runs {' '.join(map(str, config.runs))}: expected two or more, each of them once")
    if missing := [run for run in config.runs if not run.exists()]:
        raise ConfigError(f"run {missing[0]}: found no such file or folder, expected what `solve` wrote")
    folders = [run for run in config.runs if run.is_dir()]
    if folders and len(folders) < len(config.runs):
        file = next(run for run in config.runs if not run.is_dir())
        raise ConfigError(f"runs: found folder {folders[0]} and file {file}, expected only folders or only files")
    if config.by != "votes" and not folders:
        raise ConfigError(f"option by: found {config.by!r}, but submissions hold no log-probabilities; name folders")
    return bool(folders)


def _submission_path(config: CombineConfig) -> Path:
    path = config.out if config.out.suffix == ".json" else config.out / "submission.json"
    taken = [path, config.out / "predictions"]
    if found := next((place for place in taken if place.exists() and not config.overwrite), None):
        raise ConfigError(f"out {config.out}: found {found} there already; take another --out, or --overwrite")
    written = {place.resolve() for place in (config.out, *taken)}
    if any(run.resolve() in written for run in config.runs):
        raise ConfigError(f"out {config.out}: found it among the runs; take another --out")
    return path


def _write(path: Path, attempts: dict[str, list[Attempts]], predictions: PredictionsByTask) -> None:
    """Write the submission and, beside it, the predictions (of its tasks) where there are any."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if predictions:
        folder = path.parent / "predictions"
        folder.mkdir(exist_ok=True)
        for old in folder.glob("*.jsonl"):
            remove_below(folder, old)
        for task_id in attempts:
            lines = (strict_json(prediction.to_json()) + "\n" for prediction in predictions.get(task_id, ()))
            write_atomically(folder / f"{safe_name(task_id)}.jsonl", "".join(lines))
    write_json(path, submission_json(attempts), indent=None)
