"""The notebooks are short and clean, and run from the first cell to the last on a folder like Kaggle's, offline.

Longer, and in an environment that holds nothing but what a bundle brings (`make test-kaggle`):

ARC_KAGGLE_RERUN_TASKS  how many hidden tasks the rerun has
ARC_KAGGLE_KERNEL       the Python that runs the cells, instead of this one; it needs ipykernel and nothing else
ARC_KAGGLE_BUNDLE       the wheel bundle that is attached; the notebook itself installs it there
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from kaggle_tree import SLUG, Tree, hidden_tasks

from arc_kaggle.answering.submission import read_submission
from arc_kaggle.config.model import BOX_FOLDER
from arc_kaggle.kaggle.bundle.profile import PINNED_IMAGE
from arc_kaggle.kaggle.machines import MACHINES, MODELS
from arc_kaggle.kaggle.mounts import RERUN_VARIABLE, TEST_FILE
from arc_kaggle.kaggle.notebook import count_answered
from arc_kaggle.tasks.dataset import load_tasks

ROOT = Path(__file__).parents[2]
NAMES = ("submission", "wheels", "train", "dry_run")
QUICK = {"tune.steps": 3, "generate.n_views": 2}
KERNEL, BUNDLE = os.environ.get("ARC_KAGGLE_KERNEL"), os.environ.get("ARC_KAGGLE_BUNDLE")
N_TASKS = int(os.environ.get("ARC_KAGGLE_RERUN_TASKS", "5"))
NOT_PASSED_ON = (
    RERUN_VARIABLE,
    "PYTHONPATH",
    "PYTEST_CURRENT_TEST",
)  # with the last a kernel hides what children print
LAST_CELL = """
import sys
import arc_kaggle
print("package at", arc_kaggle.__file__)
assert "torch" not in sys.modules
"""


def notebook(name: str) -> Any:
    return nbformat.read(ROOT / "kaggle_notebooks" / name / f"{name}.ipynb", as_version=4)


def code_cells(document: Any) -> list[Any]:
    return [cell for cell in document.cells if cell.cell_type == "code"]


def config_cell(document: Any) -> Any:
    (cell,) = [cell for cell in code_cells(document) if "parameters" in cell.metadata.get("tags", [])]
    return cell


def metadata(name: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((ROOT / "kaggle_notebooks" / name / "kernel-metadata.json").read_text())
    return value


# As they lie there ----------------------------------------------------------------------------------------------------


def test_there_are_the_four_notebooks_and_no_other() -> None:
    assert {path.name for path in (ROOT / "kaggle_notebooks").iterdir() if path.is_dir()} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_short_and_clean(name: str) -> None:
    document = notebook(name)
    nbformat.validate(document)
    cells = code_cells(document)
    lines = [line for cell in cells for line in cell.source.splitlines() if line.strip()]
    assert len(lines) <= 40
    assert not [line for line in lines if re.match(r"\s*(def|class|while|async|%%)\b", line)]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)
    assert len({cell.id for cell in document.cells}) == len(document.cells)
    assert document.cells[0].cell_type == "markdown" and cells[0] is config_cell(document)
    assert re.fullmatch(r"([A-Z_]+ = .*\n( .*\n|}\n?)*)+", config_cell(document).source + "\n")


@pytest.mark.parametrize("name", NAMES)
def test_kaggle_can_push_a_notebook(name: str) -> None:
    found = metadata(name)
    assert found["id"].partition("/")[2] == found["title"] == f"arc-kaggle-{name.replace('_', '-')}"
    assert (ROOT / "kaggle_notebooks" / name / found["code_file"]).is_file()
    assert (found["language"], found["kernel_type"], found["is_private"]) == ("python", "notebook", True)
    assert found["enable_internet"] is (name == "wheels")
    assert found["enable_gpu"] is (name != "wheels")
    assert found.get("machine_shape") in (["NvidiaTeslaT4", "NvidiaL4", "NvidiaL4X1"] if name != "wheels" else [None])
    assert (found["docker_image"], found["docker_image_pinning_type"]) == (PINNED_IMAGE, "original")
    sources = {kind: found[f"{kind}_sources"] for kind in ("competition", "dataset", "model", "kernel")}
    assert sources["competition"] == ([SLUG] if name == "submission" else [])
    assert sources["kernel"] == ([] if name == "wheels" else [metadata("wheels")["id"]])


def test_the_submission_has_one_option_for_each_choice() -> None:
    options = re.findall(r"^([A-Z_]+) =", config_cell(notebook("submission")).source, re.MULTILINE)
    assert options == ["MODEL", "ADAPTER", "PRESET", "ENGINE", "TUNER", "TIME_LIMIT_MINUTES", "COMPETITION", "OPTIONS"]


def test_the_readme_names_every_preset() -> None:
    text = (ROOT / "kaggle_notebooks" / "README.md").read_text(encoding="utf-8")
    assert [
        name for name in (*MODELS, *MACHINES, *NAMES) if not re.search(rf"[| `,]{re.escape(name)}[`, ]", text)
    ] == []
    for name, preset in MODELS.items():
        (row,) = re.findall(rf"^\| `{re.escape(name)}` \|.*", text, re.MULTILINE)
        cells = dict(zip(("T4", "L4"), row.split("|")[3:5], strict=True))
        for kind, cell in cells.items():
            options = {**preset.options, **preset.on[kind]}
            assert f"{options['tune.max_tokens']} tokens" in cell and ("nf4" in cell) == options.get("four_bit", False)


# As they run ----------------------------------------------------------------------------------------------------------


class Session:
    """A notebook's session: its inputs, its working folder, and what came of it."""

    def __init__(self, folder: Path, flat: bool = False) -> None:
        self.tree = Tree(folder / "input", flat)
        self.tree.root.mkdir()
        self.working = folder / "working"
        self.working.mkdir()
        if BUNDLE:
            self.tree.add_bundle(Path(BUNDLE))

    def run(self, name: str, config: dict[str, Any], **environment: str) -> int:
        """Execute a notebook with some lines of its config cell rewritten, and nothing else; 0 where it ended well."""
        document = notebook(name)
        cell = config_cell(document)
        cell.source = rewrite(cell.source, config)
        document.cells.append(nbformat.v4.new_code_cell(LAST_CELL))
        nbformat.write(document, self.working.parent / "fork.ipynb")
        runner = str(Path(__file__).parents[1] / "run_notebook.py")
        words = [*cut_off(), sys.executable, runner, str(self.working.parent / "fork.ipynb"), str(self.result_path)]
        started = time.monotonic()
        done = subprocess.run(words, cwd=self.working, env=self._environment(**environment), check=False)
        self.seconds = time.monotonic() - started
        return done.returncode

    def _environment(self, **more: str) -> dict[str, str]:
        ours = {name: value for name, value in os.environ.items() if name not in NOT_PASSED_ON}
        if KERNEL:
            spec = self.working.parent / "jupyter" / "kernels" / "python3" / "kernel.json"
            spec.parent.mkdir(parents=True, exist_ok=True)
            argv = [KERNEL, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
            spec.write_text(json.dumps({"argv": argv, "display_name": "bundle", "language": "python"}))
            ours["JUPYTER_PATH"] = str(self.working.parent / "jupyter")
        else:
            ours["PYTHONPATH"] = str(ROOT)
        return {**ours, "ARC_KAGGLE_INPUT": str(self.tree.root), **more}

    @property
    def result_path(self) -> Path:
        return self.working.parent / "result.ipynb"

    @property
    def said(self) -> str:
        """All that the cells printed, and the errors that they ended with."""
        outputs = [out for cell in code_cells(nbformat.read(self.result_path, as_version=4)) for out in cell.outputs]
        return "".join(out.get("text", "") + out.get("evalue", "") for out in outputs)

    @property
    def answered(self) -> tuple[int, int]:
        """Of a valid submission: test inputs with another answer than the fallback's, and all of them."""
        (file,) = self.tree.root.rglob(TEST_FILE)
        tasks, path = load_tasks(file), self.working / "submission.json"
        assert set(json.loads(path.read_text())) == {task.id for task in tasks}
        read_submission(path, tasks)
        return count_answered(path, tasks)


def rewrite(source: str, config: dict[str, Any]) -> str:
    for name, value in config.items():
        source, n = re.subn(rf"^{name} = .*(\n .*)*(\n}})?", f"{name} = {value!r}", source, flags=re.MULTILINE)
        assert n == 1, f"the config cell has no {name}"
    return source


def cut_off() -> list[str]:
    """What goes before a command so that it has no network at all; nothing where this machine does not allow it."""
    words = ["unshare", "--map-root-user", "--net"]
    try:
        return words if subprocess.run([*words, "true"], capture_output=True, check=False).returncode == 0 else []
    except FileNotFoundError:
        return []


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    yield Session(tmp_path)


@pytest.mark.torch
def test_a_rerun_answers_the_hidden_tasks_in_time(session: Session) -> None:
    session.tree.add_competition(hidden_tasks(N_TASKS))
    session.tree.add_model("my-model")
    minutes = 2 + N_TASKS / 6
    config = {"TIME_LIMIT_MINUTES": minutes, "OPTIONS": QUICK}
    assert session.run("submission", config, **{RERUN_VARIABLE: "1"}) == 0, session.said
    n_answered, n_all = session.answered
    assert n_answered >= 0.9 * n_all and n_all >= N_TASKS
    assert session.seconds < 60 * minutes
    assert f"{n_answered} of {n_all}" in session.said and "my-model" in session.said
    assert not (session.working / "rehearsal").exists()
    assert (f"package at {ROOT / 'arc_kaggle'}" in session.said) == (KERNEL is None)


@pytest.mark.torch
def test_an_adapter_that_is_attached_answers_with_its_base(tmp_path: Path) -> None:
    """Nothing names it, and competitions are mounted as SLUG, not as competitions/SLUG.

    `make test-real` takes a real language model for the base.
    """
    session = Session(tmp_path, flat=True)
    session.tree.add_competition(hidden_tasks(1))
    base = session.tree.add_model("base", source=Path(os.environ.get("ARC_KAGGLE_REAL_MODEL", BOX_FOLDER)))
    adapter = session.tree.root / "mine"
    write_adapter(base, adapter)
    quick = {"recipe": "lora", "tune.steps": 1, "tune.max_tokens": 1024, "generate.n_views": 1, "quick_views": 1}
    config = {"TIME_LIMIT_MINUTES": 8, "OPTIONS": {**quick, "workers": 1}}
    assert session.run("submission", config, **{RERUN_VARIABLE: "1"}) == 0, session.said
    assert f"adapter       {adapter}" in session.said
    used = json.loads((session.working / "config.json").read_text())
    assert (used["adapter"], used["tune"]["lora"]["rank"]) == (str(adapter), 2)
    reports = json.loads((session.working / "report.json").read_text())["reports"]
    assert [report["run"]["tune"]["tuned"] for report in reports] == [True], session.said
    assert session.answered[1] >= 1


def write_adapter(base: Path, folder: Path) -> None:
    from arc_kaggle.config.tune import LoraConfig
    from arc_kaggle.models.loading import load_model
    from arc_kaggle.tuning.tunable_weights import LoraAdapter

    adapter = LoraAdapter(load_model(base, "fp32", "cpu"), LoraConfig(rank=2))
    adapter.reset(0)
    folder.mkdir(parents=True)
    adapter.save(folder)


@pytest.mark.torch
def test_a_commit_rehearses(session: Session) -> None:
    session.tree.add_competition(hidden_tasks(6))
    session.tree.add_model("my-model")
    assert session.run("submission", {"OPTIONS": QUICK}) == 0, session.said
    assert session.answered[0] == 0
    assert re.search(r"^ok +stop: ", session.said, re.MULTILINE)
    assert re.search(r"as those of the file: 4 of 4 tasks, .* h for 6, fits", session.said)
    assert re.search(r"of the largest size: none was tuned and answered; base: .* fit 2048 tokens", session.said)
    cells = code_cells(nbformat.read(session.result_path, as_version=4))
    shown = [out.get("data", {}).get("text/html", "") for cell in cells for out in cell.outputs]
    frames = [text for text in shown if "<iframe" in text]
    assert len(frames) == 1 and (session.working / "report.html").is_file()


@pytest.mark.torch
def test_a_fork_is_another_config_cell(tmp_path: Path) -> None:
    session = Session(tmp_path, flat=True)
    session.tree.add_competition(hidden_tasks(3))
    for name in ("one", "other"):
        session.tree.add_model(name)
    config = {"MODEL": "other", "ENGINE": "fake", "COMPETITION": SLUG, "OPTIONS": {"recipe": "none"}}
    assert session.run("submission", config, **{RERUN_VARIABLE: "1"}) == 0, session.said
    assert f"{session.tree.root / 'other'}" in session.said and "--engine fake" in session.said
    assert session.answered[1] >= 3


@pytest.mark.torch
@pytest.mark.parametrize("rerun", ["", "1"])
def test_what_is_missing_ends_a_commit_but_never_a_rerun(rerun: str, session: Session) -> None:
    session.tree.add_competition(hidden_tasks(3))
    assert session.run("submission", {}, **{RERUN_VARIABLE: rerun}) == (0 if rerun else 1)
    assert "found no model" in session.said
    assert session.answered[0] == 0


@pytest.mark.torch
def test_wheels_are_built_by_the_command_of_the_source_that_is_named(session: Session) -> None:
    assert session.run("wheels", {"SOURCE": str(ROOT), "PROFILE": "no-such-profile"}) == 1
    assert "no-such-profile" in session.said and "small-py312" in session.said


@pytest.mark.torch
def test_a_model_is_trained(session: Session) -> None:
    options = {"hidden_size": 32, "n_layers": 1, "steps": 3, "tokens_per_batch": 512, "max_tokens": 256}
    few = {**options, "validation_puzzles": 1, "first_max_tokens": 128}
    session.run("train", {"DATA": ["arc1:training"], "MAX_MINUTES": 2, "OPTIONS": few})
    assert (session.working / "model" / "model.safetensors").is_file(), session.said


@pytest.mark.torch
def test_a_dry_run_gives_scores_curves_and_pictures(session: Session) -> None:
    session.tree.add_model()
    config = {"SELECT": "shortest:2", "OPTIONS": {"generate.n_views": 2, "recipe": "none"}, "SORT_BY": "accuracy"}
    assert session.run("dry_run", config) == 0, session.said
    assert "two attempts" in session.said
    cells = code_cells(nbformat.read(session.result_path, as_version=4))
    pictures = [out for cell in cells for out in cell.outputs if "image/png" in out.get("data", {})]
    assert len(pictures) == 2
    (frame,) = [
        out["data"]["text/html"] for cell in cells for out in cell.outputs if "text/html" in out.get("data", {})
    ]
    assert "<iframe" in frame and "Content-Security-Policy" in frame and "outvoted" in frame
    assert (session.working / "report.html").is_file()
