"""Where the time of a run went, from its own files: loading, the joint stage, lost workers, stages cut short."""

from __future__ import annotations

import json
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from in_process import solve_here
from processes import fake_config
from scripted import DyingWorker

from arc_kaggle.evaluation.run_view import run_view
from arc_kaggle.evaluation.time_view import CUT_SHORT, NOT_TRAINED, event_rows, losses_of
from arc_kaggle.system.files import line_of

JOB = {"task_id": "t", "stage": "tune", "level": 1, "views": [0, 0], "max_seconds": 9.0, "predicted_seconds": 4.0}


def told(name: str, at: float, **facts: Any) -> dict[str, Any]:
    return {"event": name, "at_seconds": at, **facts}


def spans(*events: dict[str, Any]) -> list[tuple[Any, ...]]:
    """(stage, worker, begin, seconds, lost) of every row of a run of 100 seconds."""
    names = ("stage", "worker", "begin", "seconds", "lost")
    return [tuple(row[name] for name in names) for row in event_rows(events, 100.0)]


def test_the_joint_stage_is_of_all_workers_and_loading_of_one() -> None:
    events = [
        *(told("run", 0.0), told("joint", 1.0, minutes=0.5), told("joint_done", 31.0, model="m", trained=True)),
        *(told("start", 31.0, worker=0), told("ready", 33.5, worker=0), told("start", 34.0, worker=1)),
        told("worker_lost", 36.0, worker=1, reason="no room"),
    ]
    assert spans(*events) == [
        *(("joint", None, 1.0, 30.0, ""), ("load", 0, 31.0, 2.5, "")),
        ("load", 1, 34.0, 2.0, "no room"),
    ]
    assert [row["predicted"] for row in event_rows(events, 100.0)] == [30.0, None, None]


def test_a_joint_stage_without_a_model_says_so() -> None:
    events = told("joint", 0.0, minutes=1.0), told("joint_done", 60.0, model="base", trained=False)
    assert spans(*events) == [("joint", None, 0.0, 60.0, NOT_TRAINED)]


def test_what_the_end_of_the_run_cut_short_is_there() -> None:
    events = told("stage", 10.0, worker=0, **JOB), told("done", 20.0, worker=0), told("stage", 95.0, worker=0, **JOB)
    assert spans(*events) == [("tune", 0, 95.0, 5.0, CUT_SHORT)]
    (row,) = event_rows(events, 100.0)
    assert (row["task"], row["predicted"], row["most"], row["level"]) == ("t", 4.0, 9.0, 1)


def test_a_stage_that_was_lost_with_its_worker_is_told_by_the_report_alone() -> None:
    lost = told("worker_lost", 12.0, worker=0, reason="killed"), told("lost", 12.0, worker=0)
    assert spans(told("stage", 10.0, worker=0, **JOB), *lost) == []


def test_a_run_that_went_on_counts_what_its_clock_counts() -> None:
    """The killed process had loaded, and then worked on something for longer than the run's clock knows."""
    killed = told("start", 0.0, worker=0), told("ready", 2.0, worker=0), told("stage", 4.0, worker=2, **JOB)
    late = told("start", 6.0, worker=1), told("ready", 9.0, worker=1)
    again = told("run", 5.0), told("start", 5.0, worker=0), told("ready", 6.0, worker=0)
    assert spans(*killed, *late, *again) == [("load", 0, 0.0, 2.0, ""), ("load", 0, 5.0, 1.0, "")]


@pytest.fixture(scope="module")
def lossy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of three jobs one kills its worker."""
    config = fake_config(tmp_path_factory.mktemp("lossy"), 6)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(DyingWorker, "deaths", cycle([True, False, False]))
        solve_here(config, start=DyingWorker)
    return config.out


def lost_jobs(run: Path) -> list[str]:
    events = json.loads((run / "plan.json").read_text())["events"]
    return [event["reason"] for event in events if event["event"] == "lost"]


def test_lost_workers_and_what_was_planned_are_those_of_the_files(lossy: Path) -> None:
    view, report = run_view(lossy, "a run"), json.loads((lossy / "report.json").read_text())
    assert view["losses"] == report["losses"] == {DyingWorker.reason: len(lost_jobs(lossy))}
    assert losses_of([], report) == report["losses"]
    again = [told("worker_lost", 1.0, worker=0, reason="a"), told("run", 2.0)]
    assert losses_of([*again, told("worker_lost", 3.0, worker=0, reason="a")], report) == {"a": 2}
    plan = json.loads((lossy / "plan.json").read_text())["events"]
    planned = [
        (each["job"]["task_id"], each["job"]["stage"], each["job"]["predicted_seconds"], each["job"]["max_seconds"])
        for each in plan
    ]
    rows = [row for row in view["stages"] if row["task"]]
    shown = [tuple(row[name] for name in ("task", "stage", "predicted", "most")) for row in rows]
    assert sorted(shown) == sorted(planned) and len(shown) > 6
    assert [row["lost"] for row in rows if row["lost"]] == lost_jobs(lossy) != []
    events = [json.loads(line) for line in (lossy / "events.jsonl").read_text().splitlines()]
    loads = [row for row in view["stages"] if row["stage"] == "load"]
    assert len(loads) == sum(event["event"] == "start" for event in events) == 1 + len(lost_jobs(lossy))


def test_trouble_is_told_and_a_run_without_events_has_its_stages(lossy: Path, tmp_path: Path) -> None:
    for path in lossy.iterdir():
        if path.name != "events.jsonl":
            (tmp_path / path.name).symlink_to(path)
    report = json.loads((lossy / "report.json").read_text()) | {"trouble": "no room on the disk"}
    (tmp_path / "report.json").unlink()
    (tmp_path / "report.json").write_text(json.dumps(report))
    view = run_view(tmp_path, "a run")
    assert view["trouble"] == "no room on the disk" and all(row["task"] for row in view["stages"])
    (tmp_path / "events.jsonl").write_bytes(line_of(told("joint", 0.0, minutes=1.0)) + b"torn {")
    assert [row["lost"] for row in run_view(tmp_path, "a run")["stages"] if not row["task"]] == [CUT_SHORT]
