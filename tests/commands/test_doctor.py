"""`arc-kaggle doctor`: every fault has its line with advice, and the exit code says whether a submission would run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kaggle_tree import Tree, hidden_tasks

from arc_kaggle.cli import main
from arc_kaggle.commands.doctor import DoctorConfig, doctor
from arc_kaggle.errors import ArcKaggleError
from arc_kaggle.evaluation.findings import Finding, Findings
from arc_kaggle.kaggle import checks
from arc_kaggle.kaggle.mounts import find_mounts
from arc_kaggle.kaggle.probes import Child, Probes, run_module
from arc_kaggle.system.hardware import Gpu

T4 = Gpu("Tesla T4", 15.0, "7.5", "550.1")
FACTS: dict[str, Any] = {"torch": "2.10.0", "cuda": "12.8", "gpus": 2, "sums": [64.0, 64.0], "memory_bytes": 16 << 30}
WELL = Child(0, "", "")
CRASHED = Child(1, "", "Traceback\nImportError: no module of that name")
VERSIONS = {"torch": "2.10.0", "peft": "0.19.1", "numpy": "2.0.2"}


def answers(facts: dict[str, Any] | None = None, solved: bool = True) -> Any:
    """What child processes come to: the facts of torch, then a run of `solve`."""

    def ask(module: str, *words: str) -> Child:
        if module == "kaggle.torch_probe":
            lines = [json.dumps({name: value}) for name, value in (facts or {**FACTS, "peft": "0.19.1"}).items()]
            return Child(0 if "peft" in lines[-1] else 1, "a warning\n" + "\n".join(lines), CRASHED.error)
        out = Path(words[words.index("--out") + 1])
        assert words[0] == "solve" and Path(words[words.index("--tasks") + 1]).is_file()
        if not solved:
            return CRASHED
        out.mkdir()
        tune = {"tuned": True, "steps": 2, "seconds": 1.0}
        run = {"task_id": "doctor", "tune": tune, "infer_seconds": 0.5, "reasons": {"answered": 2}, "dropped_pairs": 0}
        (out / "report.json").write_text(json.dumps({"reports": [{"run": run}]}))
        return WELL

    return ask


PROBES = Probes(
    python=(3, 12),
    gpus=lambda: (T4, T4),
    connects=lambda: False,
    free_bytes=lambda folder: 20 << 30,
    version_of=VERSIONS.get,
    requirements=lambda: ["torch>=2.10", "peft>=0.19.1", 'bitsandbytes>=0.49; extra == "four-bit"'],
    run_module=answers(),
)


@pytest.fixture
def machine(tmp_path: Path) -> DoctorConfig:
    """A machine on which a submission would run: Kaggle's stamp, a competition, a model, a bundle."""
    tree = Tree(tmp_path / "input")
    tree.add_competition(hidden_tasks(2))
    tree.add_model()
    bundle = tree.root / "datasets" / "someone" / "wheels"
    bundle.mkdir(parents=True)
    wheels = [{"name": "peft", "version": "0.19.1"}]
    manifest = {"profile": "small", "wheels": wheels, "keeps": {"torch": "2.10.0"}}
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    etc = tmp_path / "system" / "etc"
    etc.mkdir(parents=True)
    (etc / "git_commit").write_text("abc123\n")
    (etc / "build_date").write_text("2026-10-03\n")
    return DoctorConfig(inputs=tree.root, system=tmp_path / "system", working=tmp_path)


def test_where_all_is_well_every_line_says_ok(machine: DoctorConfig) -> None:
    diagnosis = doctor(machine, PROBES)
    assert [finding.line for finding in diagnosis.findings if finding.level != "ok"] == []
    diagnosis.require()
    for word in ("abc123", "2026-10-03", "preset 2xT4", "driver 550.1", "2 tasks", "small, 2 packages", "tuned"):
        assert word in diagnosis.text


FAULTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "python": ({"python": (3, 10)}, "FAILED  python", "expected 3.11 to 3.13; pin docker_image"),
    "no GPU": ({"gpus": lambda: ()}, "note    gpus", "set machine_shape"),
    "unknown GPU": ({"gpus": lambda: (T4,)}, "note    gpus", "give precision and sizes in OPTIONS"),
    "disk": ({"free_bytes": lambda folder: 1 << 20}, "FAILED  disk", "expected 1.0 or more; remove files"),
    "network": ({"connects": lambda: True}, "note    network", "set enable_internet to false"),
    "old package": ({"version_of": {**VERSIONS, "peft": "0.10"}.get}, "FAILED  packages", "expected peft>=0.19.1"),
    "no package": ({"version_of": {"torch": "2.10.0"}.get}, "FAILED  packages", "peft missing; expected peft"),
    "source": ({"requirements": lambda: ()}, "note    packages", "arc_kaggle is not installed"),
    "other": (
        {"version_of": {**VERSIONS, "peft": "0.20"}.get},
        "note    profile",
        "peft 0.20, not 0.19.1; run install.py",
    ),
    "no torch": (
        {"run_module": answers({"other": 1})},
        "FAILED  torch",
        "ImportError: no module of that name); install",
    ),
    "driver": (
        {"run_module": answers({**FACTS, "cuda": "13.0", "gpus": 0, "sums": []})},
        "FAILED  torch",
        "sees 0 GPUs of 2 with driver 550.1; its CUDA needs driver 580 or newer",
    ),
    "no CUDA": ({"run_module": answers({**FACTS, "cuda": None, "gpus": 0})}, "FAILED  torch", "a build without CUDA"),
    "broken GPU": (
        {"run_module": answers({"torch": "2", "cuda": "12.8", "gpus": 2})},
        "FAILED  torch",
        "cannot compute on them",
    ),
    "memory": ({"run_module": answers({**FACTS, "memory_bytes": 1 << 30})}, "FAILED  memory", "1.0 GiB left"),
    "torchao": ({"run_module": answers(FACTS)}, "FAILED  adapters", "pip uninstall -y torchao"),
    "answer": (
        {"run_module": answers(solved=False)},
        "FAILED  answer",
        "did not, its process ended with exit code 1 (ImportError",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_has_its_line_and_its_advice(fault: str, machine: DoctorConfig) -> None:
    changes, head, advice = FAULTS[fault]
    diagnosis = doctor(machine, replace(PROBES, **changes))
    (line,) = [line for line in diagnosis.text.splitlines() if line.startswith(f"{head}: ")]
    assert advice in line
    assert bool(diagnosis.failed) == head.startswith("FAILED")


def test_mounts_that_are_missing_or_too_many(machine: DoctorConfig, tmp_path: Path) -> None:
    nothing = doctor(replace(machine, inputs=tmp_path / "nowhere", system=tmp_path), PROBES)
    assert nothing.failed == ("competition",)
    levels = {finding.name: finding.level for finding in nothing.findings}
    assert {levels[name] for name in ("image", "models", "bundle", "profile")} == {"note"}
    tree = Tree(machine.inputs)
    tree.add_competition(hidden_tasks(1), "another")
    tree.add_model("second")
    assert "found 2 of competition" in (several := doctor(machine, PROBES)).text and several.failed == ("competition",)
    assert "note    models: 2: " in several.text and "let MODEL in the config cell name one" in several.text
    assert not doctor(replace(machine, competition="another"), PROBES).failed


def test_a_competition_that_cannot_be_read(machine: DoctorConfig) -> None:
    (file,) = machine.inputs.rglob("arc-agi_test_challenges.json")
    file.write_text('{"a": {"train": [], "test": []}}')
    found = checks.check_competition(find_mounts(machine.inputs), "auto")
    assert found.level == "FAILED" and "task a" in found.found


def test_a_diagnosis_as_json() -> None:
    findings = (Finding("a", "ok", "fine"), Finding("b", "FAILED", "bad", advice="mend it"))
    value = Findings("doctor", findings).to_json()
    assert value == {
        "runs": False,
        "findings": [
            {"name": "a", "level": "ok", "found": "fine", "expected": "", "advice": ""},
            {"name": "b", "level": "FAILED", "found": "bad", "expected": "", "advice": "mend it"},
        ],
    }
    with pytest.raises(ArcKaggleError, match="doctor: 1 of 2 failed: b"):
        Findings("doctor", findings).require()


def test_a_child_that_cannot_run_says_why() -> None:
    child = run_module("no_such_module")
    assert child.code == 1 and "No module named arc_kaggle.no_such_module" in child.last_words


def test_the_command_on_this_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json", "--inputs", str(tmp_path), "--working", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert captured.err.endswith("arc-kaggle: doctor: 1 of 14 failed: competition\n")
    levels = {finding["name"]: finding["level"] for finding in json.loads(captured.out)["findings"]}
    assert {levels[name] for name in ("python", "torch", "disk", "memory", "adapters", "answer")} == {"ok"}


@pytest.mark.parametrize(("solved", "code"), [(True, 0), (False, 2)])
def test_the_exit_code_says_whether_a_submission_would_run(
    solved: bool, code: int, machine: DoctorConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("arc_kaggle.commands.doctor.Probes", lambda: replace(PROBES, run_module=answers(solved=solved)))
    words = ["--inputs", str(machine.inputs), "--system", str(machine.system), "--working", str(machine.working)]
    assert main(["doctor", *words]) == code
    assert ("a submission would run" in capsys.readouterr().out) == solved
