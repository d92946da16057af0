"""What a run promises: it goes on while there is time, ends on time, and says of its results what they are."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from in_process import InProcessWorker, solve_here
from processes import fake_config, read_report, task_values, write_tasks
from scripted import ScriptedWorker

from arc_kaggle.answering import submission as submission_module
from arc_kaggle.answering.submission import read_submission
from arc_kaggle.cli import main
from arc_kaggle.commands import solve as command
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.errors import ConfigError, WorkerError
from arc_kaggle.run.journal import Journal
from arc_kaggle.run.messages import Gone, Order, Ready
from arc_kaggle.run.planning.jobs import Job, Outcome, TaskSize
from arc_kaggle.run.planning.plan_config import PlanConfig
from arc_kaggle.run.planning.planner import Planner
from arc_kaggle.run.report import SolveResult
from arc_kaggle.run.solve import solve
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.system.files import line_of
from arc_kaggle.tasks.dataset import load_tasks


def events(config: SolveConfig, name: str) -> list[dict[str, Any]]:
    lines = (config.out / "events.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == name]


# A run goes on while there is time ------------------------------------------------------------------------------------


class OneDies(ScriptedWorker):
    """Of two workers the first dies in its third job, while the second is still loading."""

    n_jobs = 0
    second: list[OneDies]

    def __init__(self, number: int, inbox: Any, setup: Any) -> None:
        if number == 0:
            super().__init__(number, inbox, setup)
            return
        self.number, self.inbox, self.found = number, inbox, []
        self.second.append(self)

    def send(self, order: Order) -> None:
        self.n_jobs += 1
        if self.number == 0 and self.n_jobs == 3:
            self.inbox.put((self, Gone("killed")))
            threading.Timer(0.3, lambda: self.inbox.put((self.second[0], Ready(0.5)))).start()
        else:
            super().send(order)


def test_a_run_waits_for_the_worker_that_is_loading_when_the_only_other_one_dies(tmp_path: Path) -> None:
    config = fake_config(tmp_path, 6, workers=2)
    result = solve(config, start=type("OneDies", (OneDies,), {"second": []}))
    assert [report.verdict == "not reached" for report in result.reports] == [False] * 6
    assert all(report.run is not None for report in result.reports)


class Machine:
    """One worker on which jobs take what they are predicted to, times a factor that the planner does not know."""

    def __init__(self, n_tasks: int, seconds: float, factors: dict[str, float], config: PlanConfig) -> None:
        self.now, self.factors, self.jobs = 0.0, factors, list[Job]()
        sizes = [TaskSize(f"t{i}", 400, 60) for i in range(n_tasks)]
        self.planner = Planner(sizes, config, 1, Deadline(seconds, lambda: self.now))
        self.unit = {stage: self.planner.costs.config.line(stage) for stage in factors}  # type: ignore[arg-type]

    def run(self) -> list[Job]:
        while job := self.planner.next_job(0):
            size, line = self.planner.states[job.task_id].size, self.unit[job.stage]
            tokens = self.planner.costs.config.tokens(job.stage, size, job.views[1] - job.views[0])
            whole = self.factors[job.stage] * (line.fixed_seconds + line.seconds_per_ktoken * tokens / 1000)
            seconds = min(whole, job.max_seconds)
            self.now += seconds
            self.jobs.append(job)
            self.planner.done(0, job, Outcome(seconds, 0.5, 0.5))
        return self.jobs


def test_fine_tuning_that_takes_ten_times_as_long_leaves_time_for_its_answers() -> None:
    factors = {"quick": 5.0, "tune": 50.0, "answer": 5.0, "score": 5.0}
    machine = Machine(2, 235.0, factors, PlanConfig(most_views=8, score_views=0))
    jobs = machine.run()
    assert {job.task_id for job in jobs if job.stage == "tune"} == {
        job.task_id for job in jobs if job.stage == "answer"
    }
    assert [job.stage for job in jobs].count("tune") >= 1
    for tune in (job for job in jobs if job.stage == "tune"):
        after = [job.stage for job in jobs[jobs.index(tune) + 1 :] if job.task_id == tune.task_id]
        assert after[:1] == ["answer"]


def test_fine_tuning_is_cut_to_what_fits_and_not_skipped() -> None:
    """What was measured says that fine-tuning takes 200 s, and 108 are left."""
    clock = [0.0]
    sizes = [TaskSize(f"t{i}", 400, 60) for i in range(2)]
    planner = Planner(sizes, PlanConfig(most_views=8, score_views=0), 1, Deadline(400, lambda: clock[0]))
    for _ in sizes:
        quick = planner.next_job(0)
        assert quick is not None and quick.stage == "quick"
        planner.done(0, quick, Outcome(1.0, 0.5, 0.5))
    tune = planner.next_job(0)
    assert tune is not None and tune.stage == "tune"
    planner.done(0, tune, Outcome(200.0))
    answer = planner.next_job(0)
    assert answer is not None and answer.stage == "answer"
    clock[0] = 292.0
    planner.done(0, answer, Outcome(4.0, 0.5, 0.5))
    cut = planner.next_job(0)
    assert cut is not None and (cut.task_id != tune.task_id, cut.stage) == (True, "tune")
    assert 50 < cut.max_seconds < 108
    planner.done(0, cut, Outcome(cut.max_seconds))
    last = planner.next_job(0)
    assert last is not None and (last.task_id, last.stage) == (cut.task_id, "answer")


def test_an_estimate_that_was_too_high_is_tried_again() -> None:
    """Fine-tuning seems not to fit, so untuned answers come first; the time that is left is then used for it."""
    clock = [0.0]
    planner = Planner(
        [TaskSize("t", 400, 60)], PlanConfig(most_views=8, score_views=0), 1, Deadline(60, lambda: clock[0])
    )
    planner.costs.learn("tune", TaskSize("other", 400, 60), 0, 1000.0)
    stages = []
    while job := planner.next_job(0):
        stages.append(job.stage)
        clock[0] += min(2.0, job.max_seconds)
        planner.done(0, job, Outcome(min(2.0, job.max_seconds), 0.3, 0.1))
    assert stages[:2] == ["quick", "answer"] and "tune" in stages and stages[-1] == "answer"
    assert planner.summary()[0].ended == "every stage is done"


def test_costs_before_the_first_measurement_are_those_of_this_machine() -> None:
    size, left = TaskSize("t", 400, 60), Deadline.never()
    slow, fast = (Planner([size], PlanConfig(), 1, left) for _ in range(2))
    slow.probed(6.0)
    fast.probed(0.006)
    for stage in ("quick", "tune", "answer", "score"):
        assert slow.costs.mean(stage, size, 2) == pytest.approx(1000 * fast.costs.mean(stage, size, 2))  # type: ignore[arg-type]
    before = slow.costs.mean("tune", size)
    slow.costs.learn("quick", size, 2, slow.costs.mean("quick", size, 2) / 10)  # what jobs took counts more
    assert slow.costs.mean("tune", size) == pytest.approx(before / 10, rel=0.1)
    slow.probed(60.0)
    assert slow.costs.mean("tune", size) == pytest.approx(before / 10, rel=0.1)


def test_a_worker_tells_how_fast_its_model_is_and_the_plan_goes_by_it(tmp_path: Path) -> None:
    class Slow(ScriptedWorker):
        def __init__(self, number: int, inbox: Any, setup: Any) -> None:
            self.number, self.inbox, self.found = number, inbox, []
            inbox.put((self, Ready(0.0, self.ktoken_seconds)))

        ktoken_seconds = 0.0

    predicted = []
    for ktoken_seconds in (0.06, 0.6):
        config = fake_config(tmp_path / str(ktoken_seconds), 1)
        solve_here(config, start=type("Probed", (Slow,), {"ktoken_seconds": ktoken_seconds}))
        predicted.append(events(config, "stage")[0]["predicted_seconds"])
    assert predicted[1] == pytest.approx(10 * predicted[0])


# Results say what they are --------------------------------------------------------------------------------------------


def test_a_worker_that_dies_the_same_way_again_and_again_is_said_in_the_end(tmp_path: Path) -> None:
    class Dies(ScriptedWorker):
        def send(self, order: Order) -> None:
            self.inbox.put((self, Gone("the worker died by signal 11; see worker.log")))

    result = solve_here(fake_config(tmp_path, 2, max_tries=2), start=Dies)
    assert "workers lost: 4, each time: the worker died by signal 11; see worker.log" in result.text
    assert "the model answered no task at all" in result.text
    assert read_report(tmp_path / "out")["losses"] == {"the worker died by signal 11; see worker.log": 4}


FLIP = [[1, 2], [3, 4]]


def test_who_solved_an_output_is_said_and_the_model_s_own_score_comes_first(tmp_path: Path) -> None:
    """The echo engine is right about the even ones; the rule, mirroring, about the odd one."""
    config = fake_config(tmp_path, 2)
    values = task_values(2)
    mirrored = [{"input": [[a, b]], "output": [[b, a]]} for a, b in ((1, 2), (3, 4), (5, 6))]
    values["t01"] = {"train": mirrored[:2], "test": mirrored[2:]}
    Path(config.tasks).write_text(json.dumps(values))
    result = solve_here(config)
    report = read_report(config.out)
    assert [row["solved_by"] for row in report["reports"]] == [["model"], ["rule"]]
    assert [row["verdict"] for row in report["reports"]] == ["solved", "solved by a rule, not by the model"]
    assert list(report["scores"])[:2] == ["model", "kaggle"]
    assert (report["scores"]["model"]["mean"], report["scores"]["kaggle"]["mean"]) == (0.5, 1.0)
    lines = result.text.splitlines()
    assert next(line for line in lines if "%" in line).startswith("model             50.0%")


def strictly(text: str) -> Any:
    def refuse(name: str) -> None:
        raise AssertionError(f"found {name}")

    return json.loads(text, parse_constant=refuse)


def test_every_file_that_a_run_writes_is_strict_json(tmp_path: Path) -> None:
    """Tuning and lost jobs know nothing of agreement, which is NaN in memory."""
    config = fake_config(tmp_path, 3, recipe="lora")
    failures = iter([False, True])

    class Failing(ScriptedWorker):
        failures: Iterator[bool] = (next(failures, False) for _ in range(10**6))

    solve_here(config, start=Failing)
    files = [path for path in config.out.rglob("*.json*") if path.is_file()]
    assert {"report.json", "plan.json", "status.json", "events.jsonl", "stages.jsonl"} <= {path.name for path in files}
    for path in files:
        for text in path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]:
            strictly(text)


def test_a_run_in_which_the_model_answered_nothing_is_no_quiet_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Dies(ScriptedWorker):
        def send(self, order: Order) -> None:
            self.inbox.put((self, Gone("killed")))

    words = ["solve", "--tasks", str(write_tasks(tmp_path, 2)), "--engine", "fake", "--recipe", "none"]
    for start, code in ((Dies, 3), (InProcessWorker, 0)):
        monkeypatch.setattr(command, "solve", lambda config, start=start: solve_here(config, start=start))
        assert main([*words, "--out", str(tmp_path / str(code))]) == code
    assert "the model answered no task at all" in capsys.readouterr().out


def test_a_run_over_no_task_is_no_failure() -> None:
    assert SolveResult((), {}, 0.0).n_answered == 0 and "at all" not in SolveResult((), {}, 0.0).text


# On time --------------------------------------------------------------------------------------------------------------


def test_a_deadline_that_is_past_writes_the_fallback_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARC_KAGGLE_STARTED", "1000000")
    config = fake_config(tmp_path, 3, time_limit_minutes=5)
    result = solve_here(config, lambda: 0.0, start=Never)
    assert read_submission(config.out / "submission.json", load_tasks(config.tasks)).keys() == {"t00", "t01", "t02"}
    assert "option time_limit_minutes: found 5, over before this call" in result.text
    assert result.n_answered == 0


class Never:
    """A worker that must not be started."""

    def __init__(self, *_: Any) -> None:
        raise AssertionError("a worker was started")


def test_the_first_submission_is_there_before_any_rule_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, tried = fake_config(tmp_path, 4), list[bool]()
    rules = submission_module.proven_grids

    def watching(query: Any) -> Any:
        tried.append((config.out / "submission.json").exists())
        return rules(query)

    monkeypatch.setattr(submission_module, "proven_grids", watching)
    solve_here(config)
    assert tried and all(tried)


def test_rules_are_tried_once_a_query_and_files_are_not_written_for_every_vote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_tried, n_written = [0], [0]
    rules, write = submission_module.rule_grids, submission_module.SubmissionFile.write

    def counting(query: Any) -> Any:
        n_tried[0] += 1
        return rules(query)

    def noted(self: Any) -> None:
        n_written[0] += 1
        write(self)

    monkeypatch.setattr("arc_kaggle.run.supervisor.rule_grids", counting)
    monkeypatch.setattr(submission_module.SubmissionFile, "write", noted)
    clock = SimpleNamespace(now=0.0)
    solve_here(fake_config(tmp_path, 30), lambda: clock.now)
    assert n_tried[0] == sum(len(value["test"]) for value in task_values(30).values())
    assert n_written[0] <= 5  # the clock stands still: at the beginning, before the worker starts, at the end


# The folder -----------------------------------------------------------------------------------------------------------


def test_a_removed_lock_file_lets_nobody_in(tmp_path: Path) -> None:
    config = fake_config(tmp_path, 2)
    journal = Journal(config, load_tasks(config.tasks))
    (config.out / ".lock").unlink()
    with pytest.raises(ConfigError, match="another `solve` is writing there"):
        solve_here(config)
    journal.close()
    solve_here(config)


def test_a_run_that_failed_to_start_does_not_lock_its_folder(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    config = fake_config(tmp_path, 2)
    with pytest.raises(WorkerError, match=r"found no config\.json"):
        solve_here(replace(config, engine="hf", model=tmp_path / "model"))
    assert len(solve_here(replace(config, seed=7)).reports) == 2
    with pytest.raises(ConfigError, match="seed 7, expected 8"):
        solve_here(replace(config, seed=8))


@pytest.mark.parametrize("name", ["submission.json", "report.json", "stages.jsonl", "config.json"])
def test_a_folder_in_the_place_of_a_file_is_named(tmp_path: Path, name: str) -> None:
    config = fake_config(tmp_path, 2)
    (config.out / name).mkdir(parents=True)
    with pytest.raises(ConfigError, match=rf"{name}: found a folder, expected a file or nothing; move it away"):
        solve_here(config)


def test_a_foreign_line_is_set_aside_however_well_it_is_signed(tmp_path: Path) -> None:
    config = fake_config(tmp_path, 3)
    wanted = solve_here(config).scores
    stages, predictions = config.out / "stages.jsonl", config.out / "predictions"
    foreign = {**json.loads(stages.read_text().splitlines()[1])}
    foreign.pop("crc32")
    foreign["job"]["task_id"] = "somebody else's"
    stages.write_bytes(stages.read_bytes() + line_of(foreign) + line_of({"forget": "nobody's", "stages": ["quick"]}))
    other = (predictions / "t01.jsonl").read_bytes().splitlines(keepends=True)[0]
    (predictions / "t00.jsonl").write_bytes((predictions / "t00.jsonl").read_bytes() + other)
    assert solve_here(config).scores == wanted
    assert {path.name for path in config.out.rglob("*.damaged")} == {"stages.jsonl.damaged", "t00.jsonl.damaged"}
