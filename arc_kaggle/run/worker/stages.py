"""The stages of a task, as a worker does them: one job at a time, at the level of gentleness that it asks for."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

from arc_kaggle.answering.candidates import Prediction
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.errors import ArcKaggleError
from arc_kaggle.run.planning.jobs import Job
from arc_kaggle.run.worker.adapter_store import Adapters
from arc_kaggle.run.worker.method import Method, answer_views, score_task, tune_task
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.system.hardware import is_out_of_memory
from arc_kaggle.tasks.task import Task, task_from_json
from arc_kaggle.tuning.outcome import TuneReport

Message = Mapping[str, Any]
Send = Callable[[Message], None]
UNTUNED_LEVEL = 3
"""From this level on a task is answered by the base."""


class Stages:
    """A loaded model, and the task whose tuned weights it holds.

    The level of a job is how often its task was lost: from 1 on it is tuned with gradient checkpointing, from 2 on with
    examples, and answered with prompts, of half the length and under half its views, from 3 on it is not tuned.
    """

    def __init__(self, method: Method, config: SolveConfig, adapters: Adapters) -> None:
        self.method, self.config, self.adapters = method, config, adapters
        self.holds: str | None = None
        """Id of the task that the model is tuned on; None where its weights are the base's."""

    def run(self, order: Message, send: Send) -> None:
        """Do the job of an order; what comes of it goes out as it comes, then `done`, or `failed` with a reason."""
        started = time.monotonic()
        try:
            facts = self._do(order, send)
        except (ArcKaggleError, MemoryError, RuntimeError) as error:
            if not isinstance(error, ArcKaggleError) and not is_out_of_memory(error):
                raise
            reason = str(error) if isinstance(error, ArcKaggleError) else "out of memory"
            facts = None
        if facts is None:  # here, where the error and all that it holds have gone
            self._recover()
            send({"event": "failed", "reason": reason, "seconds": time.monotonic() - started})
        else:
            send({"event": "done", **facts, "seconds": time.monotonic() - started})

    def _do(self, order: Message, send: Send) -> dict[str, Any]:
        for task_id in order["forget"]:
            self.adapters.drop(task_id)
        job = Job.from_json(order["job"])
        task = task_from_json(job.task_id, order["task"])
        deadline = Deadline.after(min(job.max_seconds, order["seconds_left"]))
        config = gentler_prompts(self.config, job.level)
        if job.stage == "tune":
            return self._tune(task, job.level, deadline)
        tuned = order["tuned"] and job.stage != "quick"
        facts = self._take_weights(task, job.level, deadline) if tuned else self._take_base()
        predictions = [Prediction.from_json(value, "job") for value in order["predictions"]]
        if job.stage == "score":
            for score in score_task(task, predictions, self.method, config, deadline):
                send({"event": "score", "value": score.to_json()})
            return facts
        views = gentler_views(job.views, job.level)
        answered = answer_views(
            [task], views, self.method, config, deadline, lambda prediction: _tell(prediction, send), predictions
        )
        return {**facts, "dropped_pairs": answered[task.id].dropped_pairs}

    def _tune(self, task: Task, level: int, deadline: Deadline) -> dict[str, Any]:
        """Fine-tune, and keep what was learnt for whichever worker answers the task."""
        self._take_base()
        tuner = self.method.tuner
        if tuner is None or level >= UNTUNED_LEVEL:
            return {"tune": asdict(TuneReport("base: no fine-tuning asked for"))}
        self.holds = task.id
        report = tune_task(task, self.method, self.config, deadline, level)
        if is_tuned(report):
            return {"tune": asdict(report), "note": self.adapters.save(task.id, tuner)}
        self.holds = None
        return {"tune": asdict(report)}

    def _take_weights(self, task: Task, level: int, deadline: Deadline) -> dict[str, Any]:
        """Bring the model to what was tuned on a task; tunes again where that has gone."""
        tuner = self.method.tuner
        if tuner is None or level >= UNTUNED_LEVEL:
            return self._take_base()
        if self.holds != task.id and not self.adapters.load(task.id, tuner):
            return self._tune(task, level, deadline)
        self.holds = task.id
        return {}

    def _take_base(self) -> dict[str, Any]:
        if self.method.tuner is not None and self.holds is not None:
            self.method.tuner.reset()
        self.holds = None
        return {}

    def _recover(self) -> None:
        """After a failure nothing is known of the weights; what the failed stage held is given back."""
        if self.method.tuner is not None:
            self.method.tuner.reset()
        self.holds = None
        gc.collect()
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()


def _tell(prediction: Prediction, send: Send) -> None:
    send({"event": "prediction", "value": prediction.to_json()})


def is_tuned(report: TuneReport) -> bool:
    return not report.outcome.startswith("base")


def gentler_prompts(config: SolveConfig, level: int) -> SolveConfig:
    """Options for the answers of a task that was lost `level` times: from 2 on prompts of half the length."""
    if level < 2:
        return config
    return replace(config, generate=replace(config.generate, max_prompt_tokens=config.generate.max_prompt_tokens // 2))


def gentler_views(views: tuple[int, int], level: int) -> range:
    """The views of a job, of which a gentler one leaves out the second half."""
    first, stop = views
    return range(first, stop if level < 2 else first + (stop - first + 1) // 2)
