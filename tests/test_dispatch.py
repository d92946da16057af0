"""The supervisor: whatever becomes of its workers, and of itself, the submission is valid and the report says why."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from processes import (
    N_VIEWS,
    Run,
    count_predictions,
    fake_config,
    read_report,
    running,
    score_by_hand,
    wait_until,
    write_site,
)

from arc_kaggle import dispatch
from arc_kaggle.budget import Deadline
from arc_kaggle.candidate import append_prediction, read_predictions
from arc_kaggle.child import ChildWorker, InProcessWorker
from arc_kaggle.config import SolveConfig, config_from_json
from arc_kaggle.dataset import load_tasks
from arc_kaggle.dispatch import SolveResult, solve
from arc_kaggle.errors import ConfigError, WorkerError
from arc_kaggle.submission import read_submission

KILL = "os.kill(os.getpid(), signal.SIGKILL)"
TIMED_OUT = "the worker did not answer in time"
DIED = "the worker died by signal 9; see worker.log"


class SetClock:
    """Shows what it is set to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def spoil(monkeypatch: pytest.MonkeyPatch, folder: Path, spoil: str = "pass", start: str = "pass") -> None:
    """Make the children of this process fail."""
    monkeypatch.setenv("PYTHONPATH", str(write_site(folder / "site", spoil, start)))


def assert_on_disk(config: SolveConfig) -> dict[str, Any]:
    """A valid submission and the report of all tasks are on disk, and agree on the score; gives the report."""
    tasks = load_tasks(config.tasks)
    read_submission(config.out / "submission.json", tasks)
    report = read_report(config.out)
    assert [row["task_id"] for row in report["reports"]] == [task.id for task in tasks]
    by_hand = score_by_hand(config.out / "submission.json", Path(config.tasks))
    assert report["scores"]["kaggle"]["mean"] == pytest.approx(by_hand)
    solved = [row["task_id"] for row in report["reports"] if row["verdict"] == "solved"]
    assert solved == [task.id for task in tasks if int(task.id[1:]) % 2 == 0]
    return report


def rows(report: dict[str, Any]) -> dict[str, tuple[int, str]]:
    """Task id -> how often it was started, and what came of it."""
    return {row["task_id"]: (row["tries"], row["verdict"]) for row in report["reports"]}


ALL_WELL = {
    "t00": (1, "solved"),
    "t01": (1, "right answer never produced"),
    "t02": (1, "solved"),
    "t03": (1, "1 of 2 solved; right answer never produced"),
    "t04": (1, "solved"),
    "t05": (1, "right answer never produced"),
}
SECOND_TRY = {task_id: (2, verdict) for task_id, (_, verdict) in ALL_WELL.items()}


@pytest.mark.parametrize("in_process", [False, True])
def test_a_whole_run(tmp_path: Path, in_process: bool) -> None:
    config = fake_config(tmp_path, in_process=in_process)
    result = solve(config)
    report = assert_on_disk(config)
    assert rows(report) == ALL_WELL
    assert report["scores"]["kaggle"]["mean"] == 4 / 7
    assert result.scores == report["scores"]
    assert [(row.tries, row.verdict) for row in result.reports] == list(ALL_WELL.values())
    assert count_predictions(config.out) == 7 * N_VIEWS
    answered = [row["run"]["reasons"] for row in report["reports"]]
    assert answered == [{"answered": N_VIEWS * n_queries} for n_queries in (1, 1, 1, 2, 1, 1)]
    assert all(row["run"]["peak_memory_mib"] > 1 for row in report["reports"])
    assert config_from_json(SolveConfig, json.loads((config.out / "config.json").read_text())) == config
    assert "t03" in result.text and " 57.1%" in result.text


def test_both_ways_to_run_a_worker_give_the_same_predictions(tmp_path: Path) -> None:
    def predictions(folder: Path, in_process: bool) -> dict[str, str]:
        config = fake_config(folder, in_process=in_process)
        solve(config)
        return {path.name: path.read_text() for path in (config.out / "predictions").iterdir()}

    assert predictions(tmp_path / "a", True) == predictions(tmp_path / "b", False)


def test_a_run_without_solutions_has_no_scores(tmp_path: Path) -> None:
    config = fake_config(tmp_path, 2, in_process=True)
    values = json.loads(Path(config.tasks).read_text())
    for value in values.values():
        del value["test"][0]["output"]
    Path(config.tasks).write_text(json.dumps(values))
    result = solve(config)
    assert [r.verdict for r in result.reports] == ["not scored"] * 2
    assert result.scores == {} and "no solutions known" in result.text


def test_the_submission_is_valid_before_the_first_worker_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []

    class Watching(InProcessWorker):
        def __init__(self, config: SolveConfig) -> None:
            found.append(read_submission(config.out / "submission.json", load_tasks(config.tasks)))
            super().__init__(config)

    monkeypatch.setattr(dispatch, "ChildWorker", Watching)
    solve(fake_config(tmp_path))
    assert [len(attempts) for attempts in found] == [6]


def test_solutions_are_never_shown_to_a_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = []

    class Listening(InProcessWorker):
        def send(self, job: dict[str, Any]) -> None:
            jobs.append(job)
            super().send(job)

    monkeypatch.setattr(dispatch, "ChildWorker", Listening)
    solve(fake_config(tmp_path))
    assert [sorted(job["tasks"]) for job in jobs] == [sorted(ALL_WELL)]
    assert all(pair.keys() == {"input"} for task in jobs[0]["tasks"].values() for pair in task["test"])


def test_results_are_not_overwritten_unasked(tmp_path: Path) -> None:
    config = fake_config(tmp_path, in_process=True)
    solve(config)
    before = {path: path.read_bytes() for path in config.out.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match=r"out: found the results of an earlier run; .* --overwrite"):
        solve(config)
    assert {path: path.read_bytes() for path in config.out.rglob("*") if path.is_file()} == before
    again = fake_config(tmp_path, 4, in_process=True, overwrite=True)
    solve(again)
    assert len(assert_on_disk(again)["reports"]) == 4
    assert len(list((again.out / "predictions").iterdir())) == 4


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    config = fake_config(tmp_path)
    config.out.write_text("a file")
    with pytest.raises(ConfigError, match="out: cannot be written to"):
        solve(config)


# The deadline ---------------------------------------------------------------------------------------------------------


def test_at_the_deadline_everything_that_is_there_is_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock jumps after two tasks, while the worker hangs in the third task's last view."""
    clock = SetClock()

    class Timed(ChildWorker):
        def receive(self, until: Deadline) -> dict[str, Any]:
            message = super().receive(until)
            if message["event"] == "task" and message["run"]["task_id"] == "t01":
                wait_until(lambda: count_predictions(config.out) == 3 * N_VIEWS - 1)
                clock.now = 596.0
            return message

    monkeypatch.setattr(dispatch, "ChildWorker", Timed)
    spoil(monkeypatch, tmp_path, f"prediction.task_id == 't02' and prediction.view == {N_VIEWS - 1} and time.sleep(99)")
    config = fake_config(tmp_path, time_limit_minutes=10)
    result = solve(config, clock)
    report = assert_on_disk(config)
    assert {task_id: verdict for task_id, (_, verdict) in rows(report).items()} == {
        "t00": "solved",
        "t01": "right answer never produced",
        "t02": "solved",  # by the views that came
        "t03": f"1 of 2 solved; {TIMED_OUT}; not reached",
        "t04": "solved",  # by its fallback
        "t05": f"{TIMED_OUT}; not reached",
    }
    assert [row["run"] is not None for row in report["reports"]] == [True, True, False, False, False, False]
    assert result.seconds == 596.0


def test_without_time_for_a_worker_none_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "ChildWorker", None)
    config = fake_config(tmp_path, time_limit_minutes=4.9 / 60)
    solve(config, SetClock())
    report = assert_on_disk(config)
    assert rows(report)["t01"] == (0, "not reached")
    assert report["scores"]["unanswered"]["mean"] == 1


def test_an_engine_out_of_time_leaves_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Hurried(InProcessWorker):
        def send(self, job: dict[str, Any]) -> None:
            super().send({**job, "seconds_left": 0.0})

    monkeypatch.setattr(dispatch, "ChildWorker", Hurried)
    config = fake_config(tmp_path)
    solve(config)
    report = assert_on_disk(config)
    assert rows(report)["t01"] == (1, f"no view gave a grid: deadline {N_VIEWS}")
    assert report["scores"]["unanswered_by_reason"] == {"deadline": 7 * N_VIEWS}


# Workers that fail ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (KILL, DIED),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "the worker died by signal 11; see worker.log"),
        ("os._exit(7)", "the worker died with exit code 7; see worker.log"),
        ("raise RuntimeError('boom')", "the worker died with exit code 1 (RuntimeError: boom); see worker.log"),
        ("raise arc_kaggle.errors.EngineError('no more')", "no more"),
    ],
)
def test_a_task_that_kills_its_worker_harms_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, said: str
) -> None:
    spoil(monkeypatch, tmp_path, f"\n        if prediction.task_id == 't01' and prediction.view == 2: {fault}")
    config = fake_config(tmp_path)
    solve(config)
    assert rows(assert_on_disk(config)) == {
        **SECOND_TRY,
        "t00": ALL_WELL["t00"],
        "t01": (2, f"{said}; right answer never produced"),
    }
    assert len(read_predictions(config.out / "predictions" / "t01.jsonl")) == 2


def test_what_a_lost_worker_left_is_in_the_submission_before_the_next_one_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []

    class Watching(ChildWorker):
        def __init__(self, config: SolveConfig) -> None:
            found.append(score_by_hand(config.out / "submission.json", Path(config.tasks)))
            super().__init__(config)

    monkeypatch.setattr(dispatch, "ChildWorker", Watching)
    right = "import dataclasses; prediction = dataclasses.replace(prediction, grid=arc_kaggle.grid.as_grid([[9]]))"
    killed = f"\n        if prediction.task_id == 't01' and prediction.view == 2: {KILL}"
    spoil(monkeypatch, tmp_path, f"\n        if prediction.task_id == 't01': {right}{killed}")
    solve(fake_config(tmp_path, 2))
    assert found == [1 / 2, 1.0]


def test_a_task_that_kills_its_worker_at_once_is_not_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, tmp_path, f"\n        if prediction.task_id == 't05': {KILL}")
    config = fake_config(tmp_path, max_tries=3)
    solve(config)
    assert rows(assert_on_disk(config)) == {**ALL_WELL, "t05": (3, f"{DIED}; not reached")}


def test_a_second_try_that_ends_well_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first worker dies in the middle of a line."""
    torn = "os.open(folder / f'{prediction.task_id}.jsonl', os.O_WRONLY | os.O_APPEND)"
    once = "prediction.view == 1 and prediction.task_id == 't02' and not once.exists()"
    spoil(monkeypatch, tmp_path, f"\n        if {once}: once.touch(); os.write({torn}, b'{{\"task_id'); {KILL}")
    config = fake_config(tmp_path)
    solve(config)
    assert rows(assert_on_disk(config)) == {**SECOND_TRY, "t00": ALL_WELL["t00"], "t01": ALL_WELL["t01"]}
    assert len(read_predictions(config.out / "predictions" / "t02.jsonl")) == N_VIEWS


def test_with_one_try_what_is_left_is_not_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, tmp_path, f"\n        if prediction.task_id == 't01': {KILL}")
    config = fake_config(tmp_path, max_tries=1)
    solve(config)
    assert rows(assert_on_disk(config))["t05"] == (1, f"{DIED}; not reached")


def test_a_silent_worker_is_killed_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, tmp_path, "prediction.task_id == 't01' and time.sleep(99)")
    config = fake_config(tmp_path, 2, time_limit_minutes=(dispatch.CLOSING_SECONDS + 1) / 60)
    started = time.monotonic()
    solve(config)
    assert time.monotonic() - started < dispatch.CLOSING_SECONDS
    assert rows(assert_on_disk(config)) == {"t00": (1, "solved"), "t01": (1, f"{TIMED_OUT}; not reached")}


def test_a_worker_silent_beyond_the_caps_of_its_task_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, tmp_path, "\n        if not once.exists(): once.touch(); time.sleep(99)")
    monkeypatch.setattr(dispatch, "GRACE_SECONDS", -2 * 1200 + 1.0)
    config = fake_config(tmp_path, 2)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(dispatch.Supervisor, "_requeue", requeue_with_grace(dispatch.Supervisor._requeue))
        solve(config)
    assert rows(assert_on_disk(config)) == {"t00": (2, "solved"), "t01": (2, "right answer never produced")}


def requeue_with_grace(requeue: Any) -> Any:
    def wrapped(supervisor: Any, tasks: Any, what: str) -> None:
        dispatch.GRACE_SECONDS = 60.0
        assert what == TIMED_OUT
        requeue(supervisor, tasks, what)

    return wrapped


@pytest.mark.parametrize("in_process", [False, True])
def test_a_model_that_cannot_be_loaded_ends_the_run(tmp_path: Path, in_process: bool) -> None:
    (tmp_path / "model").mkdir()
    config = fake_config(tmp_path, engine="hf", model=tmp_path / "model", in_process=in_process)
    with pytest.raises(WorkerError, match=r"^the worker could not start: model folder .*model: found no config\.json"):
        solve(config)
    assert rows(assert_on_disk(config))["t01"] == (0, "not reached")


def test_a_worker_that_always_dies_as_it_starts_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, tmp_path, start=KILL)
    config = fake_config(tmp_path)
    with pytest.raises(WorkerError, match=f"^the worker could not start: {DIED}$"):
        solve(config)
    assert rows(assert_on_disk(config))["t01"] == (0, "not reached")


def test_a_worker_that_does_not_get_ready_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, tmp_path, start="time.sleep(99)")
    monkeypatch.setattr(dispatch, "START_SECONDS", 0.2)
    config = fake_config(tmp_path)
    with pytest.raises(WorkerError, match=f"could not start: {TIMED_OUT}"):
        solve(config)
    assert_on_disk(config)


def test_a_worker_that_dies_once_as_it_starts_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, tmp_path, start=f"\n    if not once.exists(): once.touch(); {KILL}")
    config = fake_config(tmp_path)
    solve(config)
    assert rows(assert_on_disk(config)) == ALL_WELL


def test_what_an_interrupted_run_had_found_is_voted_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(folder: Path, prediction: Any) -> None:
        if prediction.task_id == "t01" and prediction.view == 2:
            raise KeyboardInterrupt
        append_prediction(folder, prediction)

    monkeypatch.setattr("arc_kaggle.worker.append_prediction", interrupted)
    config = fake_config(tmp_path, in_process=True)
    with pytest.raises(KeyboardInterrupt):
        solve(config)
    assert rows(assert_on_disk(config)) == {
        "t00": (1, "solved"),
        "t01": (1, "right answer never produced"),
        "t02": (1, "solved"),  # by its fallback
        "t03": (1, "1 of 2 solved; not reached"),
        "t04": (1, "solved"),
        "t05": (1, "not reached"),
    }


# Killed for real ------------------------------------------------------------------------------------------------------

SLOWLY = "time.sleep(0.01)"
FAKE = ("--engine", "fake")


def tiny_model(folder: Path) -> tuple[str, ...]:
    """Options for a model with random weights that is tuned a little on every task."""
    from arc_kaggle.model import new_model, save_model

    save_model(new_model(64, 2, 0), folder, "box", {})
    return ("--model", str(folder), "--tune.steps", "2", "--tune.batch-size", "2", "--precision", "fp32")


def kill_worker(folder: Path, n_predictions: int, *options: str, n_tasks: int = 8) -> list[int]:
    """Kill the worker of a run after so many predictions; gives how often each task was started."""
    with running(folder, *options, n_tasks=n_tasks, spoil=SLOWLY) as run:
        child = run.child()
        wait_until(lambda: count_predictions(run.out) >= n_predictions)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        assert run.wait() == 0, run.output
        assert run.n_reads > 0
        report = read_report(run.out)
    assert all(row["run"] is not None for row in report["reports"])
    assert all("died" not in row["verdict"] for row in report["reports"])
    assert report["scores"]["kaggle"]["mean"] == pytest.approx(
        score_by_hand(run.out / "submission.json", run.tasks_path)
    )
    return [row["tries"] for row in report["reports"]]


def kill_supervisor(folder: Path, n_predictions: int, *options: str, n_tasks: int = 8) -> Run:
    """Kill a run itself after so many predictions, and see to it that its worker ends too."""
    with running(folder, *options, n_tasks=n_tasks, spoil=SLOWLY) as run:
        child = run.child()
        wait_until(lambda: count_predictions(run.out) >= n_predictions)
        run.process.kill()
        killed = time.monotonic()
        wait_until(lambda: not run.is_alive(child), seconds=10)
        assert time.monotonic() - killed < 2
        assert run.n_reads > 0 and read_submission(run.out / "submission.json", run.tasks)
    return run


def moments(seed: int) -> list[int]:
    """Random numbers of predictions out of 40, among them none, which is before the worker is ready."""
    rng = random.Random(seed)
    return [0, *(rng.randrange(1, 36) for _ in range(10))]


def test_killed_workers_are_replaced(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(kill_worker, tmp_path / f"{i}", n, *FAKE) for i, n in enumerate(moments(0))]
        tries = [job.result() for job in jobs]
    assert tries[0] == [1] * 8
    assert sum(max(listed) == 2 for listed in tries[1:]) >= 8
    assert all(set(listed) <= {1, 2} for listed in tries)


def test_a_killed_supervisor_leaves_a_valid_submission_and_no_worker(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(kill_supervisor, tmp_path / f"{i}", n, *FAKE) for i, n in enumerate(moments(1))]
        runs = [job.result() for job in jobs]
    assert not any((run.out / "report.json").exists() for run in runs)


BUSY = "time.sleep(99)"
LOADING = "import arc_kaggle.engines.fake as fake; fake.SymbolTokenizer.__init__ = lambda self: time.sleep(99)"


@pytest.mark.parametrize("fault", [{"spoil": BUSY}, {"start": LOADING}], ids=["busy", "loading"])
def test_a_worker_does_not_outlive_its_supervisor_whatever_it_is_doing(tmp_path: Path, fault: dict[str, str]) -> None:
    with running(tmp_path, *FAKE, **fault) as run:
        child = run.child()
        time.sleep(1.0)
        assert run.is_alive(child) and count_predictions(run.out) == 0
        run.process.kill()
        killed = time.monotonic()
        wait_until(lambda: not run.is_alive(child), seconds=10)
        assert time.monotonic() - killed < 2


def test_a_killed_worker_with_a_real_model_is_replaced(tmp_path: Path) -> None:
    tries = kill_worker(tmp_path / "run", N_VIEWS + 1, *tiny_model(tmp_path / "model"), n_tasks=3)
    assert sorted(tries) == [1, 1, 2]


@pytest.mark.parametrize("n_predictions", [0, N_VIEWS + 1])
def test_a_killed_supervisor_takes_a_real_model_with_it(tmp_path: Path, n_predictions: int) -> None:
    run = kill_supervisor(tmp_path / "run", n_predictions, *tiny_model(tmp_path / "model"), n_tasks=3)
    assert count_predictions(run.out) < 3 * N_VIEWS


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_so_and_leaves_everything_on_disk(how: signal.Signals, tmp_path: Path) -> None:
    with running(tmp_path, *FAKE, n_tasks=8, spoil=SLOWLY) as run:
        child = run.child()
        wait_until(lambda: count_predictions(run.out) >= 10)
        run.process.send_signal(how)
        assert run.wait() == 130
        assert run.output == "arc-kaggle: interrupted; what was finished until now is on disk\n"
        assert not run.is_alive(child)
    report = read_report(run.out)
    assert report["scores"]["kaggle"]["mean"] == pytest.approx(
        score_by_hand(run.out / "submission.json", run.tasks_path)
    )
    done = [row["run"] is not None for row in report["reports"]]
    assert 1 <= sum(done) < 8


def test_the_result_is_told_in_one_text() -> None:
    assert SolveResult((), {}, 0.0).text.splitlines()[-1] == "no solutions known: nothing to score"
