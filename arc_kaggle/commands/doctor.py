"""Command `doctor`: it tells whether a submission would run on this machine, with what is mounted here."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from arc_kaggle.config.model import BOX_FOLDER
from arc_kaggle.evaluation.findings import Finding, Findings
from arc_kaggle.kaggle import checks
from arc_kaggle.kaggle.mounts import find_mounts, input_root
from arc_kaggle.kaggle.probes import Child, Probes, ask_torch
from arc_kaggle.run.records import TaskRun
from arc_kaggle.system.files import strict_json
from arc_kaggle.system.steps import Steps

TASK = {
    "train": [{"input": [[1, 2]], "output": [[2, 1]]}, {"input": [[3, 4]], "output": [[4, 3]]}],
    "test": [{"input": [[5, 6]]}],
}
"""What the model is asked: its answer is not judged."""
QUICK = ("--tune.steps", "2", "--generate.n-views", "2", "--time-limit-minutes", "4")


@dataclass(frozen=True, slots=True)
class DoctorConfig:
    """Check this machine and what is attached: one line a finding. Exit code 2 where a submission would not run."""

    inputs: Path = field(default_factory=input_root)
    """Folder below which Kaggle mounts competitions, models, bundles and notebooks."""
    competition: str = "auto"
    """A part of the competition's path there, needed only where several competitions are mounted."""
    model: Path = BOX_FOLDER
    """Model folder that a child process loads, fine-tunes for two steps and asks; the default is the model that
    ships with the package."""
    working: Path = Path()
    """Folder that a submission would be written to."""
    system: Path = Path("/")
    """Root of the file system, whose /etc and /sys tell the image and the memory."""
    json: bool = False
    """Print JSON in place of lines."""


def run(config: DoctorConfig) -> int:
    """Print a line a finding, or JSON. Raises ArcKaggleError where a submission would not run."""
    steps = Steps("doctor")
    findings = doctor(config, step=steps)
    steps.done()
    verdict = f"would not run: {', '.join(findings.failed)}" if findings.failed else "would run"
    print(strict_json(findings.to_json(), 1) if config.json else f"{findings.text}\na submission {verdict}")
    findings.require()
    return 0


def doctor(
    config: DoctorConfig, probes: Probes | None = None, step: Callable[[str], None] = lambda _: None
) -> Findings:
    """Look at everything; nothing that is found wrong is raised."""
    probes = probes or Probes()
    step("looking for GPUs, and asking torch in a process of its own")
    gpus = probes.gpus()
    facts, probe = ask_torch(probes, config.system)
    step("looking at what is mounted")
    mounts = find_mounts(config.inputs)
    findings = [
        checks.check_python(probes.python),
        checks.check_image(config.system),
        checks.check_gpus(gpus),
        checks.check_torch(facts, probe, gpus),
        checks.check_disk(probes.free_bytes(config.working)),
        checks.check_memory(facts),
        checks.check_network(probes.connects()),
        checks.check_competition(mounts, config.competition),
        checks.check_models(mounts),
        checks.check_bundle(mounts),
        checks.check_packages(probes.requirements(), probes.version_of),
        checks.check_profile(mounts, probes.version_of),
        checks.check_peft(facts, probe),
    ]
    step("asking a model, which is loaded and fine-tuned for two steps")
    findings.append(ask_model(config, probes))
    return Findings("doctor", tuple(findings))


def ask_model(config: DoctorConfig, probes: Probes) -> Finding:
    """One small task through the whole of `solve`, in processes of their own."""
    with tempfile.TemporaryDirectory() as scratch:
        tasks, out = Path(scratch) / "tasks.json", Path(scratch) / "out"
        tasks.write_text(json.dumps({"doctor": TASK}), encoding="utf-8")
        words = ("--tasks", str(tasks), "--out", str(out), "--model", str(config.model), *QUICK)
        child = probes.run_module("cli", "solve", *words)
        return checks.check_answer(child, _runs(out / "report.json", child))


def _runs(report: Path, child: Child) -> list[TaskRun]:
    if child.code or not report.is_file():
        return []
    rows = json.loads(report.read_text(encoding="utf-8"))["reports"]
    return [TaskRun.from_json(row["run"]) for row in rows if row["run"]]
