"""What tests use in place of a model: a worker whose answers differ by task, view and weights, so that lost or swapped
evidence shows, and a tokenizer of letters."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Any

from arc_kaggle.answering.candidates import CandidateScore, Prediction
from arc_kaggle.config.gentleness import gentler_views
from arc_kaggle.run.messages import Done, Failed, Gone, Inbox, Message, Order, PredictionFound, Ready, ScoreFound, Setup
from arc_kaggle.tasks.augmentation import spread_augmentations, task_rng
from arc_kaggle.tasks.grid import as_grid, grid_key
from arc_kaggle.tasks.task import Task
from arc_kaggle.tuning.outcome import TuneReport


def draw(n: int, *what: Any) -> int:
    """A number below n that follows from what it is for."""
    return int.from_bytes(hashlib.sha256(repr(what).encode()).digest()[:8], "big") % n


class ScriptedWorker:
    """Does a job as it is handed over: one of four grids for every view, another choice under tuned weights."""

    failures: Iterator[bool] = repeat(False)
    """Whether the next job is lost, with half of what it found."""

    def __init__(self, number: int, inbox: Inbox, setup: Setup) -> None:
        self.number, self.inbox = number, inbox
        self.found: list[Message] = []
        inbox.put((self, Ready(0.0)))

    def send(self, order: Order) -> None:
        job, task = order.job, order.task
        end: Message = Done(0.01, peak_memory_mib=1.0)
        if job.stage == "tune":
            end = Done(0.01, TuneReport(True, "", 1, 1.0, 0.5), peak_memory_mib=1.0)
        elif job.stage == "score":
            self._score(task, order.predictions)
        else:
            self._answer(task, gentler_views(job.views, job.level), order.tuned and job.stage == "answer")
        if next(self.failures):
            self.found, end = self.found[::2], Failed("as told", 0.01)
        for each in (*self.found, end):
            self.inbox.put((self, each))
        self.found = []

    def _answer(self, task: Task, views: range, tuned: bool) -> None:
        spread = list(spread_augmentations(views.stop, task_rng(task, 0, "views"), len(task.train), 0.9))
        for view in views:
            for query in range(len(task.test)):
                grid = as_grid([[draw(4, task.id, query, view, tuned)]])
                log_prob = -draw(1000, task.id, query, view) / 100
                found = Prediction(task.id, query, view, spread[view], "x", grid, None, log_prob, 1)
                self.found.append(PredictionFound(found))

    def _score(self, task: Task, predictions: Sequence[Prediction]) -> None:
        for query in range(len(task.test)):
            candidates = {grid_key(p.grid): p.grid for p in predictions if p.query == query and p.grid is not None}
            for view in range(2):
                for key, grid in candidates.items():
                    nll = draw(1000, task.id, query, view, key) / 100
                    self.found.append(ScoreFound(CandidateScore(task.id, query, view, grid, nll)))

    def held_bytes(self) -> int:
        return 0

    def kill(self) -> None:
        pass


class DyingWorker(ScriptedWorker):
    """Dies over the jobs that `deaths` says."""

    deaths: Iterator[bool] = repeat(False)
    reason = "killed by signal 9"

    def send(self, order: Order) -> None:
        if next(self.deaths):
            self.inbox.put((self, Gone(self.reason)))
        else:
            super().send(order)


class Letters:
    """Every character is a token, and so are the words of verdicts."""

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        words = {"yes": 300_000, "no": 300_001}
        return [words[text]] if text in words else [ord(symbol) for symbol in text]

    def decode(self, token_ids: Any) -> str:
        return "".join(map(chr, token_ids))
