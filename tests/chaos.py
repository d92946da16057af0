"""Chaos: a fault at a random moment of a run, then the run again until it ends; and what must hold whatever it was."""

from __future__ import annotations

import random
import subprocess
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from processes import DONE, N_VIEWS, Run, running

from arc_kaggle.answering.submission import read_submission
from arc_kaggle.system.files import read_lines

STAGES = ("quick", "tune", "answer", "score")
JOINT, JOINT_FAULTS = "joint", ("kill -9 of child", "kill -9 of supervisor")
"""The joint stage, whose child is the process that trains; and what may happen to it."""
FEW_STEPS = "import arc_kaggle.run.joint as j; j.STEPS, j.SAVE_EVERY, j.TOKENS_PER_STEP = 4, 1, 256"
"""The joint stage ends after so few steps, each with a checkpoint, that the time does not end it."""
FAULTS = {
    "kill -9 of child": "os.kill(os.getpid(), signal.SIGKILL)",
    "kill -9 of supervisor": "os.kill(os.getppid(), signal.SIGKILL)",
    "hang": "os.kill(os.getpid(), signal.SIGSTOP)",
    "out of memory": "raise RuntimeError('CUDA out of memory')",
    "full disk": "resource.prlimit(os.getppid(), resource.RLIMIT_FSIZE, (600, resource.RLIM_INFINITY))",
    "damaged file": "os.kill(os.getppid(), signal.SIGKILL)",
}
"""What a worker does to itself or to its supervisor. A full disk is one on which no file may grow beyond 600 bytes; a
damaged file is one of a killed run, cut or with a flipped bit."""
N_TASKS = 3
LIMIT_SECONDS, SHORT_SECONDS = 240.0, 8.0
"""Of a run, its start included: one that can do all, and one that cannot."""
MOST_RUNS = 5
"""Of one folder, until it is through."""
Key = tuple[str, str, tuple[int, int]]
"""Task, stage and views."""


@dataclass(frozen=True, slots=True)
class Blow:
    """What became of one run."""

    stage: str
    """In which the fault hit; empty where the run ended before."""
    fault: str
    engine: str
    n_workers: int
    n_loading: int
    """Workers that were loading their model when the fault hit."""
    n_runs: int
    lost: int
    """Stages that were through and are no more."""
    redone: int
    """Stages that were through, whose files were whole, and that were done again."""
    invalid: int
    """Times that a submission was not valid; it is read all the time."""
    different: int
    """1 where the submission in the end is not that of a run without a fault."""
    late_seconds: float
    """Over the deadline, at most, of its runs; negative where all ended before."""


def strike(
    folder: Path,
    stage: str,
    fault: str,
    engine: str,
    options: tuple[str, ...],
    wanted: bytes,
    rng: random.Random,
    patience: float,
    n_workers: int = 1,
) -> Blow:
    """A run with one fault in some event of a stage of some task, then runs without until the work is done.

    Of several workers the last one loads its model until the fault has hit another. One first run in four is slow and
    has little time, so that its deadline comes in the middle. A worker counts as hung after `patience` seconds.
    """
    short = stage != JOINT and rng.random() < 0.25
    where = f"stage == {stage!r} and task_id == 't{rng.randrange(N_TASKS):02}' and n_events > {_moment(stage, rng)}"
    hit = f"if {where} and not once.exists(): {_note(folder, stage)}; {FAULTS[fault]}"
    once = folder / "site" / "once"
    options = (*options, "--workers", str(n_workers))
    others = {"start": _loading(folder, n_workers), "supervisor": FEW_STEPS if stage == JOINT else "pass"}
    invalid, late, n_runs, before, whole = 0, -LIMIT_SECONDS, 0, Counter[Key](), True
    while n_runs < MOST_RUNS:
        limit = SHORT_SECONDS if short and not n_runs else LIMIT_SECONDS
        words = (*options, "--time-limit-minutes", str(limit / 60))
        started = time.monotonic()
        slow, struck = short and not n_runs, once.exists()
        spoil = f"{'time.sleep(0.2)' if slow else 'pass'}\n            {'pass' if struck or stage == JOINT else hit}"
        others["trainer"] = _joint_hit(folder, fault, rng) if stage == JOINT and not struck else "pass"
        with _watched(folder, words, {"spoil": spoil, "patience": patience, **others}) as run:
            code = _exit_code(run, limit + 30)
            late = max(late, time.monotonic() - started - limit)
        invalid += len(run.errors)
        n_runs += 1
        if not struck:
            before = done_stages(run.out)
        if fault == "damaged file" and once.exists() and not struck:
            whole = not damage(run.out, rng)
        filled = fault == "full disk" and once.exists() and not struck
        if code in DONE and not slow and not filled:
            break
    after = done_stages(run.out)
    read_submission(run.out / "submission.json", run.tasks)
    hit_stage, _, n_loading = once.read_text().partition(" ") if once.exists() else ("", "", "0")
    return Blow(
        hit_stage,
        fault,
        engine,
        n_workers,
        int(n_loading),
        n_runs,
        sum(1 for key in before if key not in after),
        sum(n - 1 for n in after.values()) if whole else 0,
        invalid,
        int((run.out / "submission.json").read_bytes() != wanted),
        late,
    )


def _moment(stage: str, rng: random.Random) -> int:
    """After how many events of a job the fault comes: the begin, the views, the end."""
    return rng.randrange({"quick": 3, "tune": 2, "answer": N_VIEWS, "score": 2, JOINT: 1}[stage])


def _note(folder: Path, stage: str) -> str:
    """A statement that keeps which stage was hit, and how many workers were loading then."""
    n_start, n_ready = (f"""events.count('"event": "{name}"')""" for name in ("start", "ready"))
    events = f"events = Path({str(folder / 'out' / 'events.jsonl')!r}).read_text()"
    return f"{events}; once.write_text('{stage} ' + str({n_start} - {n_ready}))"


def _loading(folder: Path, n_workers: int) -> str:
    """A statement by which the last of several workers, as it begins, waits for the fault that hits another."""
    if n_workers == 1:
        return "pass"
    n_ready = f"Path({str(folder / 'out' / 'events.jsonl')!r}).read_text().count('ready')"
    return f"[time.sleep(0.05) for _ in range(600) if not once.exists() and {n_ready} == {n_workers - 1}]"


def _joint_hit(folder: Path, fault: str, rng: random.Random) -> str:
    """A statement by which the trainer, after some step, strikes itself or its supervisor."""
    step = rng.randrange(4)
    found = f"Path({str(folder)!r}).glob('scratch/*/joint/model/checkpoints/step-*')"
    wait = f"[time.sleep(0.01) for _ in iter(lambda: {step} <= max([0, *(int(p.name[5:13]) for p in {found})]), True)]"
    strike = f"({wait}, once.write_text('{JOINT} 0'), {FAULTS[fault]})"
    is_first = "os.environ.get('RANK', '0') == '0' and not once.exists()"
    return f"{is_first} and threading.Thread(target=lambda: {strike}, daemon=True).start()"


class _watched:
    """A run whose faulty submissions are counted, not raised."""

    def __init__(self, folder: Path, words: tuple[str, ...], spoilt: Mapping[str, Any]) -> None:
        self.context = running(folder, *words, n_tasks=N_TASKS, **spoilt)

    def __enter__(self) -> Run:
        self.run = self.context.__enter__()
        return self.run

    def __exit__(self, *error: object) -> None:
        try:
            self.context.__exit__(*error)  # type: ignore[arg-type]
        except AssertionError:
            assert self.run.errors


def _exit_code(run: Run, seconds: float) -> int:
    try:
        return run.wait(seconds)
    except subprocess.TimeoutExpired:
        return -1


def done_stages(out: Path) -> Counter[Key]:
    """How often each stage was done, by the journal."""
    values = [value for value in read_lines(out / "stages.jsonl").values if "job" in value and not value["lost"]]
    return Counter((v["job"]["task_id"], v["job"]["stage"], tuple(v["job"]["views"])) for v in values)


def damage(out: Path, rng: random.Random) -> bool:
    """Cut a file that a run goes on from, or flip a bit of it; whether there was one."""
    paths = [path for path in sorted(out.glob("**/*.jsonl")) if path.stat().st_size and path.name != "events.jsonl"]
    if not paths:
        return False
    path = rng.choice(paths)
    data = bytearray(path.read_bytes())
    if rng.random() < 0.5:
        del data[rng.randrange(len(data)) :]
    else:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(7)
    path.write_bytes(data)
    return True


def reference(folder: Path, options: tuple[str, ...], supervisor: str = "pass") -> tuple[bytes, Path]:
    """The submission of a run without a fault, and its plan."""
    with running(folder, *options, "--workers", "1", n_tasks=N_TASKS, supervisor=supervisor) as run:
        assert run.wait(LIMIT_SECONDS) in DONE, run.output
    assert set(STAGES) <= {stage for _, stage, _ in done_stages(run.out)}
    return (run.out / "submission.json").read_bytes(), run.out / "plan.json"


def summary(blows: list[Blow]) -> dict[str, object]:
    """Counts over all runs, and the matrix of hits: stage -> fault -> how often."""
    hits = Counter((blow.stage, blow.fault) for blow in blows)
    return {
        "runs": len(blows),
        "processes": sum(blow.n_runs for blow in blows),
        "runs_with_the_real_engine": sum(blow.engine != "fake" for blow in blows),
        "runs_by_workers": dict(sorted(Counter(blow.n_workers for blow in blows).items())),
        "hits_while_a_worker_was_loading": sum(blow.n_loading > 0 for blow in blows),
        "finished_stages_lost": sum(blow.lost for blow in blows),
        "finished_stages_redone": sum(blow.redone for blow in blows),
        "invalid_submissions": sum(blow.invalid for blow in blows),
        "different_submissions": sum(blow.different for blow in blows),
        "latest_seconds_over_the_deadline": round(max(blow.late_seconds for blow in blows), 1),
        "over_by_more_than_5_s": sum(blow.late_seconds > 5 for blow in blows),
        "not_through": sum(blow.n_runs >= MOST_RUNS for blow in blows),
        "missed": hits.pop(("", ""), 0) + sum(n for (stage, _), n in hits.items() if not stage),
        "hits": {stage: {fault: hits[stage, fault] for fault in FAULTS} for stage in (*STAGES, JOINT)},
    }
