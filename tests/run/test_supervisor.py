"""The supervisor: whatever becomes of its workers, and of itself, the submission is valid and the report says why."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from in_process import InProcessWorker, solve_here
from processes import (
    DONE,
    N_VIEWS,
    Run,
    count_predictions,
    fake_config,
    read_report,
    running,
    score_by_hand,
    tiny_model,
    wait_until,
    write_site,
)

from arc_kaggle.answering.submission import read_submission
from arc_kaggle.config.answer import GenerateConfig
from arc_kaggle.config.json import config_from_json
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.errors import ConfigError, WorkerError
from arc_kaggle.run import pool
from arc_kaggle.run import supervisor as dispatch
from arc_kaggle.run.launch import start
from arc_kaggle.run.messages import Order, PredictionFound
from arc_kaggle.run.report import SolveResult
from arc_kaggle.run.solve import solve
from arc_kaggle.run.supervisor import Supervisor
from arc_kaggle.tasks.dataset import load_tasks

KILL = "os.kill(os.getpid(), signal.SIGKILL)"
STOP = "os.kill(os.getpid(), signal.SIGSTOP)"
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
    for row in report["reports"]:
        if row["run"] and "answered" in row["run"]["reasons"]:  # else it is the fallback that is right or wrong
            assert (row["verdict"] == "solved") == (int(row["task_id"][1:]) % 2 == 0)
    return report


def rows(report: dict[str, Any]) -> dict[str, tuple[int, str]]:
    """Task id -> how often its stages were tried, at most, and what came of it."""
    return {row["task_id"]: (row["tries"], row["verdict"]) for row in report["reports"]}


def reached(report: dict[str, Any]) -> dict[str, tuple[int, str]]:
    """The rows of tasks that were begun."""
    return {task_id: row for task_id, row in rows(report).items() if row[0]}


def stages(report: dict[str, Any], task_id: str) -> list[tuple[str, int, str]]:
    """(stage, level, why it was lost) of the jobs of a task."""
    (row,) = [row for row in report["reports"] if row["task_id"] == task_id]
    return [(stage["job"]["stage"], stage["job"]["level"], stage["lost"]) for stage in row["stages"]]


ALL_WELL = {
    "t00": (1, "solved"),
    "t01": (1, "right answer never produced"),
    "t02": (1, "solved"),
    "t03": (1, "1 of 2 solved; right answer never produced"),
    "t04": (1, "solved"),
    "t05": (1, "right answer never produced"),
}


def first_tasks(n: int) -> dict[str, tuple[int, str]]:
    return dict(list(ALL_WELL.items())[:n])


@pytest.mark.parametrize("in_process", [False, True])
def test_a_whole_run(tmp_path: Path, in_process: bool) -> None:
    config = fake_config(tmp_path, workers=1)
    result = (solve_here if in_process else solve)(config)
    report = assert_on_disk(config)
    assert rows(report) == ALL_WELL
    assert report["scores"]["kaggle"]["mean"] == 4 / 7
    assert result.scores == report["scores"]
    assert [(row.tries, row.verdict) for row in result.reports] == list(ALL_WELL.values())
    assert count_predictions(config.out) == 7 * N_VIEWS
    answered = [row["run"]["reasons"] for row in report["reports"]]
    assert answered == [{"answered": N_VIEWS * n_queries} for n_queries in (1, 1, 1, 2, 1, 1)]
    assert all(row["run"]["peak_memory_mib"] > 1 for row in report["reports"])
    assert all(stages(report, task_id) == [("quick", 0, ""), ("answer", 0, "")] for task_id in ALL_WELL)
    assert config_from_json(SolveConfig, json.loads((config.out / "config.json").read_text())) == config
    assert "t03" in result.text and " 57.1%" in result.text


def test_both_ways_to_run_a_worker_give_the_same_predictions(tmp_path: Path) -> None:
    def predictions(folder: Path, in_process: bool) -> dict[str, str]:
        config = fake_config(folder)
        (solve_here if in_process else solve)(config)
        return {path.name: path.read_text() for path in (config.out / "predictions").iterdir()}

    assert predictions(tmp_path / "a", True) == predictions(tmp_path / "b", False)


def test_a_run_without_solutions_has_no_scores(tmp_path: Path) -> None:
    config = fake_config(tmp_path, 2)
    values = json.loads(Path(config.tasks).read_text())
    for value in values.values():
        del value["test"][0]["output"]
    Path(config.tasks).write_text(json.dumps(values))
    result = solve_here(config)
    assert [r.verdict for r in result.reports] == ["not scored"] * 2
    assert result.scores == {} and "no solutions known" in result.text


def test_the_submission_is_valid_before_the_first_worker_starts(tmp_path: Path) -> None:
    found = []

    class Watching(InProcessWorker):
        def __init__(self, number: int, inbox: Any, setup: Any) -> None:
            found.append(read_submission(config.out / "submission.json", load_tasks(config.tasks)))
            super().__init__(number, inbox, setup)

    config = fake_config(tmp_path)
    solve_here(config, start=Watching)
    assert [len(attempts) for attempts in found] == [6]


def test_solutions_are_never_shown_to_a_worker(tmp_path: Path) -> None:
    orders = []

    class Listening(InProcessWorker):
        def send(self, order: Order) -> None:
            orders.append(order)
            super().send(order)

    solve_here(fake_config(tmp_path), start=Listening)
    assert {order.job.task_id for order in orders} == set(ALL_WELL)
    assert all(pair.keys() == {"input"} for order in orders for pair in order.to_json()["task"]["test"])


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    config = fake_config(tmp_path)
    config.out.write_text("a file")
    with pytest.raises(ConfigError, match="out: cannot be written to"):
        solve(config)


def test_a_run_can_be_watched(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Without a terminal by a line a task; by machines through events and a status."""
    config = fake_config(tmp_path)
    solve(config)
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 6 and lines[-1].startswith("6/6 t") and ": 100% of 4 views agree, " in lines[-1]
    events = [json.loads(line) for line in (config.out / "events.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events[:3]] == ["run", "start", "ready"] and events[-1]["event"] == "end"
    assert [event["event"] for event in events].count("done") == 12
    status = json.loads((config.out / "status.json").read_text())
    assert (status["answered"], status["stages_done"], status["stages_lost"], status["trouble"]) == (6, 12, 0, "")
    assert [worker["number"] for worker in status["workers"]] == [0]


# The deadline ---------------------------------------------------------------------------------------------------------


def test_at_the_deadline_everything_that_is_there_is_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock jumps to where workers are killed while the worker hangs in the second view of the third task."""
    clock = SetClock()
    take_in = Supervisor._take_in

    def timed(self: Supervisor, slot: Any, message: Any) -> None:
        take_in(self, slot, message)
        if isinstance(message, PredictionFound) and message.value.task_id == "t02":
            clock.now = 598.0

    monkeypatch.setattr(Supervisor, "_take_in", timed)
    spoil(monkeypatch, tmp_path, "prediction.task_id == 't02' and prediction.view == 1 and time.sleep(99)")
    config = fake_config(tmp_path, time_limit_minutes=10)
    result = solve(config, clock)
    report = assert_on_disk(config)
    assert reached(report) == {**first_tasks(2), "t02": (1, "solved")}  # by the view that came
    assert rows(report)["t05"] == (0, "not reached")
    assert [row["run"] is not None for row in report["reports"]] == [True, True, False, False, False, False]
    assert result.seconds == 598.0


def test_the_time_of_a_notebook_counts_from_its_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARC_KAGGLE_STARTED", str(time.time() - 3600 + 4.9))
    config = fake_config(tmp_path, time_limit_minutes=60)
    solve(config)
    assert reached(assert_on_disk(config)) == {}
    late = solve(fake_config(tmp_path / "late", time_limit_minutes=59)).text
    assert "found 59, over before this call: the notebook's kernel started 60 minutes ago." in late


def test_without_time_for_a_worker_none_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "ChildWorker", None)
    config = fake_config(tmp_path, time_limit_minutes=4.9 / 60)
    solve(config, SetClock())
    report = assert_on_disk(config)
    assert rows(report)["t01"] == (0, "not reached")
    assert report["scores"]["unanswered"]["mean"] == 1


def test_an_engine_out_of_time_leaves_its_reason(tmp_path: Path) -> None:
    class Hurried(InProcessWorker):
        def send(self, order: Order) -> None:
            super().send(replace(order, seconds_left=0.0))

    config = fake_config(tmp_path)
    solve_here(config, start=Hurried)
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
        ("raise ValueError('boom')", "the worker died with exit code 1 (ValueError: boom); see worker.log"),
        ("raise arc_kaggle.errors.EngineError('no more')", "no more"),
        ("raise RuntimeError('CUDA out of memory. Tried to allocate')", "out of memory"),
        ("raise MemoryError", "out of memory"),
    ],
)
def test_a_stage_that_fails_harms_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, said: str
) -> None:
    """It is tried again, gentler each time, and after some times the task keeps what it has."""
    spoil(monkeypatch, tmp_path, f"\n            if prediction.task_id == 't01' and prediction.view == 3: {fault}")
    config = fake_config(tmp_path, max_tries=2)
    solve(config)
    report = assert_on_disk(config)
    assert rows(report) == {**ALL_WELL, "t01": (2, f"{said}; right answer never produced")}
    assert stages(report, "t01") == [("quick", 0, ""), ("answer", 0, said), ("answer", 1, said)]
    n_starts = (config.out / "events.jsonl").read_text().count('"start"')
    assert n_starts == 1 if said in ("no more", "out of memory") else n_starts > 1  # a worker that can lives on


def test_the_third_try_of_a_task_asks_for_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of its views, and no more than that."""
    spoil(monkeypatch, tmp_path, f"\n            if prediction.task_id == 't01' and prediction.view == 3: {KILL}")
    config = fake_config(tmp_path)
    solve(config)
    report = assert_on_disk(config)
    assert [s[:2] for s in stages(report, "t01")] == [("quick", 0), ("answer", 0), ("answer", 1), ("answer", 2)]
    assert rows(report)["t01"] == (3, "right answer never produced")


def test_what_a_lost_worker_left_is_in_the_submission_before_the_next_one_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    begin = start.ChildWorker

    def watching(*arguments: Any) -> Any:
        found.append(score_by_hand(config.out / "submission.json", Path(config.tasks)))
        return begin(*arguments)

    monkeypatch.setattr(start, "ChildWorker", watching)
    nine = "arc_kaggle.tasks.augmentation.Augmentation.invert = lambda self, grid: arc_kaggle.tasks.grid.as_grid([[9]])"
    code = f"\n            if prediction.task_id == 't01' and event == 'begin': {nine}"
    spoil(monkeypatch, tmp_path, f"{code}\n            if prediction.task_id == 't01' and prediction.view == 1: {KILL}")
    config = fake_config(tmp_path, 2)
    solve(config)
    assert found[:2] == [1 / 2, 1.0]


def test_a_task_that_kills_its_worker_at_once_is_not_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, tmp_path, f"\n            if prediction.task_id == 't05': {KILL}")
    config = fake_config(tmp_path, max_tries=2)
    solve(config)
    assert reached(assert_on_disk(config)) == {**ALL_WELL, "t05": (2, f"{DIED}; not reached")}


def test_a_second_try_that_ends_well_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first worker dies in the middle of a message."""
    once = "prediction.view == 1 and prediction.task_id == 't02' and not once.exists()"
    torn = 'os.write(1, b\'{"event": "predic\')'
    spoil(monkeypatch, tmp_path, f"\n            if {once}: once.touch(); {torn}; {KILL}")
    config = fake_config(tmp_path)
    solve(config)
    assert rows(assert_on_disk(config)) == {**ALL_WELL, "t02": (2, "solved")}
    assert count_predictions(config.out) == 7 * N_VIEWS + 1  # view 0 came twice


@pytest.mark.parametrize("fault", ["time.sleep(99)", STOP])
def test_a_silent_worker_is_killed_at_the_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    spoil(monkeypatch, tmp_path, f"prediction.task_id == 't01' and {fault}")
    config = fake_config(tmp_path, 2, time_limit_minutes=(dispatch.CLOSING_SECONDS + 3) / 60)
    started = time.monotonic()
    solve(config)
    assert time.monotonic() - started < dispatch.CLOSING_SECONDS + 3
    tries, verdict = rows(assert_on_disk(config))["t01"]
    # two clocks run out at that moment, the worker's and the run's; whichever is read first gives the reason
    assert (tries, verdict.partition("; ")[2]) == (1, "not reached")
    assert verdict.partition("; ")[0] in ("cut short in quick", "the worker did not answer in time")


@pytest.mark.parametrize("fault", ["time.sleep(99)", STOP])
def test_a_worker_silent_beyond_the_cap_of_its_stage_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    spoil(monkeypatch, tmp_path, f"\n            if not once.exists(): once.touch(); {fault}")
    config = fake_config(tmp_path, 2, grace_seconds=0, generate=GenerateConfig(n_views=N_VIEWS, max_seconds=1.5))
    solve(config)
    report = assert_on_disk(config)
    assert stages(report, "t00")[:2] == [("quick", 0, pool.SILENT), ("quick", 1, "")]
    assert rows(report) == {"t00": (2, "solved"), "t01": (1, "right answer never produced")}


def test_a_worker_that_takes_too_much_memory_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the supervisor, before the kernel chooses among all processes."""
    takes = "kept = b'x' * 2**29; time.sleep(99)"
    spoil(monkeypatch, tmp_path, f"\n            if not once.exists(): once.touch(); {takes}")
    config = fake_config(tmp_path, 2, memory_gb=0.4)
    solve(config)
    report = assert_on_disk(config)
    assert stages(report, "t00")[:2] == [("quick", 0, "over the ceiling of 381 MiB of memory"), ("quick", 1, "")]


@pytest.mark.parametrize("in_process", [False, True])
def test_a_model_that_cannot_be_loaded_ends_the_run(tmp_path: Path, in_process: bool) -> None:
    (tmp_path / "model").mkdir()
    config = fake_config(tmp_path, engine="hf", model=tmp_path / "model")
    with pytest.raises(WorkerError, match=r"^the worker could not start: model folder .*model: found no config\.json"):
        (solve_here if in_process else solve)(config)
    assert rows(assert_on_disk(config))["t01"] == (0, "not reached")


def test_a_worker_that_always_dies_as_it_starts_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, tmp_path, start=KILL)
    config = fake_config(tmp_path, max_tries=2)
    with pytest.raises(WorkerError, match=f"^the worker could not start: {DIED}$"):
        solve(config)
    assert rows(assert_on_disk(config))["t01"] == (0, "not reached")


def test_a_worker_that_does_not_get_ready_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, tmp_path, start="time.sleep(99)")
    monkeypatch.setattr(pool, "START_SECONDS", 0.2)
    config = fake_config(tmp_path, max_tries=2)
    with pytest.raises(WorkerError, match=f"could not start: {pool.SILENT}"):
        solve(config)
    assert_on_disk(config)


def test_a_worker_that_dies_once_as_it_starts_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, tmp_path, start=f"\n    if not once.exists(): once.touch(); {KILL}")
    config = fake_config(tmp_path)
    solve(config)
    assert rows(assert_on_disk(config)) == ALL_WELL


def test_what_an_interrupted_run_had_found_is_voted_on(tmp_path: Path) -> None:
    class Interrupted(InProcessWorker):
        def send(self, order: Order) -> None:
            super().send(order)
            if order.job.task_id == "t01":
                raise KeyboardInterrupt

    config = fake_config(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        solve_here(config, start=Interrupted)
    assert reached(assert_on_disk(config)) == {
        "t00": (1, "solved"),
        "t01": (1, "cut short in quick; right answer never produced"),
    }


# Killed for real ------------------------------------------------------------------------------------------------------

SLOWLY = "time.sleep(0.01)"
FAKE = ("--engine", "fake")


def kill_worker(folder: Path, n_predictions: int, *options: str, n_tasks: int = 8) -> list[int]:
    """Kill the worker of a run after so many predictions; gives how often each task was started."""
    with running(folder, *options, n_tasks=n_tasks, spoil=SLOWLY) as run:
        child = run.child()
        wait_until(lambda: count_predictions(run.out) >= n_predictions)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        assert run.wait() in DONE, run.output
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
    return [0, *(rng.randrange(1, 36) for _ in range(4))]


def test_killed_workers_are_replaced(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(kill_worker, tmp_path / f"{i}", n, *FAKE) for i, n in enumerate(moments(0))]
        tries = [job.result() for job in jobs]
    assert tries[0] == [1] * 8
    assert any(max(listed) == 2 for listed in tries[1:])
    assert all(set(listed) <= {1, 2} for listed in tries)


def test_a_killed_supervisor_leaves_a_valid_submission_and_no_worker(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(kill_supervisor, tmp_path / f"{i}", n, *FAKE) for i, n in enumerate(moments(1))]
        runs = [job.result() for job in jobs]
    assert not any((run.out / "report.json").exists() for run in runs)


BUSY = "once.touch(); time.sleep(99)"
HANG = "lambda *_: (once.touch(), time.sleep(99))"
LOADING = f"import arc_kaggle.engines.fake; arc_kaggle.engines.fake.EchoEngine.__init__ = {HANG}"


@pytest.mark.parametrize("fault", [{"spoil": BUSY}, {"start": LOADING}], ids=["busy", "loading"])
def test_a_worker_does_not_outlive_its_supervisor_whatever_it_is_doing(tmp_path: Path, fault: dict[str, str]) -> None:
    with running(tmp_path, *FAKE, **fault) as run:
        child = run.child()
        wait_until((run.site / "once").exists)
        assert run.is_alive(child) and count_predictions(run.out) == 0
        run.process.kill()
        killed = time.monotonic()
        wait_until(lambda: not run.is_alive(child), seconds=10)
        assert time.monotonic() - killed < 2


def test_a_killed_worker_with_a_real_model_is_replaced(tmp_path: Path) -> None:
    tries = kill_worker(tmp_path / "run", N_VIEWS + 1, *tiny_model(tmp_path / "model"), n_tasks=3)
    assert sorted(tries) == [1, 1, 2]


def test_a_killed_supervisor_takes_a_real_model_with_it(tmp_path: Path) -> None:
    run = kill_supervisor(tmp_path / "run", N_VIEWS + 1, *tiny_model(tmp_path / "model"), n_tasks=3)
    assert count_predictions(run.out) < 3 * N_VIEWS


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_so_and_leaves_everything_on_disk(how: signal.Signals, tmp_path: Path) -> None:
    with running(tmp_path, *FAKE, n_tasks=8, spoil=SLOWLY) as run:
        child = run.child()
        wait_until(lambda: count_predictions(run.out) >= 10)
        run.process.send_signal(how)
        assert run.wait() == 130
        assert run.output.endswith("arc-kaggle: interrupted; what was finished until now is on disk\n")
        assert not run.is_alive(child)
    report = read_report(run.out)
    assert report["scores"]["kaggle"]["mean"] == pytest.approx(
        score_by_hand(run.out / "submission.json", run.tasks_path)
    )
    done = [len(row["stages"]) for row in report["reports"]]
    assert 1 <= sum(done) < 16


def test_the_result_is_told_in_one_text() -> None:
    assert SolveResult((), {}, 0.0).text.splitlines()[-1] == "no solutions known: nothing to score"
