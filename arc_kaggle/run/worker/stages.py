"""The stages of a task, as a worker does them: one job at a time, at the level of gentleness that it asks for."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from arc_kaggle.config.gentleness import gentler_prompts, gentler_views, level_at
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.errors import ArcKaggleError
from arc_kaggle.run.messages import Done, Failed, Order, PredictionFound, ScoreFound
from arc_kaggle.run.worker.adapter_store import Adapters, keep_for_good, take_kept
from arc_kaggle.run.worker.method import Method, answer_views, score_task, tune_task
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.system.hardware import is_out_of_memory
from arc_kaggle.tasks.task import Task
from arc_kaggle.tuning.outcome import NOT_ASKED_FOR, TuneReport

if TYPE_CHECKING:
    from arc_kaggle.tuning.tuner import Tuner

Found = PredictionFound | ScoreFound


class Stages:
    """A loaded model, and the task whose tuned weights it holds."""

    def __init__(self, method: Method, config: SolveConfig, adapters: Adapters) -> None:
        self.method, self.config, self.adapters = method, config, adapters
        self.holds: str | None = None
        """Id of the task that the model is tuned on; None where its weights are the base's."""

    def run(self, order: Order, send: Callable[[Found | Done | Failed], None]) -> None:
        """Do the job of an order; what comes of it goes out as it comes, then `Done`, or `Failed` with a reason."""
        started = time.monotonic()
        done: Done | None = None
        try:
            done = self._do(order, send)
        except (ArcKaggleError, MemoryError, RuntimeError) as error:
            if not isinstance(error, ArcKaggleError) and not is_out_of_memory(error):
                raise
            reason = str(error) if isinstance(error, ArcKaggleError) else "out of memory"
        if done is None:  # here, where the error and all that it holds have gone
            self._recover()
            send(Failed(reason, time.monotonic() - started))
        else:
            send(replace(done, seconds=time.monotonic() - started))

    def _do(self, order: Order, send: Callable[[Found], None]) -> Done:
        """Do the job; its seconds are filled in by the caller."""
        for task_id in order.forget:
            self.adapters.drop(task_id)
        job, task = order.job, order.task
        deadline = Deadline.after(min(job.max_seconds, order.seconds_left))
        config = replace(self.config, generate=gentler_prompts(self.config.generate, job.level))
        if job.stage == "tune":
            return self._tune(task, job.level, deadline)
        tuned = order.tuned and job.stage != "quick"
        done = self._take_weights(task, job.level, deadline) if tuned else self._take_base()
        if job.stage == "score":
            for score in score_task(task, order.predictions, self.method, config, deadline):
                send(ScoreFound(score))
            return done
        views = gentler_views(job.views, job.level)
        answered = answer_views(
            [task], views, self.method, config, deadline, lambda found: send(PredictionFound(found)), order.predictions
        )
        return replace(done, dropped_pairs=answered[task.id].dropped_pairs)

    def _tune(self, task: Task, level: int, deadline: Deadline) -> Done:
        """Fine-tune, and keep what was learnt for whichever worker answers the task."""
        self._take_base()
        tuner = self.method.tuner
        if tuner is None or not level_at(level).tunes:
            return Done(0.0, TuneReport(False, NOT_ASKED_FOR))
        self.holds = task.id
        if self.config.adapters:
            report = take_kept(self.config.adapters, task.id, tuner)
        else:
            report = tune_task(task, self.method, self.config, deadline, level)
        if report.tuned:
            return Done(0.0, report, note=self._keep(task.id, tuner))
        self.holds = None
        return Done(0.0, report)

    def _keep(self, task_id: str, tuner: Tuner) -> str:
        """Keep what was tuned until its task is through, and for good where that is asked for; says what went wrong."""
        note, folder = self.adapters.save(task_id, tuner), self.config.keep_adapters
        return note or (keep_for_good(folder, task_id, tuner) if folder and not self.config.adapters else "")

    def _take_weights(self, task: Task, level: int, deadline: Deadline) -> Done:
        """Bring the model to what was tuned on a task; tunes again where that has gone."""
        tuner = self.method.tuner
        if tuner is None or not level_at(level).tunes:
            return self._take_base()
        if self.holds != task.id and not self.adapters.load(task.id, tuner):
            return self._tune(task, level, deadline)
        self.holds = task.id
        return Done(0.0)

    def _take_base(self) -> Done:
        if self.method.tuner is not None and self.holds is not None:
            self.method.tuner.reset()
        self.holds = None
        return Done(0.0)

    def _recover(self) -> None:
        """After a failure nothing is known of the weights; what the failed stage held is given back."""
        if self.method.tuner is not None:
            self.method.tuner.reset()
        self.holds = None
        gc.collect()
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()
