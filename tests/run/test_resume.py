"""Resume: a run goes on where it stopped; nothing finished is redone or lost, nothing damaged is believed."""

from __future__ import annotations

import json
import os
import random
import signal
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from in_process import InProcessWorker, solve_here
from processes import N_VIEWS, fake_config, read_report, running, task_values, wait_until
from strategies import prediction

from arc_kaggle.answering.candidates import CandidateScore, read_predictions
from arc_kaggle.answering.submission import read_submission
from arc_kaggle.config.answer import GenerateConfig, RescoreConfig
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.errors import ConfigError
from arc_kaggle.run.journal import RESERVE, Journal
from arc_kaggle.run.messages import Order
from arc_kaggle.system.files import append_lines, cut_torn, line_of, read_lines, set_aside, value_of
from arc_kaggle.tasks.dataset import load_tasks
from arc_kaggle.tasks.grid import as_grid


class Stopped(Exception):
    """The run ends here, as if the machine had."""


def stop_after(n_jobs: int) -> tuple[list[tuple[str, str]], type[InProcessWorker]]:
    """The jobs that were begun, and a worker with which the run breaks off as its job of this number begins."""
    begun: list[tuple[str, str]] = []

    class Stopping(InProcessWorker):
        def send(self, order: Order) -> None:
            if len(begun) == n_jobs:
                raise Stopped
            begun.append((order.job.task_id, order.job.stage))
            super().send(order)

    return begun, Stopping


def scored_config(folder: Path, n_tasks: int = 4, **options: Any) -> SolveConfig:
    """All four stages, in this process: the fake engine answers, and is asked for scores."""
    rescore = RescoreConfig(n_views=2)
    return fake_config(folder, n_tasks, recipe="lora", rescore=rescore, **options)


def submission(config: SolveConfig) -> bytes:
    return (config.out / "submission.json").read_bytes()


def jobs_of(out: Path) -> list[tuple[str, str]]:
    """(task, stage) of the stages that are through, in the order in which they ended."""
    found = [value for value in read_lines(out / "stages.jsonl").values if "job" in value]
    return [(value["job"]["task_id"], value["job"]["stage"]) for value in found if not value["lost"]]


@pytest.mark.parametrize("n_jobs", [0, 1, 5, 9, 14])
def test_a_run_goes_on_where_it_stopped(tmp_path: Path, n_jobs: int) -> None:
    whole = scored_config(tmp_path / "whole")
    solve_here(whole)
    config = scored_config(tmp_path / "parts")
    first, stopping = stop_after(n_jobs)
    with pytest.raises(Stopped):
        solve_here(config, start=stopping)
    second, going_on = stop_after(99)
    solve_here(config, start=going_on)
    assert first + second == jobs_of(config.out)
    assert Counter(first + second) == Counter(jobs_of(whole.out))
    assert submission(config) == submission(whole)


def test_a_finished_run_is_not_done_again(tmp_path: Path) -> None:
    config = fake_config(tmp_path)
    before = solve_here(config)
    kept = {path: path.read_bytes() for path in config.out.glob("*/*.jsonl")}
    begun, stopping = stop_after(0)
    assert solve_here(config, start=stopping).scores == before.scores
    assert begun == [] and {path: path.read_bytes() for path in config.out.glob("*/*.jsonl")} == kept


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 1}, "seed 0, expected 1"),
        ({"generate": GenerateConfig(n_views=5)}, "generate.n_views 4, expected 5"),
        ({"select_by": "cells"}, "select_by 'votes', expected 'cells'"),
        ({"recipe": "lora"}, "recipe 'none', expected 'lora'"),
    ],
)
def test_another_config_is_refused_by_name(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    config = fake_config(tmp_path, 2)
    solve_here(config)
    before = {path: path.read_bytes() for path in config.out.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match=rf"out: found the results of an earlier run with {named}; .* --overwrite"):
        solve_here(replace(config, **change))
    assert {path: path.read_bytes() for path in config.out.rglob("*") if path.is_file()} == before
    again = fake_config(tmp_path, 3, overwrite=True, **change)
    assert len(solve_here(again).reports) == 3
    assert len(list((again.out / "predictions").iterdir())) == 3


def test_options_that_shape_no_result_may_differ(tmp_path: Path) -> None:
    config = fake_config(tmp_path, 2)
    solve_here(config)
    solve_here(replace(config, time_limit_minutes=5, workers=1, scratch_gb=1.0, grace_seconds=3))


def test_other_tasks_in_the_same_file_are_refused(tmp_path: Path) -> None:
    config = fake_config(tmp_path, 2)
    solve_here(config)
    values = task_values(2)
    values["t00"]["train"][0]["output"] = [[7]]
    Path(config.tasks).write_text(json.dumps(values))
    with pytest.raises(ConfigError, match="out: found the results of other tasks in --tasks than are there now"):
        solve_here(config)


def test_two_runs_into_one_folder_at_once_are_refused(tmp_path: Path) -> None:
    config = fake_config(tmp_path, 2)
    journal = Journal(config, load_tasks(config.tasks))
    with pytest.raises(ConfigError, match="another `solve` is writing there"):
        solve_here(config)
    journal.finish(lambda: None, {})
    solve_here(config)


# Damage ---------------------------------------------------------------------------------------------------------------


def damage(path: Path, how: str, rng: random.Random) -> None:
    data = bytearray(path.read_bytes() or b"\n")
    if how == "flipped":
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(7)
    elif how == "torn":
        del data[rng.randrange(len(data)) :]
    elif how == "empty":
        data.clear()
    elif how == "a line less":
        del data[data[:-1].rfind(b"\n") + 1 :]
    path.write_bytes(data)


@pytest.mark.parametrize("how", ["flipped", "torn", "empty", "a line less"])
@pytest.mark.parametrize("name", ["predictions/t01.jsonl", "scores/t01.jsonl", "stages.jsonl"])
def test_a_damaged_file_is_found_and_its_stages_are_done_again(tmp_path: Path, how: str, name: str) -> None:
    config = scored_config(tmp_path)
    solve_here(config)
    make_scores(config, name)
    whole, stages = submission(config), Counter(jobs_of(config.out))
    rng = random.Random(f"{how} {name}")
    for _ in range(3):
        damage(config.out / name, how, rng)
        solve_here(config)
        assert submission(config) == whole
        assert Counter(set(jobs_of(config.out))) == stages  # nothing is missing; some may have been done twice
        assert not any(read_lines(path).damaged for path in config.out.rglob("*.jsonl"))
        assert all(len(read_predictions(path)) >= N_VIEWS for path in (config.out / "predictions").glob("*.jsonl"))
    if how == "flipped":
        assert (config.out / f"{name}.damaged").exists()


def make_scores(config: SolveConfig, name: str) -> None:
    """The fake engine gives one candidate a query, and what has no rival is not scored: some are made up."""
    if not name.startswith("scores"):
        return
    stages = read_lines(config.out / "stages.jsonl").values
    path = config.out / name
    for view in range(2):
        append_lines(path, [CandidateScore("t01", 0, view, as_grid([[5, 6], [5, 6]]), 1.0).to_json()])
    changed = [
        {**value, "n_lines": 2}
        if value.get("job", {}).get("task_id") == "t01" and value["job"]["stage"] == "score"
        else value
        for value in stages
    ]
    (config.out / "stages.jsonl").write_bytes(b"".join(map(line_of, changed)))


def is_score(value: dict[str, Any]) -> bool:
    return "job" in value and (value["job"]["task_id"], value["job"]["stage"]) == ("t01", "score")


def test_a_line_says_whether_it_is_whole() -> None:
    value = {"text": "ab", "grid": [[1, 2]]}
    line = line_of(value).rstrip(b"\n")
    assert value_of(line) == value and json.loads(line)["text"] == "ab"
    for i, bit in product(range(len(line)), range(8)):
        flipped = bytearray(line)
        flipped[i] ^= 1 << bit
        with pytest.raises(ValueError):
            value_of(bytes(flipped))
    with pytest.raises(ValueError, match="the line is damaged: found checksum"):
        value_of(line.replace(b"ab", b"ac"))
    assert value_of(b'{"a": 1}') == {"a": 1}


def test_lines_are_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    assert read_lines(path).values == ()
    append_lines(path, [{"a": 1}, {"a": 2}], sync=True)
    with path.open("ab") as file:
        file.write(line_of({"a": 3})[:-4])
    assert read_lines(path).values == ({"a": 1}, {"a": 2})
    cut_torn(path)
    append_lines(path, [{"a": 4}])
    path.write_bytes(path.read_bytes().replace(b'{"a": 2', b'{"a": 7'))
    lines = read_lines(path)
    assert lines.values == ({"a": 1}, {"a": 4}) and lines.damaged == (2,)
    aside = set_aside(path, lines.values)
    assert aside.name == "lines.jsonl.damaged" and b'"a": 7' in aside.read_bytes()
    assert read_lines(path).values == lines.values and not read_lines(path).damaged


def test_an_answer_that_the_clock_cut_off_replaces_none(tmp_path: Path) -> None:
    config = fake_config(tmp_path, 1)
    journal = Journal(config, load_tasks(config.tasks))
    journal.keep_prediction(prediction([[1]], 0, task_id="t00"))
    journal.keep_prediction(replace(prediction(None, 0, task_id="t00"), reason="deadline"))
    journal.keep_prediction(replace(prediction(None, 1, task_id="t00"), reason="deadline"))
    journal.keep_prediction(prediction([[2]], 1, task_id="t00"))
    assert [p.reason for p in journal.predictions_of("t00")] == [None, None]
    path = config.out / "predictions" / "t00.jsonl"
    assert [p.reason for p in read_predictions(path)] == [None, None]
    journal.finish(lambda: None, {})


def test_evidence_comes_back_in_one_order(tmp_path: Path) -> None:
    """Sums of numbers are not the same in every order."""
    config = fake_config(tmp_path, 1)
    journal = Journal(config, load_tasks(config.tasks))
    for view in (2, 0, 1):
        journal.keep_prediction(prediction([[1]], view, task_id="t00"))
        journal.keep_score(CandidateScore("t00", 0, view, as_grid([[1]]), 1.0))
    assert [p.view for p in journal.predictions_of("t00")] == [0, 1, 2]
    assert [score.view for score in journal.scores_of("t00")] == [0, 1, 2]
    journal.finish(lambda: None, {})


# A full disk ----------------------------------------------------------------------------------------------------------


def test_on_a_full_disk_the_run_goes_on_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says so once; what waits is written as soon as there is room, which there is for the last submission."""
    from arc_kaggle.run import journal as module

    config = scored_config(tmp_path)
    full = [False]
    append = module.append_lines

    def filling(path: Path, values: Sequence[Any], sync: bool = False) -> None:
        if full[0] and (config.out / RESERVE).exists():
            raise OSError(28, "No space left on device")
        append(path, values, sync)

    class Filling(InProcessWorker):
        def send(self, order: Order) -> None:
            full[0] = full[0] or order.job.stage == "answer"
            super().send(order)

    monkeypatch.setattr(module, "append_lines", filling)
    result = solve_here(config, start=Filling)
    assert [report.tries for report in result.reports] == [1] * 4
    assert capsys.readouterr().err.count("No space left on device; going on in memory") == 1
    n_tasks = len(read_submission(config.out / "submission.json", load_tasks(config.tasks)))
    assert n_tasks == 4 and sum(len(read_predictions(p)) for p in (config.out / "predictions").glob("*.jsonl")) == 20


def test_a_disk_that_stays_full_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from arc_kaggle.run import journal as module

    config = fake_config(tmp_path, 2)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    class Filling(InProcessWorker):
        def send(self, order: Order) -> None:
            monkeypatch.setattr(module, "append_lines", full)
            super().send(order)

    result = solve_here(config, start=Filling)
    assert "No space left on device; make room there" in result.text
    assert read_report(config.out)["scores"] == result.scores
    monkeypatch.undo()
    assert solve_here(config).scores == result.scores  # from what is in the folder, and done again where it is not


# Killed for real ------------------------------------------------------------------------------------------------------


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    """kill -9 of the supervisor while it is at work, three times; the end is that of a run without kills."""
    whole = fake_config(tmp_path / "whole", 8)
    solve_here(whole)
    out = tmp_path / "killed" / "out"
    options = (tmp_path / "killed", "--engine", "fake", "--recipe", "none")
    for n_stages in (3, 7, 12):
        with running(*options, n_tasks=8, spoil="time.sleep(0.01)") as run:
            wait_until(lambda n=n_stages: (out / "stages.jsonl").exists() and len(jobs_of(out)) >= n)
            os.kill(run.process.pid, signal.SIGKILL)
    through = jobs_of(out)
    with running(*options, n_tasks=8) as run:
        assert run.wait() == 0, run.output
    assert jobs_of(out)[: len(through)] == through and len(jobs_of(out)) == len(set(jobs_of(out))) == 16
    assert (out / "submission.json").read_bytes() == submission(whole)


def test_children_that_are_stopped_end_with_their_supervisor(tmp_path: Path) -> None:
    """One that is stopped does not see that its input ends."""
    with running(tmp_path, "--engine", "fake", spoil="os.kill(os.getpid(), signal.SIGSTOP)") as run:
        child = run.child()
        wait_until(lambda: "T (stopped)" in Path(f"/proc/{child}/status").read_text())
        run.process.kill()
        wait_until(lambda: not run.is_alive(child), seconds=10)
