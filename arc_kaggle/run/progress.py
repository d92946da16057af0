"""Watching a run: a bar or a line a task for people, events.jsonl and status.json for machines."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tqdm import tqdm

from arc_kaggle.run.pool import Slot
from arc_kaggle.run.records import StageRun
from arc_kaggle.system.deadline import Clock
from arc_kaggle.system.files import strict_json, write_json
from arc_kaggle.tasks.task import shown_id

STATUS_SECONDS = 1.0
"""Least time between two writes of status.json."""


class Watch:
    """Tells how a run goes. A disk that takes no more costs what is told there, and nothing else."""

    def __init__(self, out: Path, n_tasks: int, clock: Clock, earlier_seconds: float = 0.0) -> None:
        self.out, self.n_tasks, self.clock, self.started = out, n_tasks, clock, clock() - earlier_seconds
        self.answered: set[str] = set()
        self.counts: dict[str, int] = {"done": 0, "lost": 0}
        self._last_status = float("-inf")
        self._bar = tqdm(total=n_tasks, desc="solve", unit="task", disable=None)  # shown on terminals alone

    @property
    def seconds(self) -> float:
        """Of the run, the time of earlier runs into the same folder included."""
        return self.clock() - self.started

    def began(self, n_workers: int, stages: Sequence[StageRun], damaged: Sequence[str]) -> None:
        """What there is to do, what an earlier run has done of it, and which of its files were damaged."""
        self.event("run", tasks=self.n_tasks, workers=n_workers, stages=len(stages), damaged=list(damaged))
        for name in damaged:
            say(f"{name}: found damaged lines; what is whole is kept, the stages that wrote them are done again")
        self.answered = {s.job.task_id for s in stages if s.job.stage == "answer" and not s.lost}
        self._bar.update(len(self.answered))

    def event(self, name: str, **facts: Any) -> None:
        """One line of events.jsonl: what happened, when, in seconds of the run, and to whom."""
        self.counts[name] = self.counts.get(name, 0) + 1
        line = strict_json({"event": name, "at_seconds": round(self.seconds, 3), **facts})
        with suppress(OSError), (self.out / "events.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def stage(self, run: StageRun) -> None:
        """A stage has ended. Without a terminal a task's first answer is a line, so that no log is silent for hours."""
        self.event("lost" if run.lost else "done", **run.to_json())
        job, outcome = run.job, run.outcome
        if job.stage != "answer" or run.lost or job.task_id in self.answered:
            return
        self.answered.add(job.task_id)
        self._bar.update()
        if self._bar.disable:
            agree = f"{100 * outcome.agreement:.0f}% of {job.views[1]} views agree"
            say(f"{len(self.answered)}/{self.n_tasks} {shown_id(job.task_id)}: {agree}, {self.seconds:.0f} s")

    def status(self, slots: Sequence[Slot], seconds_left: float, trouble: str) -> None:
        """Write status.json, once a second at most."""
        if self.seconds - self._last_status < STATUS_SECONDS:
            return
        self._last_status = self.seconds
        now = {
            "seconds": round(self.seconds, 1),
            "seconds_left": round(seconds_left, 1),
            "tasks": self.n_tasks,
            "answered": len(self.answered),
            "stages_done": self.counts["done"],
            "stages_lost": self.counts["lost"],
            "workers": [self._slot(slot) for slot in slots],
            "trouble": trouble,
        }
        with suppress(OSError):
            write_json(self.out / "status.json", now)

    def _slot(self, slot: Slot) -> dict[str, Any]:
        state = "none" if slot.worker is None else "loading" if not slot.ready else "busy" if slot.job else "idle"
        job = {"task_id": slot.job.task_id, "stage": slot.job.stage, "level": slot.job.level} if slot.job else {}
        held = round(slot.held_bytes / 2**20)
        return {"number": slot.number, "state": state, **job, "since": round(slot.since - self.started, 1), "mib": held}

    def close(self) -> None:
        self._bar.close()
        self._last_status = float("-inf")  # the end is told of whatever was told before


def say(text: str) -> None:
    """A line for people, beside whatever a program prints as its result."""
    print(text, file=sys.stderr, flush=True)
