"""Where the time of a run went, for the report page: stages of tasks, the joint stage, loading, and lost workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Json = dict[str, Any]
CUT_SHORT = "cut short by the end of the run"
NOT_TRAINED = "no model came of it, the base answers"


def stage_rows(report: Mapping[str, Any]) -> Iterator[Json]:
    """Every stage of a task as its part of report.json tells it; `begin` is in seconds of the run."""
    for stage in report["stages"]:
        job, seconds = stage["job"], stage["outcome"]["seconds"]
        begin = stage["at_seconds"] - seconds
        yield row_of(stage["worker"], begin, job) | {"seconds": seconds, "lost": stage["lost"], "note": stage["note"]}


def row_of(worker: int | None, begin: float, job: Mapping[str, Any]) -> Json:
    """A job that is begun: for which task, by which worker, None for all of them, and what the plan allows it."""
    return {
        "task": job.get("task_id", ""),
        "stage": job["stage"],
        "worker": worker,
        "begin": begin,
        "seconds": 0.0,
        "predicted": job.get("predicted_seconds"),
        "most": job.get("max_seconds"),
        "views": job.get("views"),
        "level": job.get("level", 0),
        "lost": "",
        "note": "",
    }


def event_rows(events: Iterable[Mapping[str, Any]], run_seconds: float) -> list[Json]:
    """What events.jsonl tells beside stages that ended: `joint` and `load`, and stages that the run's end cut short.

    What a killed process had begun counts for nothing where the run went on, nor does what the clock of the run that
    went on does not count.
    """
    rows: list[Json] = []
    begun: dict[int | None, Json] = {}
    for event in events:
        at, worker = event["at_seconds"], event.get("worker")
        match event["event"]:
            case "run":
                begun.clear()
                rows = [row for row in rows if row["begin"] + row["seconds"] <= at]
            case "joint":
                begun[None] = row_of(None, at, {"stage": "joint", "predicted_seconds": 60 * event["minutes"]})
            case "start":
                begun[worker] = row_of(worker, at, {"stage": "load"})
            case "stage":
                begun[worker] = row_of(worker, at, event)
            case "done" | "lost":
                begun.pop(worker, None)
            case "joint_done" if None in begun:
                rows.append(_ended(begun.pop(None), at, "" if event["trained"] else NOT_TRAINED))
            case "ready" | "worker_lost" if begun.get(worker, {}).get("stage") == "load":
                rows.append(_ended(begun.pop(worker), at, event.get("reason", "")))
    return [*rows, *(_ended(row, run_seconds, CUT_SHORT) for row in begun.values())]


def losses_of(events: Iterable[Mapping[str, Any]], report: Mapping[str, Any]) -> Mapping[str, int]:
    """Why workers were lost, and how often. A run that went on reports the losses of its last part, events all."""
    lost = Counter(event["reason"] for event in events if event["event"] == "worker_lost")
    return lost or report.get("losses", {})


def _ended(row: Json, at: float, lost: str) -> Json:
    return row | {"seconds": max(0.0, at - row["begin"]), "lost": lost}
