"""What the notebooks call: mounts, options for machine and model, and a submission that is valid whatever happens."""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tyro
from kaggle_tree import SLUG, Tree, hidden_tasks
from processes import fake_config

from arc_kaggle.answering.candidates import Prediction
from arc_kaggle.answering.submission import read_submission
from arc_kaggle.config.answer import RescoreConfig
from arc_kaggle.config.model import BOX_FOLDER, ModelOptions, options_of
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.config.tune import RECIPES
from arc_kaggle.errors import ArcKaggleError, ConfigError, MountError, WorkerError
from arc_kaggle.kaggle import (
    check_submission,
    draw_predictions,
    find_mounts,
    input_root,
    is_rerun,
    notebook,
    run,
    submit,
)
from arc_kaggle.kaggle.machines import MACHINES, MODELS, as_words, machine_named, model_named, options_for
from arc_kaggle.kaggle.mounts import RERUN_VARIABLE, TEST_FILE
from arc_kaggle.kaggle.notebook import count_answered, find_model
from arc_kaggle.kaggle.pictures import AnsweredQuery, label, read_answers, report_frame, solver
from arc_kaggle.kaggle.rehearsal import largest_tasks, of_preflight, projection, read_runs, usual_tasks
from arc_kaggle.run.records import TaskRun
from arc_kaggle.run.solve import solve
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.system.hardware import Gpu, find_gpus
from arc_kaggle.tasks.augmentation import Augmentation
from arc_kaggle.tasks.dataset import load_tasks
from arc_kaggle.tasks.task import Pair, Task
from arc_kaggle.tuning.outcome import TuneReport

TASKS = hidden_tasks(3)
FAKE = {"model": "box", "engine": "fake", "options": {"recipe": "none"}}

GPU_GIB = {"T4": 14.7, "L4": 22.0}
"""Memory of one GPU that a process can have, GiB."""


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    """An empty folder of mounts, and an empty working folder to run in."""
    for name in ("input", "working"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "working")
    monkeypatch.setenv("ARC_KAGGLE_INPUT", str(tmp_path / "input"))
    monkeypatch.delenv(RERUN_VARIABLE, raising=False)
    return Tree(tmp_path / "input")


def touch(folder: Path, *names: str, text: str = "{}") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text(text)
    return folder


# Mounts ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flat", [False, True])
def test_everything_is_found_by_content_in_both_conventions(flat: bool, tmp_path: Path) -> None:
    tree = Tree(tmp_path, flat)
    competition, model = tree.add_competition(TASKS), tree.add_model()
    root = tmp_path if flat else tmp_path / "datasets" / "someone"
    adapter = touch(root / "lora", "adapter_config.json", "adapter_model.safetensors", "config.json")
    bundle = touch(root / "wheels", "manifest.json", text='{"profile": "p", "wheels": []}')
    other = touch(tmp_path / "notebooks" / "someone" / "train", "__notebook__.ipynb")
    touch(root / "no-bundle", "manifest.json")
    touch(root / "no-model", "config.json")
    mounts = find_mounts(tmp_path)
    found = (mounts.competitions, mounts.models, mounts.adapters, mounts.bundles, mounts.notebooks)
    assert found == ((competition,), (model,), (adapter,), (bundle,), (other,))
    assert (mounts.competition(), mounts.model(), mounts.bundle()) == (competition, model, bundle)
    assert [line.split()[0] for line in mounts.text.splitlines()] == [
        *("competitions", "models", "adapters", "bundles", "notebooks")
    ]


def test_what_is_mounted_twice_is_one(tmp_path: Path) -> None:
    folders = [Tree(tmp_path, flat).add_competition(TASKS) for flat in (False, True)]
    assert find_mounts(tmp_path).competition() in folders


def test_links_are_followed_and_never_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "input").mkdir()
    model = Tree(tmp_path / "elsewhere").add_model()
    for name in ("one", "other"):
        (tmp_path / "input" / name).symlink_to(model)
    (tmp_path / "input" / "back").symlink_to(tmp_path / "input")
    assert find_mounts(tmp_path / "input").models == (tmp_path / "input" / "one",)


def test_checkpoints_within_a_model_are_part_of_it(tmp_path: Path) -> None:
    model = Tree(tmp_path).add_model()
    touch(model / "checkpoints" / "step-10", "config.json", "model.safetensors")
    assert find_mounts(tmp_path).models == (model,)


def test_nothing_is_looked_for_in_hidden_folders_or_very_deep(tmp_path: Path) -> None:
    for folder in (tmp_path / ".cache", tmp_path.joinpath(*"abcdefghi")):
        touch(folder, "config.json", "model.safetensors")
    assert find_mounts(tmp_path).models == ()
    assert find_mounts(tmp_path / "nowhere").models == ()


def test_of_several_the_option_decides(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    one, other, long = (tree.add_model(name) for name in ("one", "other", "one-long"))
    mounts = find_mounts(tmp_path)
    assert [mounts.model(name) for name in ("one", "OTHER", "long")] == [one, other, long]
    with pytest.raises(MountError, match=r"found 3 of model .*/one/.*/other/.*; expected one; let MODEL in the config"):
        mounts.model()
    with pytest.raises(
        MountError, match=r"found no model .* with 'third' in its path.*there are .*/other/.*let MODEL in"
    ):
        mounts.model("third")


@pytest.mark.parametrize(
    ("kind", "what"), [("competition", TEST_FILE), ("model", "config.json"), ("bundle", "manifest")]
)
def test_what_is_not_there_is_named(kind: str, what: str, tmp_path: Path) -> None:
    with pytest.raises(MountError, match=rf"{tmp_path}: found no .*{what}.*, expected one; attach it .* by Add Input"):
        getattr(find_mounts(tmp_path), kind)()


@pytest.mark.parametrize(
    ("value", "is_one"), [("", False), ("0", False), ("False", False), ("1", True), ("True", True)]
)
def test_a_rerun_is_known_by_the_environment(value: str, is_one: bool) -> None:
    assert is_rerun({RERUN_VARIABLE: value}) is is_one and not is_rerun({})
    assert input_root({}) == Path("/kaggle/input") and input_root({"ARC_KAGGLE_INPUT": "/x"}) == Path("/x")


# Machines and models --------------------------------------------------------------------------------------------------

T4, L4 = Gpu("Tesla T4", 15.0, "7.5", "580.0"), Gpu("NVIDIA L4", 22.5, "8.9", "580.0")


def test_gpus_are_those_of_the_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_gpus() == ()
    program = tmp_path / "nvidia-smi"
    program.write_text('#!/bin/sh\necho "Tesla T4, 15360, 7.5, 580.0"\necho "Tesla T4, 15360, 7.5, 580.0"\n')
    program.chmod(0o755)
    assert find_gpus() == (T4, T4)
    program.write_text("#!/bin/sh\necho no driver; exit 9\n")
    assert find_gpus() == ()


def test_a_machine_is_known_by_its_gpus_or_by_name() -> None:
    assert machine_named("auto", [T4, T4]) is MACHINES["2xT4"]
    assert machine_named("auto", [L4]) is MACHINES["1xL4"] and machine_named("auto", [L4] * 4) is MACHINES["4xL4"]
    assert machine_named("auto", []) is machine_named("auto", [T4]) is machine_named("auto", [T4, L4]) is None
    assert machine_named("4xL4", []) is MACHINES["4xL4"]
    with pytest.raises(ConfigError, match="PRESET '8xH100': no such machine, expected auto or one of 2xT4, 1xL4, 4xL4"):
        machine_named("8xH100", [])


PATHS = {
    "models/qwen-lm/qwen2.5/transformers/0.5b-instruct/1": "qwen2.5-0.5b",
    "models/sorokin/qwen3_4b_grids15_sft139/Transformers/bfloat16/1": "nvarc-4b",
    "models/someone/llama-3.2-3b-architects-rearc/transformers/default/1": "architects-3b",
    "mistral-nemo-minitron-8b-architects-full": "architects-8b",
    "models/qwen-lm/qwen2.5/transformers/7b-instruct/1": "",
    "models/someone/my-model/transformers/small/1": "",
}


def test_known_models_are_told_by_their_paths() -> None:
    assert {path: model_named(path) for path in PATHS} == PATHS
    assert {name for name in PATHS.values() if name} == set(MODELS)


def configured(machine: str, model: str) -> SolveConfig:
    words = as_words({"tasks": "x", "out": "y", **options_for(MACHINES[machine], model)})
    recipe = MODELS[model].options["recipe"]
    return tyro.cli(SolveConfig, args=words, default=SolveConfig("x", Path("y"), recipe=recipe))


def shapes() -> dict[str, Any]:
    """Networks of the shapes of the checkpoints, without weights."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

    def make(kind: Any, layers: int, width: int, inner: int, heads: int, kept: int, tokens: int, head: int) -> Any:
        config = kind(
            num_hidden_layers=layers,
            hidden_size=width,
            intermediate_size=inner,
            num_attention_heads=heads,
            num_key_value_heads=kept,
            vocab_size=tokens,
            head_dim=head,
            tie_word_embeddings=False,
        )
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, dtype=torch.float16)

    return {
        "qwen2.5-0.5b": make(Qwen2Config, 24, 896, 4864, 14, 2, 151936, 64),
        "nvarc-4b": make(Qwen3Config, 36, 2560, 9728, 32, 8, 16, 128),
        "architects-3b": make(LlamaConfig, 28, 3072, 8192, 24, 8, 64, 128),
        "architects-8b": make(MistralConfig, 40, 4096, 11520, 32, 8, 64, 128),
    }


def test_every_preset_fits_its_machine_by_the_projection_of_preflight() -> None:
    from torch import nn

    from arc_kaggle.config.preflight import PreflightConfig
    from arc_kaggle.models.measured import project_memory
    from arc_kaggle.models.memory_formulas import GIB

    for model, network in shapes().items():
        linear = sum(
            m.weight.numel() for n, m in network.named_modules() if isinstance(m, nn.Linear) and n != "lm_head"
        )
        for name, machine in MACHINES.items():
            config = configured(name, model)
            footprint = project_memory(SimpleNamespace(network=network), config.generate, config.tune)  # type: ignore[arg-type]
            saved = linear * (2 - 0.5625) if config.four_bit else 0  # nf4: 4 bits and a 16-bit scale for every 256
            needed = PreflightConfig().memory_headroom * (footprint.peak - saved) / GIB
            assert needed <= GPU_GIB[machine.kind], f"{model} on {name}: {needed:.1f} GiB, {footprint}"
            assert config.tune.weights == "lora" and config.precision == ("fp16" if machine.kind == "T4" else "bf16")


def test_options_as_words() -> None:
    options = {
        "four_bit": True,
        "tune.lora.rslora": False,
        "overwrite": False,
        "recipes": ["none", "auto"],
        "out": Path("x"),
    }
    assert as_words(options) == [
        *("--four-bit", "--tune.lora.no-rslora", "--no-overwrite", "--recipes", "none", "auto", "--out", "x")
    ]
    words = as_words({**options, "tasks": "t"})
    del words[words.index("--recipes") : words.index("--out")]
    config = tyro.cli(SolveConfig, args=words, default=SolveConfig("", Path(), tune=RECIPES["lora"], overwrite=True))
    assert (config.four_bit, config.tune.lora.rslora, config.overwrite) == (True, False, False)


def test_a_model_is_found_by_preset_by_path_or_in_the_box(tmp_path: Path) -> None:
    tree = Tree(tmp_path, flat=True)
    box, qwen = tree.add_model("box-copy"), touch(tmp_path / "qwen2.5-0.5b-instruct", "config.json", "m.safetensors")
    mounts = find_mounts(tmp_path)
    assert find_model(mounts, "box") == (BOX_FOLDER, "")
    assert find_model(mounts, "qwen2.5-0.5b") == find_model(mounts, "instruct") == (qwen, "qwen2.5-0.5b")
    assert find_model(mounts, "copy") == find_model(mounts, str(box)) == (box, "")
    with pytest.raises(MountError, match="found no model"):
        find_model(mounts, "nvarc-4b")
    tuned = tree.add_model("qwen2.5-0.5b-tuned")
    assert find_model(find_mounts(tmp_path), "tuned") == (tuned, ""), "its card says how it is used"


# A submission ---------------------------------------------------------------------------------------------------------


def assert_valid(path: Path = Path("submission.json")) -> tuple[int, int]:
    read_submission(path, TASKS)
    return count_answered(path, TASKS)


def test_a_rerun_solves_what_is_there(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tree.add_competition(TASKS)
    tree.add_competition(hidden_tasks(2), "another")
    monkeypatch.setenv(RERUN_VARIABLE, "1")
    submit(**FAKE, competition=SLUG, time_limit_minutes=30, started=time.time() - 60)
    assert_valid()
    report = json.loads(Path("report.json").read_text())
    assert [row["task_id"] for row in report["reports"]] == [task.id for task in TASKS]
    minutes = json.loads(Path("config.json").read_text())["time_limit_minutes"]
    assert 28.5 < minutes < 29.05, "the minute since the start counts"
    assert "fake" in capsys.readouterr().out


@pytest.mark.parametrize("broken", ["find_options", "solve_options", "run"])
def test_what_breaks_a_rerun_is_told_and_leaves_a_valid_file(
    broken: str, tree: Tree, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tree.add_competition(TASKS)
    monkeypatch.setattr(notebook, broken, break_down)
    monkeypatch.setenv(RERUN_VARIABLE, "1")
    submit(**FAKE)
    assert "RuntimeError: injected" in capsys.readouterr().out
    assert_valid()


@pytest.mark.parametrize("broken", ["find_options", "rehearse"])
def test_what_breaks_a_commit_is_raised_behind_a_valid_file(
    broken: str, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree.add_competition(TASKS)
    monkeypatch.setattr(notebook, broken, break_down)
    with pytest.raises(RuntimeError, match="injected"):
        submit(**FAKE)
    assert_valid()


def break_down(*_: Any, **__: Any) -> None:
    assert_valid()
    raise RuntimeError("injected")


def test_a_model_that_cannot_be_loaded_leaves_the_fallback(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tree.add_competition(TASKS)
    (tree.add_model() / "model.safetensors").write_bytes(b"no weights")
    monkeypatch.setenv(RERUN_VARIABLE, "1")
    submit()
    assert "arc-kaggle solve ended with exit code" in capsys.readouterr().out
    check_submission()
    assert assert_valid()[0] == 0


def test_a_run_that_dies_is_begun_once_more(tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.add_competition(TASKS)
    kill = "once.touch(); os.kill(os.getpid(), 9)"
    site = f"import os, sys\nfrom pathlib import Path\nonce = Path({str(tmp_path / 'once')!r})\n"
    (tmp_path / "sitecustomize.py").write_text(
        f"{site}if 'solve' in sys.orig_argv and not once.exists():\n    {kill}\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv(RERUN_VARIABLE, "1")
    submit(**FAKE)
    assert len(json.loads(Path("report.json").read_text())["reports"]) == len(TASKS)
    assert (tmp_path / "once").exists()


def test_without_time_nothing_is_started(tree: Tree) -> None:
    tree.add_competition(TASKS)
    with pytest.raises(ConfigError, match="minutes left, expected some; raise TIME_LIMIT_MINUTES"):
        submit(**FAKE, time_limit_minutes=1, started=time.time() - 90)
    assert_valid()


@pytest.mark.parametrize("content", [None, "", "{}", '{"x": []}', "torn"])
def test_the_check_puts_the_fallback_in_place_of_what_is_not_valid(
    content: str | None, tree: Tree, capsys: pytest.CaptureFixture[str]
) -> None:
    tree.add_competition(TASKS)
    if content is not None:
        Path("submission.json").write_text(content)
    check_submission()
    out = capsys.readouterr().out
    assert "not valid, so the fallback takes its place: " in out
    assert f"3 tasks, 0 of {assert_valid()[1]} test inputs answered" in out


def test_the_check_leaves_what_is_valid(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tree.add_competition(TASKS)
    answers = json.loads((folder / "sample_submission.json").read_text())
    answers[TASKS[0].id][0]["attempt_2"] = [[9, 9, 9]]
    Path("submission.json").write_text(text := json.dumps(answers))
    check_submission()
    assert Path("submission.json").read_text() == text
    assert "3 tasks, 1 of " in capsys.readouterr().out


# Commands -------------------------------------------------------------------------------------------------------------


def test_a_command_shows_what_it_says_and_how_it_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("score", "--help")
    assert "usage: arc-kaggle score" in capsys.readouterr().out
    with pytest.raises(WorkerError, match="arc-kaggle score ended with exit code 2"):
        run("score", str(tmp_path), options={"tasks": "nowhere"})
    assert "tasks 'nowhere': found no such file" in capsys.readouterr().out


def test_a_command_that_hangs_is_ended_with_all_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = (
        "import subprocess, sys, time; subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(600)'])"
    )
    (tmp_path / "sitecustomize.py").write_text(f"{child}\ntime.sleep(600)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    started = time.monotonic()
    with pytest.raises(WorkerError, match="exit code -9"):
        run("score", deadline=Deadline.after(-57))
    assert time.monotonic() - started < 30


def test_the_kernel_never_imports_torch(tree: Tree) -> None:
    tree.add_competition(TASKS)
    code = (
        "import sys\nfrom arc_kaggle.kaggle import submit, check_submission\nimport arc_kaggle.commands.doctor\n"
        "submit('box', engine='fake', options={'recipe': 'none'})\ncheck_submission()\n"
        "assert not {'torch', 'transformers', 'peft'} & sys.modules.keys()"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "rehearsal: 3 tasks have" in done.stdout


# The rehearsal --------------------------------------------------------------------------------------------------------


def test_a_rehearsal_takes_tasks_of_all_lengths_and_of_the_largest_size() -> None:
    tasks = load_tasks("arc1:evaluation", "shortest:40")
    usual = usual_tasks(tasks)
    assert [task.id for task in usual] == [tasks[i].id for i in (5, 15, 25, 35)]
    assert not any(task.has_solution for task in usual)
    assert len(usual_tasks(tasks[:2])) == 2
    for task in largest_tasks():
        grids = [grid for pair in task.train for grid in (pair.input, pair.output)] + [task.test[0].input]
        assert len(task.train) == 10 and {grid.shape for grid in grids if grid is not None} == {(30, 30)}
        assert not task.has_solution and len(np.unique(task.test[0].input)) == 10


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("model", MODELS)
def test_a_rehearsal_asks_preflight_for_the_very_run(machine: str, model: str) -> None:
    """4-bit weights, a cut vocabulary, lengths of fine-tuning and scores included."""
    from arc_kaggle.config.preflight import PreflightConfig

    settings = {**options_for(MACHINES[machine], model), "engine": "hf", "rescore.n_views": 4, "select_by": "poe"}
    default = PreflightConfig(recipe=MODELS[model].options["recipe"])
    asked = tyro.cli(PreflightConfig, args=as_words(of_preflight(settings)), default=default).run
    scored = {"rescore": RescoreConfig(n_views=4), "select_by": "poe"}
    expected = replace(configured(machine, model), engine="hf", **scored)
    assert options_of(asked, ModelOptions) == options_of(expected, ModelOptions)


def task_run(task_id: str, tuning: float, answering: float, reason: str = "answered", tuned: bool = True) -> TaskRun:
    return TaskRun(
        task_id, TuneReport(tuned, "" if tuned else "out of memory", seconds=tuning), answering, {reason: 8}, 0
    )


def test_the_projection_is_the_mean_times_the_tasks_against_the_time() -> None:
    runs = [task_run("a", 10, 5), task_run("b", 20, 15), task_run("largest0", 100, 50)]
    head, usual, largest, _ = projection(runs, 240, 1, 10_000).splitlines()
    assert head == "rehearsal: 240 tasks have 2.78 h on 1 workers"
    assert usual.endswith("2 of 2 tasks, 15.0 s fine-tuning and 10.0 s answering each: 1.67 h for 240, fits")
    assert largest.endswith("10.00 h for 240, DOES NOT FIT")
    assert projection(runs, 240, 4, 10_000).splitlines()[2].endswith("2.50 h for 240, fits")
    assert "as those of the file: none was tuned and answered" in projection(runs[2:], 240, 1, 10_000)


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (task_run("largest1", 0, 2, "prompt_too_long"), "not answered: prompt_too_long"),
        (task_run("largest1", 3, 2, "deadline"), "not answered: deadline"),
        (task_run("largest1", 3, 2, tuned=False), "base: out of memory"),
    ],
)
def test_a_task_counts_only_where_it_was_tuned_and_answered(other: TaskRun, why: str) -> None:
    """One that was passed over in a moment would say that there is time for all."""
    both, alone = ([task_run("a", 10, 5), *largest, other] for largest in ([task_run("largest0", 100, 50)], []))
    assert (
        projection(both, 240, 1, 10_000)
        .splitlines()[2]
        .endswith("1 of 2 tasks, 100.0 s fine-tuning and 50.0 s answering each: 10.00 h for 240, DOES NOT FIT")
    )
    said = projection(alone, 240, 1, 10_000).splitlines()[2]
    assert said == f"  of the largest size: none was tuned and answered; {why}"
    ended = [task_run("largest0", 100, 50, "no_end")]  # it was asked until the limit of tokens
    assert "1 of 1 tasks" in projection(ended, 240, 1, 10_000)


def test_a_run_that_does_not_tune_counts() -> None:
    run = TaskRun("a", TuneReport(False, "no fine-tuning asked for"), 5, {"answered": 2}, 0)
    assert "1 of 1 tasks, 0.0 s fine-tuning and 5.0 s answering" in projection([run], 10, 1, 100)


def test_a_rehearsal_without_an_answer_is_an_error(tmp_path: Path) -> None:
    report = (
        touch(tmp_path, "report.json", text='{"reports": [{"run": null, "verdict": "not reached"}]}') / "report.json"
    )
    with pytest.raises(WorkerError, match="found no task that is through, expected some of 1: not reached"):
        read_runs(report)


# Pictures -------------------------------------------------------------------------------------------------------------


def test_answers_are_drawn_lowest_score_first(tmp_path: Path) -> None:
    config = fake_config(tmp_path, 4)
    solve(config)
    by_id = {task.id: task for task in load_tasks(config.tasks)}
    answers = {answer.task.id: answer.score for answer in read_answers(config.out, by_id, "accuracy")}
    assert answers == {"t00": 1.0, "t01": 0.0, "t02": 1.0, "t03": 0.5}
    path = draw_predictions(tmp_path, config.tasks, tmp_path / "p.svg", "accuracy", n_tasks=3)
    text = path.read_text()
    assert text.index("t01 accuracy 0.00") < text.index("t03 accuracy 0.50") < text.index("t00 accuracy 1.00")
    assert "t02" not in text and "3 of 4 tasks, lowest accuracy of the model's own answers first" in text
    assert "t01 accuracy 0.00, not solved" in text and "t00 accuracy 1.00, solved by the model" in text


@pytest.mark.parametrize(("turned", "who"), [(True, "a simple rule"), (False, "a guess")])
def test_a_picture_says_who_solved_what_the_model_did_not(turned: bool, who: str) -> None:
    """The model says 7 everywhere; the right attempt is a mirror of the input, which a rule finds, or from nowhere."""
    inputs = [np.array([[1, 2], [3, i]], np.int8) for i in range(4, 7)]
    right = [np.ascontiguousarray(np.fliplr(grid)) if turned else (grid * grid % 7).astype(np.int8) for grid in inputs]
    task = Task("a", tuple(map(Pair, inputs[:2], right[:2])), (Pair(inputs[2], right[2]),))
    sevens = np.full((2, 2), 7, np.int8)
    found = [Prediction("a", 0, 0, Augmentation(), "77\n77", sevens, None, -1.0, 4)]
    attempts = (sevens, right[2])
    solvers = [solver(query, attempts, found) for query in task.queries]
    answer = AnsweredQuery(task, [attempts], solvers, 0.0)
    assert label(answer, "correct_pixels", 0) == f"a correct_pixels 0.00, solved by {who}"


def test_pictures_of_what_is_not_there(tmp_path: Path) -> None:
    config = fake_config(tmp_path, 2)
    with pytest.raises(ConfigError, match="found no run of `solve` in it or below"):
        draw_predictions(tmp_path, config.tasks, tmp_path / "p.png")
    solve(config)
    with pytest.raises(ConfigError, match="score 'acuracy': no such score, expected one of accuracy"):
        draw_predictions(tmp_path, config.tasks, tmp_path / "p.png", "acuracy")
    with pytest.raises(ArcKaggleError, match="found task t00, expected it among the tasks"):
        draw_predictions(tmp_path, "arc1:training", tmp_path / "p.png")


def test_the_report_stands_in_a_frame_that_reaches_nothing_around_it(tmp_path: Path) -> None:
    config = fake_config(tmp_path, 3)
    solve(config)
    frame = report_frame(tmp_path, tmp_path / "report.html")
    (inner,) = re.findall(r'srcdoc="([^"]*)"', frame)
    assert html.unescape(inner) == (tmp_path / "report.html").read_text()
    assert 'sandbox="allow-scripts"' in frame and "allow-same-origin" not in frame
    assert all(f"t{i:02}" in inner for i in range(3))
    with pytest.raises(ConfigError, match="found no run of `solve` in it or below"):
        report_frame(tmp_path / "out" / "predictions")


# Adapters -------------------------------------------------------------------------------------------------------------


def add_adapter(tree: Tree, name: str = "lora", card: bool = False) -> Path:
    """A folder as peft writes it, with a checkpoint of its training in it."""
    folder = tree.root / name if tree.flat else tree.root / "datasets" / "someone" / name
    names = ("adapter_config.json", "adapter_model.safetensors", *(["arc_kaggle.json"] if card else []))
    touch(folder / "checkpoints" / "step-10", *names)
    return touch(folder, *names)


@pytest.mark.parametrize("flat", [False, True])
def test_an_adapter_that_is_attached_is_used_with_its_base(flat: bool, tree: Tree) -> None:
    tree = replace(tree, flat=flat)
    model = tree.add_model()
    assert "adapter" not in notebook.find_options(find_mounts(), "auto", "auto")
    adapter = add_adapter(tree)
    touch(tree.root / "kept" / "task", "adapter_config.json", "adapter_model.safetensors", "task.json")  # of one task
    mounts = find_mounts()
    assert mounts.adapters == (adapter,)
    found = notebook.find_options(mounts, "auto", "auto")
    assert (found["model"], found["adapter"]) == (str(model), str(adapter))
    assert "adapter" not in notebook.find_options(mounts, "auto", "auto", "none")


def test_of_several_adapters_the_option_decides(tree: Tree) -> None:
    tree.add_model()
    first, second = add_adapter(tree, "first"), add_adapter(tree, "second")
    mounts = find_mounts()
    with pytest.raises(MountError, match=r"found 2 of adapter .*first, .*second; expected one; let ADAPTER"):
        mounts.adapter()
    assert (mounts.adapter("first"), mounts.adapter("second"), mounts.adapter("none")) == (first, second, None)
    with pytest.raises(MountError, match=r"found no adapter .* with 'third' in its path"):
        mounts.adapter("third")


def test_an_adapter_with_a_card_says_itself_how_it_is_asked(tree: Tree) -> None:
    """The preset of its base still says what suits the machine."""
    tree.add_model("qwen2.5-0.5b-instruct", source=touch(tree.root.parent / "qwen", "config.json", "w.safetensors"))
    add_adapter(tree, card=True)
    mounts = find_mounts()
    base, found = (notebook.find_options(mounts, "auto", "auto", adapter) for adapter in ("none", "auto"))
    assert {**base, "adapter": found["adapter"]} == {**found, "prompt": "arc24", "recipe": "arc24"}
