"""What a run has found, in memory and on disk: evidence as it comes, stages as they end; a later run goes on there."""

from __future__ import annotations

import errno
import os
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

from arc_kaggle.answering.candidates import CandidateScore, Prediction
from arc_kaggle.config.json import config_to_json
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.errors import ArcKaggleError, ConfigError
from arc_kaggle.run.folder import (
    EVIDENCE,
    STAGES_FILE,
    FolderLock,
    check_place,
    check_same,
    clear,
    digest_of,
    has_results,
)
from arc_kaggle.run.planning.jobs import Stage
from arc_kaggle.run.records import StageRun
from arc_kaggle.system.files import append_lines, cut_torn, read_lines, set_aside, write_atomically, write_json
from arc_kaggle.system.paths import safe_name
from arc_kaggle.tasks.grid import grid_key
from arc_kaggle.tasks.task import Task

Evidence = Prediction | CandidateScore
SYNC_SECONDS = 1.0
"""Least time between two writes after which the disk is waited for."""
RESERVE = ".reserve"
RESERVE_BYTES = 4 * 2 * 30 * 30 * 3
"""For each query, so that the last submission.json finds room on a full disk: grids as JSON, the old file beside."""


class Journal:
    """What a run has found, in memory and on disk; the only writer of its folder.

    When the disk takes no more, the run goes on in memory: `trouble` says why, and what waits is written as soon as
    there is room. Raises ConfigError for a folder that is in use, or holds the results of another config.
    """

    def __init__(self, config: SolveConfig, tasks: Sequence[Task], begin: Callable[[], None] = lambda: None) -> None:
        """`begin` is called as soon as the folder is this run's, before what lies there is read."""
        self.out = config.out
        self.tasks = {task.id: task for task in tasks}
        self.predictions: dict[str, dict[tuple[Any, ...], Prediction]] = {task.id: {} for task in tasks}
        self.scores: dict[str, dict[tuple[Any, ...], CandidateScore]] = {task.id: {} for task in tasks}
        self.stages: list[StageRun] = []
        self._stages_of: dict[str, list[StageRun]] = {task.id: [] for task in tasks}
        self._synced_at = -inf
        self.damaged: list[str] = []
        """Files that were set aside."""
        self.trouble = ""
        self._waiting: deque[tuple[Path, Mapping[str, Any], bool]] = deque()
        self._n_lines: dict[Path, int] = {}
        try:
            self._lock = FolderLock(config.out)
            try:
                for name in ("submission.json", "report.json", "config.json", STAGES_FILE):
                    check_place(self.out / name)
                if not (self.out / "submission.json").exists():
                    begin()
                self._open(config, tasks)
            except BaseException:
                self.close()
                raise
        except OSError as error:
            raise ConfigError(f"folder {config.out}: cannot be written to ({error.strerror})") from error

    def _open(self, config: SolveConfig, tasks: Sequence[Task]) -> None:
        stages = self.out / STAGES_FILE
        if config.overwrite:
            clear(self.out)
        about = {"tasks": digest_of(tasks)}
        if has_results(self.out):
            check_same(config, self.out)
            self._load(about, tasks)
        else:
            clear(self.out)
        for name in EVIDENCE:
            (self.out / name).mkdir(exist_ok=True)
        write_json(self.out / "config.json", config_to_json(config))
        if not stages.exists():
            append_lines(stages, [about], sync=True)
        _keep_room(self.out / RESERVE, RESERVE_BYTES * sum(len(task.test) for task in tasks))

    def _load(self, about: Mapping[str, Any], tasks: Sequence[Task]) -> None:
        """Take in what is there. A file that is damaged is set aside, and the stages that wrote it are forgotten."""
        for value in self._values(self.out / STAGES_FILE, self._check_line):
            if "job" in value:
                self._add(StageRun.from_json(value))
            elif "forget" in value:
                self._forget(value["forget"], value["stages"])
            elif value != about:
                raise ConfigError(
                    f"folder {self.out}: found the results of other tasks in --tasks than are there now; take another "
                    "--out, or --overwrite"
                )
        for task in tasks:
            self._load_evidence(task.id)

    def _check_line(self, value: dict[str, Any]) -> None:
        """Raise ValueError or KeyError for a line of stages.jsonl that no run over these tasks has written."""
        task_id = StageRun.from_json(value).job.task_id if "job" in value else value.get("forget")
        if task_id is not None and task_id not in self.tasks:
            raise ValueError(f"found task {task_id!r:.60}, which is not in --tasks")

    def _add(self, stage: StageRun) -> None:
        self.stages.append(stage)
        self._stages_of[stage.job.task_id].append(stage)

    def _load_evidence(self, task_id: str) -> None:
        predictions, scores = (self._file(kind, task_id) for kind in EVIDENCE)
        for value in self._values(predictions, partial(self._own, task_id, Prediction.from_json)):
            prediction = Prediction.from_json(value, predictions.name)
            self.predictions[task_id][prediction.key] = prediction
        for value in self._values(scores, partial(self._own, task_id, CandidateScore.from_json)):
            score = CandidateScore.from_json(value, scores.name)
            self.scores[task_id][_score_key(score)] = score
        if self._lacks(predictions, task_id, ("quick", "answer")) or not self._is_gapless(task_id):
            self._forget_for_good(task_id, ("quick", "tune", "answer", "score"))
        elif self._lacks(scores, task_id, ("score",)):
            self._forget_for_good(task_id, ("score",))

    def _own(self, task_id: str, read: Callable[[dict[str, Any], str], Evidence], value: dict[str, Any]) -> None:
        """Raise ValueError for evidence that is not this task's, and whatever `read` raises."""
        found = read(value, "a line")
        if found.task_id != task_id or not 0 <= found.query < len(self.tasks[task_id].test) or found.view < 0:
            raise ValueError(f"found evidence of task {found.task_id!r:.60}, query {found.query}, view {found.view}")

    def _values(self, path: Path, check: Callable[[dict[str, Any]], Any]) -> list[dict[str, Any]]:
        """The lines of a file that are whole; where one is not, the file is set aside."""
        cut_torn(path)
        lines, whole = read_lines(path), []
        for value in lines.values:
            try:
                check(value)
            except (KeyError, TypeError, ValueError, ArcKaggleError):
                continue
            whole.append(value)
        if lines.damaged or len(whole) < len(lines.values):
            self.damaged.append(str(set_aside(path, whole)))
        self._n_lines[path] = len(whole)
        return whole

    def _lacks(self, path: Path, task_id: str, stages: Sequence[Stage]) -> bool:
        """Whether a file has fewer lines than its finished stages left there."""
        of_task = (s for s in self._stages_of[task_id] if s.job.stage in stages)
        return self._n_lines[path] < max((s.n_lines for s in of_task), default=0)

    def _is_gapless(self, task_id: str) -> bool:
        """Whether every stage of a task has those before it: a damaged line of stages.jsonl leaves a gap."""
        first, is_begun = 0, False
        for stage in self._stages_of[task_id]:
            if not stage.lost:
                kind, views = stage.job.stage, stage.job.views
                if (kind != "quick" and not is_begun) or (kind == "answer" and views[0] != first):
                    return False
                is_begun = True
                first = 0 if kind == "tune" else first if kind == "score" else views[1]
        return True

    def _forget_for_good(self, task_id: str, stages: Sequence[Stage]) -> None:
        """Stages whose results are damaged are done again."""
        self._forget(task_id, stages)
        self._write(self.out / STAGES_FILE, {"forget": task_id, "stages": list(stages)})

    def _forget(self, task_id: str, stages: Sequence[str]) -> None:
        gone = {id(stage) for stage in self._stages_of[task_id] if stage.job.stage in stages}
        if gone:
            self._stages_of[task_id] = [stage for stage in self._stages_of[task_id] if id(stage) not in gone]
            self.stages = [stage for stage in self.stages if id(stage) not in gone]

    def keep_prediction(self, prediction: Prediction) -> None:
        """Keep what a view gave; what was cut off by the clock does not replace an answer."""
        of_task = self.predictions[prediction.task_id]
        before = of_task.get(prediction.key)
        if before is None or before.grid is None or prediction.reason not in ("deadline", "settled"):
            of_task[prediction.key] = prediction
            self._write(self._file("predictions", prediction.task_id), prediction.to_json())

    def keep_score(self, score: CandidateScore) -> None:
        self.scores[score.task_id][_score_key(score)] = score
        self._write(self._file("scores", score.task_id), score.to_json())

    def predictions_of(self, task_id: str) -> list[Prediction]:
        """Of a task, in an order that does not tell which came first."""
        return [self.predictions[task_id][key] for key in sorted(self.predictions[task_id])]

    def scores_of(self, task_id: str) -> list[CandidateScore]:
        return [self.scores[task_id][key] for key in sorted(self.scores[task_id])]

    def n_lines(self, task_id: str, stage: Stage) -> int:
        """Lines of the file that a stage writes."""
        kind = "scores" if stage == "score" else "predictions"
        return self._n_lines.get(self._file(kind, task_id), 0)

    def _file(self, kind: str, task_id: str) -> Path:
        return self.out / kind / f"{safe_name(task_id)}.jsonl"

    def end_stage(self, run: StageRun) -> None:
        """A stage is through: on disk whatever becomes of this process, within a second even if the machine fails."""
        self._add(run)
        is_due = run.at_seconds - self._synced_at >= SYNC_SECONDS
        self._synced_at = run.at_seconds if is_due else self._synced_at
        self._write(self.out / STAGES_FILE, run.to_json(), sync=is_due)

    def _write(self, path: Path, value: Mapping[str, Any], sync: bool = False) -> None:
        self._n_lines[path] = self._n_lines.get(path, 0) + 1
        self._waiting.append((path, value, sync))
        self._write_waiting()

    def _write_waiting(self) -> None:
        """Write what waits, in its order, as far as the disk takes it."""
        try:
            while self._waiting:
                append_lines(self._waiting[0][0], [self._waiting[0][1]], self._waiting[0][2])
                self._waiting.popleft()
            self.trouble = ""
        except OSError as error:
            self.complain(error)

    def complain(self, error: OSError) -> None:
        """The disk takes no more: say so once; the run goes on in memory."""
        if not self.trouble:
            print(f"arc-kaggle: folder {self.out}: {error.strerror}; going on in memory", file=sys.stderr, flush=True)
        self.trouble = f"folder {self.out}: {error.strerror}; make room there"

    def finish(self, write_submission: Callable[[], None], files: Mapping[str, Callable[[], str]]) -> None:
        """Write what is left: the submission first, for which there is room kept, then the rest. Ends the journal."""
        (self.out / RESERVE).unlink(missing_ok=True)
        try:
            write_submission()
            for name, text in files.items():
                write_atomically(self.out / name, text())
            self._write_waiting()
        except OSError as error:
            self.complain(error)
        self.close()

    def close(self) -> None:
        """Let others into the folder."""
        self._lock.close()


def _keep_room(path: Path, n_bytes: int) -> None:
    """Claim bytes of the disk without writing them, where the file system can. Raises OSError where there are none."""
    with path.open("wb") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, n_bytes)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise
            file.write(b" " * n_bytes)


def _score_key(score: CandidateScore) -> tuple[Any, ...]:
    return score.query, score.view, grid_key(score.grid)
