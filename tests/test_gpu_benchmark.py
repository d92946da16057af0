"""The benchmarks of a GPU: slices of time that hold, rows that fail and are told, and all of it on a CPU, as a toy."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from arc_kaggle.models.memory_formulas import read_shape

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
Told = dict[str, Any]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return import_module("gpu")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_parts_keep_to_their_slices_and_lend_what_they_leave_over(gpu: Any, tmp_path: Path) -> None:
    clock, costs = Clock(), {"short": 3.0, "endless": 1e9, "long": 14.0}
    ends: list[tuple[str, float]] = []

    def run(words: Sequence[str], seconds: float, tell: Callable[[Told], None]) -> str:
        tell({"is": words[0]})
        cost = costs[words[0]]
        clock.now += min(cost, seconds)
        ends.append((words[0], clock.now))
        return f"stopped after {seconds:.0f} s" if cost > seconds else ""

    def failing() -> list[Any]:
        raise ValueError("no rows")

    rows = {name: gpu.Row(name, (name,)) for name in costs}
    parts = [
        gpu.Part("a", 10.0, lambda: [rows["short"]]),
        gpu.Part("b", 10.0, lambda: [rows["long"], gpu.Row("capped", ("endless",), 2.5)]),
        gpu.Part("c", 10.0, failing),
        gpu.Part("d", 10.0, lambda: [rows["endless"], rows["short"]]),
    ]
    results = gpu.Results(tmp_path, {})
    gpu.run_parts(parts, results, run, clock, 100.0)
    assert ends == [("short", 103.0), ("long", 117.0), ("endless", 119.5), ("endless", 140.0)]
    told = {part: json.loads((tmp_path / f"{part}.json").read_text())["rows"] for part in "abcd"}
    assert told["a"] == {"short": {"is": "short"}, "short: seconds": {"seconds": 3.0}}
    assert told["b"]["capped"] == {"is": "endless", "error": "stopped after 2 s"}
    assert told["c"] == {"rows": {"error": "ValueError: no rows"}}
    assert told["d"]["endless"] == {"is": "endless", "error": "stopped after 20 s"}
    assert told["d"]["short"] == {"error": "left out: 0 s were left of this part"}
    assert json.loads((tmp_path / "gpu.json").read_text())["parts"] == told


def test_rows_side_by_side_begin_at_once(gpu: Any, tmp_path: Path) -> None:
    begun, both = [], threading.Barrier(2, timeout=20)

    def run(words: Sequence[str], seconds: float, tell: Callable[[Told], None]) -> str:
        both.wait()  # neither goes on before the other has begun
        begun.append(words[0])
        return ""

    part = gpu.Part("a", 60.0, lambda: [gpu.Row(name, (name,)) for name in "xy"], together=True)
    gpu.run_parts([part], gpu.Results(tmp_path, {}), run, time.monotonic, time.monotonic())
    assert sorted(begun) == ["x", "y"]


def test_a_script_is_stopped_in_time_and_what_it_has_told_is_kept(gpu: Any, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text('print(\'{"row": "first"}\', flush=True)\nimport time\ntime.sleep(600)\n')
    (tmp_path / "bad.py").write_text("print('no JSON')\nprint('{\"a\": 1}')\nraise SystemExit('it broke')\n")
    told: list[Told] = []
    run = gpu.run_script(tmp_path)
    assert run([str(tmp_path / "slow.py")], 1.0, told.append) == "stopped after 1 s"
    assert run([str(tmp_path / "bad.py")], 20.0, told.append) == "exit code 1: it broke"
    assert told == [{"row": "first"}, {"a": 1}]
    assert "it broke" in (tmp_path / "log.txt").read_text()


def edition_3_trainers(tmp_path: Path, **environment: str) -> list[str]:
    """What the trainers of edition 3 would be started with, a line each: rank, processes, and words in brackets."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$RANK of $WORLD_SIZE:$(printf " [%s]" "$@")"\n')
    python.chmod(0o755)
    command = ["sh", str(BENCHMARKS / "edition3.sh"), "out", "rearc.jsonl.xz", "--steps", "7"]
    variables = {**os.environ, "PYTHON": str(python), "PRIORITY": "", **environment}
    return sorted(
        subprocess.run(command, env=variables, capture_output=True, text=True, check=True).stdout.splitlines()
    )


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_edition_3_is_trained_by_as_many_processes_as_asked_for(processes: int, tmp_path: Path) -> None:
    lines = edition_3_trainers(tmp_path, PROCESSES=str(processes))
    assert [line.partition(":")[0] for line in lines] == [f"{rank} of {processes}" for rank in range(processes)]
    assert all("[train] [--out] [out]" in line and "[--architecture] [grid]" in line for line in lines)
    assert all(line.endswith("[--keep-checkpoints] [3] [--steps] [7]") for line in lines)


def test_edition_3_goes_on_from_a_folder_whose_name_has_a_blank(tmp_path: Path) -> None:
    lines = edition_3_trainers(tmp_path, PROCESSES="2", START="as far/as it is")
    assert len(lines) == 2
    assert all("[--start] [as far/as it is] [--steps] [7]" in line for line in lines)
    assert not any("--architecture" in line for line in lines)


def test_what_a_training_left_comes_back_in_few_files(gpu: Any, tmp_path: Path) -> None:
    gpu_train = import_module("gpu_train")
    trained, out = tmp_path / "trained", tmp_path / "out"
    for folder in (trained, trained / "ema", trained / "checkpoints" / "9", out):
        folder.mkdir(parents=True)
    for path in ("config.json", "model.safetensors", "ema/config.json", "checkpoints/9/state.pt"):
        (trained / path).write_text(path)
    rows = [{"settings": 1}, {"step": 0}, *({"step": i, "tokens": 100 * i, "seconds": 7 + 2.0 * i} for i in (1, 2, 5))]
    (trained / "log.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert gpu_train.rate_of(trained / "log.jsonl") == (50.0, 9.0)
    assert gpu_train.steps_that_fit(100.0, 50.0, 10) == 475
    assert gpu_train.bring_back(trained, out).keys() == {"model.tar", "ema.tar", "log.jsonl"}
    with tarfile.open(out / "model.tar") as tar:
        assert tar.getnames() == ["model/config.json", "model/model.safetensors"]
    with tarfile.open(out / "ema.tar") as tar:
        assert tar.getnames() == ["ema/config.json"]


@pytest.mark.torch
def test_the_roofline_counts_the_products_that_a_network_makes(gpu: Any, tmp_path: Path) -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import LlamaConfig, LlamaForCausalLM

    roofline = import_module("roofline")
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "vocab_size": 40}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": False}
    model = LlamaForCausalLM(LlamaConfig(**sizes, **heads, attn_implementation="eager"))
    model.save_pretrained(tmp_path)
    shape, n_tokens = read_shape(tmp_path), 7
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.arange(n_tokens)[None])
    seen = n_tokens * n_tokens  # eager attention multiplies what its mask hides, too
    # the rotation's angles are products in the code of transformers alone
    angles = 2 * n_tokens * 4
    expected = roofline.forward(shape, n_tokens, seen, n_tokens, 4).flops
    assert counter.get_total_flops() - angles == expected


def test_the_rates_of_a_machine_are_those_of_products_and_copies(gpu: Any) -> None:
    peaks = import_module("roofline").measure_peaks("cpu", 64, 1)
    assert peaks.keys() == {"fp32", "bf16", "fp16", "bytes"} and min(peaks.values()) > 1e6


@pytest.mark.torch
def test_everything_runs_as_a_toy_and_a_row_that_fails_is_told(
    gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_here(words: Sequence[str], seconds: float, tell: Callable[[Told], None]) -> str:
        """As in a process of its own, whose imports would take most of the time."""
        monkeypatch.setattr(sys, "argv", list(words))
        printed, wrong = io.StringIO(), ""
        with redirect_stdout(printed):
            try:
                import_module(words[0].removesuffix(".py")).main()
            except (Exception, SystemExit) as error:
                wrong = f"{type(error).__name__}: {error}"
        gpu.hand_on(printed.getvalue().splitlines(), tell)
        return wrong

    # rates that no machine reaches: measured ones of a moment in which others compute are less than those of the rows
    rates = {"fp32": 1e13, "bf16": 1e13, "fp16": 1e13, "bytes": 1e12}
    monkeypatch.setattr(import_module("roofline"), "measure_peaks", lambda *_: rates)
    monkeypatch.setitem(gpu.SECONDS, "no such shape", 60)
    toy, shapes = gpu.AS_A_TOY, ("no such shape", "toy")
    checks = (*toy.checks, "--kinds", "qwen2", "grid")
    sizes = replace(toy, shapes=shapes, ways=("bf16",), checks=checks, whole_run=False)
    results = gpu.Results(tmp_path, {})
    parts = gpu.parts_of(sizes, "cpu", results, tmp_path / "scratch", 10.0)
    gpu.run_parts(parts, results, run_here, time.monotonic, time.monotonic())

    names = ["machine", "checks", "no such shape", "toy", "box"]
    assert sorted(path.stem for path in tmp_path.glob("*.json")) == sorted([*names, "gpu"])
    told = json.loads((tmp_path / "gpu.json").read_text())
    assert [name for name in told["failed"] if not name.startswith("no such shape")] == []
    assert {"no such shape: folder", "no such shape: airv", "no such shape: ttft"} <= told["failed"].keys()
    assert told["checks"] == {"equal": 10, "of": 10}, told["unequal"]
    rows = told["parts"]
    assert rows["machine"]["rates"]["peaks"] == rates
    for row in (*rows["toy"]["airv"]["roofline"].values(), *rows["toy"]["ttft"]["roofline"].values()):
        assert row["over_roofline"] > 1
    assert {"1 all prompts", "1 peer, batched", "3 shared prefix, 4 candidates"} <= rows["toy"]["airv"][
        "roofline"
    ].keys()
    assert all(row["over_roofline"] > 1 for name, row in rows["checks"].items() if "equal" in row), rows["checks"]
    (task,) = (row for name, row in rows["box"].items() if name.startswith("tasks, "))
    assert task["same_answers"] == task["of"] == 2 and task["device"]["over_roofline"]["answer"] > 1
