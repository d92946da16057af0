"""Preflight: a right prompt passes, a wrong one fails by name and figures and never by a traceback."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import torch
from models import VOCABULARY, lively_model, random_prompts
from strategies import TASK_JSON, WriteJson, small_task

from arc_kaggle.cli import main
from arc_kaggle.commands.preflight import preflight
from arc_kaggle.config.answer import GenerateConfig
from arc_kaggle.config.model import BOX_FOLDER
from arc_kaggle.config.preflight import PreflightConfig
from arc_kaggle.config.tune import LoraConfig, TuneConfig
from arc_kaggle.engines.placement import MachineMemory
from arc_kaggle.errors import ConfigError, ModelError
from arc_kaggle.evaluation.findings import Finding, Findings
from arc_kaggle.evaluation.model_checks import (
    check_engine,
    check_fp16,
    check_memory,
    check_stop,
    check_time,
    compare_nll,
)
from arc_kaggle.models.card import ModelCard, read_card, write_card
from arc_kaggle.models.loading import LoadedModel, load_model, save_model
from arc_kaggle.models.measured import (
    MeanTask,
    Speed,
    measure_speed,
    project_memory,
    project_seconds,
    shape_of,
)
from arc_kaggle.models.memory_formulas import Footprint
from arc_kaggle.models.new_model import new_model
from arc_kaggle.models.prompt_comparison import nll_per_cell, other_ways, swapped, unmarked
from arc_kaggle.text.presets import PRESETS
from arc_kaggle.text.prompt_format import PromptFormat
from arc_kaggle.tuning.tunable_weights import LoraAdapter

SMALL = GenerateConfig(n_views=2, max_prompt_tokens=200, max_new_tokens=56, tokens_per_batch=1024)
TASKS = (small_task(),)


def with_format(model: LoadedModel, fmt: PromptFormat) -> LoadedModel:
    return replace(model, notation=replace(model.notation, format=fmt))


@pytest.fixture(scope="module")
def box() -> LoadedModel:
    return load_model(BOX_FOLDER, "fp32", "cpu")


@pytest.fixture
def config(write_json: WriteJson) -> PreflightConfig:
    """Checks of the model in the box on real tasks; time by one small task, so that it takes no time."""
    sized_by = str(write_json("sized.json", {"a": TASK_JSON}))
    return PreflightConfig(precision="fp32", device="cpu", sized_by=sized_by, n_run_tasks=1, generate=SMALL)


def folder_with(fmt: PromptFormat, folder: Path) -> Path:
    """The model in the box under a card that says something else."""
    shutil.copytree(BOX_FOLDER, folder)
    card = read_card(BOX_FOLDER)
    assert card
    write_card(folder, ModelCard(fmt, card.recipe, {}, card.encoder, card.loss))
    return folder


def test_the_model_in_the_box_passes_under_its_own_prompt(config: PreflightConfig) -> None:
    report = preflight(config)
    names = [finding.name for finding in report.findings if finding.ok]
    nll = ["nll against swapped", "nll against unmarked"]
    assert names == ["engine", "cells", *nll, "stop", "fp16", "memory", "time"]
    assert report.failed == (), report.text
    levels = [finding.level for finding in report.findings]
    assert levels == ["ok"] * 4 + ["not run"] + ["ok"] * 4
    report.require(ModelError)


def test_an_adapter_is_judged_as_the_merged_model_is(config: PreflightConfig, tmp_path: Path) -> None:
    """An adapter that spoils the model fails by its likelihood; a cut vocabulary changes nothing of that."""
    adapter = LoraAdapter(load_model(BOX_FOLDER, "fp32", "cpu"), LoraConfig(4))
    torch.manual_seed(0)
    for factor in adapter.parameters:
        factor.data.normal_(std=0.05)
    adapter.save(tmp_path / "mine")
    assert main(["merge", str(BOX_FOLDER), str(tmp_path / "mine"), "--out", str(tmp_path / "merged")]) == 0

    def nll(**changes: object) -> str:
        report = preflight(replace(config, recipe="lora", n_tasks=3, **changes))
        return next(each.found for each in report.findings if each.name.startswith("nll"))

    on = nll(adapter=tmp_path / "mine")
    assert on == nll(adapter=tmp_path / "mine", cut_vocabulary=True) == nll(model=tmp_path / "merged")
    assert on != nll()


def test_what_comes_after_the_time_bound_is_left_out_and_said_to_be(config: PreflightConfig) -> None:
    """The clock moves on by a minute whenever it is read; at the fourth time the bound has passed."""
    minutes = count(0.0, 60.0)
    report = preflight(replace(config, time_bound_minutes=3.5), clock=lambda: next(minutes))
    assert [each.name for each in report.findings if each.ok] == ["engine", "cells", "memory"]
    assert {"nll against swapped", "stop", "fp16", "time"} <= set(report.not_run), report.text
    assert report.failed == () and "the time bound of preflight has passed; raise --time-bound-minutes" in report.text


def test_progress_is_told_in_a_log_and_checks_as_they_are_made(
    config: PreflightConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--precision", "fp32", "--device", "cpu", "--sized-by", config.sized_by, "--n-tasks", "1"]
    assert main(["preflight", *words, "--time-bound-minutes", "0.0001", "--min-ended", "0.01"]) == 0
    captured = capsys.readouterr()
    steps = [line.partition(" s, ")[2] for line in captured.err.splitlines() if line.startswith("preflight: ")]
    assert steps[:3] == ["loading torch and transformers", "loading the model", "comparing prompts"]
    assert re.search(r"^ok +engine: ", captured.out, re.MULTILINE)


def test_the_model_in_the_box_fails_under_a_wrong_card(config: PreflightConfig, tmp_path: Path) -> None:
    """Every token is known and every cell is one, so that likelihood alone gives it away, and says what is better."""
    card = read_card(BOX_FOLDER)
    assert card
    folder = folder_with(swapped(card.prompt_format), tmp_path / "wrong")
    report = preflight(replace(config, model=folder))
    assert {"nll against swapped", "nll against plain"} <= set(report.failed), report.text
    assert "--prompt plain suits the model better" in report.text
    with pytest.raises(ModelError, match="nll against plain"):
        report.require(ModelError)
    assert not {"nll against swapped", "nll against auto"} & set(
        preflight(replace(config, model=folder, prompt="plain")).failed
    )


@pytest.mark.parametrize("prompt", [name for name in PRESETS if name != "plain"] + ["chat", "no-such-prompt"])
def test_a_preset_that_the_tokenizer_does_not_take_fails_without_a_traceback(
    config: PreflightConfig, prompt: str
) -> None:
    report = preflight(replace(config, prompt=prompt))
    assert report.failed == ("cells",)
    assert report.not_run == ("stop, nll, fp16, memory, time",)
    assert report.text.splitlines()[1].startswith("FAILED  cells: ")
    with pytest.raises(ModelError, match="1 of 2 failed: cells"):
        report.require(ModelError)


def test_an_encoder_that_the_tokenizer_does_not_take_fails_too(config: PreflightConfig) -> None:
    assert preflight(replace(config, encoder="shape+rows+minimal")).failed == ("cells",)


def test_a_check_says_what_to_do_only_where_it_fails() -> None:
    good, bad = (Finding.of("time", ok, "9 h", "at most 8 h", "ask for less") for ok in (True, False))
    assert good.line == "ok      time: 9 h; expected at most 8 h"
    assert bad.line == "FAILED  time: 9 h; expected at most 8 h; ask for less"
    with pytest.raises(ModelError, match=r"preflight: 1 of 2 failed: time$"):
        Findings("preflight", (good, bad)).require(ModelError)


@pytest.mark.parametrize(
    ("own", "other", "ok"),
    [
        ([1.0, 1.0, 1.0], [2.0, 2.0, 2.0], True),
        ([2.0, 2.0, 2.0], [1.0, 1.0, 1.0], False),
        ([1.0, 1.0, 1.0], [1.0, 1.0, 1.0], False),  # equal is not lower
        ([1.0, 1.0, 1.0], [0.9, 0.9, 9.0], False),  # one task alone makes the mean
        ([1.0, 1.0, 9.0], [1.1, 1.1, 2.0], False),  # most are lower, the mean is not
        ([1.0, 1.0, math.nan], [2.0, 2.0, 2.0], False),
    ],
)
def test_lower_means_in_the_mean_and_in_most_tasks(own: Sequence[float], other: Sequence[float], ok: bool) -> None:
    assert compare_nll("plain", own, other).ok is ok


def test_nll_per_cell_is_that_of_the_answer_and_its_end_by_the_full_definition() -> None:
    model = lively_model(0)
    query = next(TASKS[0].queries)
    fmt = model.notation.format
    shown = "".join(f"I{a}O{b}{fmt.end}" for a, b in (("12", "2\n1"), ("3", "44")))
    prompt, answer = f"{fmt.begin}{shown}I56O", f"6\n5{fmt.end}"
    n_prompt = len(model.tokenizer.encode(prompt, add_special_tokens=False))
    ids = torch.tensor([model.tokenizer.encode(prompt + answer, add_special_tokens=False)])
    with torch.inference_mode():
        log_probs = model.network(input_ids=ids).logits[0, :-1].log_softmax(dim=-1)
    expected = -log_probs.gather(1, ids[0, 1:, None])[n_prompt - 1 :].sum().item() / 2
    assert nll_per_cell(model, query, model.notation) == pytest.approx(expected, rel=1e-5)


def test_a_task_without_its_answer_is_an_error_that_names_it() -> None:
    model, hidden = new_model(64, 1, 0), TASKS[0].without_solution()
    with pytest.raises(ConfigError, match="task small: found no test output"):
        nll_per_cell(model, next(hidden.queries), model.notation)


@pytest.mark.parametrize("name", PRESETS)
def test_perturbed_prompts_are_valid_and_end_as_the_preset_does(name: str) -> None:
    fmt = PRESETS[name].format
    for other in (swapped(fmt), unmarked(fmt)):
        assert other != fmt
        assert (other.stop_text, other.answer_end, other.prefill) == (fmt.stop_text, fmt.answer_end, fmt.prefill)
        assert "{i}" not in other.output + other.for_query.output
    assert (swapped(fmt).for_query.input, swapped(fmt).for_query.output) == (
        fmt.for_query.output.replace("{i}", ""),
        fmt.for_query.input.replace("{i}", ""),
    )


def test_other_presets_are_asked_where_the_tokenizer_takes_them(tmp_path: Path) -> None:
    model = new_model(64, 1, 0)
    others, refusing = other_ways(model, tmp_path)
    assert [*others] == ["swapped", "unmarked"]  # plain is its own
    assert refusing == (
        "nll against arc24",
        "nll against arc24-no-system",
        "nll against architects",
        "nll against nvarc",
    )
    assert [*other_ways(with_format(model, unmarked(model.notation.format)), tmp_path)[0]] == ["swapped", "plain"]


@pytest.mark.parametrize(("ends", "n_ended"), [(True, 1), (False, 0)])
def test_answers_must_end(ends: bool, n_ended: int) -> None:
    """A network whose head says one token alone: the stop token, or a cell for ever."""
    model = new_model(64, 1, 0)
    with torch.no_grad():
        model.network.model.norm.weight.zero_()
        model.network.lm_head.weight.requires_grad_(False)
    bias = torch.zeros(VOCABULARY)
    bias[model.end_id if ends else model.end_id + 5] = 1.0
    model.network.lm_head.bias = torch.nn.Parameter(bias)
    check = check_stop(model, TASKS, PreflightConfig(generate=SMALL))
    assert check.ok is ends
    assert check.found.startswith(f"{n_ended} of 1 answers end by themselves ({'1 empty' if ends else '1 no_end'}")


@pytest.mark.parametrize(("scale", "ok"), [(1.0, True), (1e6, False)])
def test_what_overflows_in_fp16_fails_and_leaves_the_network_as_it_was(scale: float, ok: bool) -> None:
    model = new_model(64, 1, 0)
    with torch.no_grad():
        model.network.model.norm.weight.mul_(scale)  # in fp32 the logits are finite all the same
    assert check_fp16(model, TASKS).ok is ok
    assert model.network.dtype == torch.float32


def test_memory_is_counted_from_the_shape_of_the_network() -> None:
    """Against the tensors that a real cache, a real network and a real optimizer hold."""
    model = lively_model(0, "qwen2")  # 4 heads of 16, 2 of them kept
    with torch.inference_mode():
        output = model.network(input_ids=torch.zeros((3, 7), dtype=torch.int64), use_cache=True)
    held = sum(t.nbytes for layer in output.past_key_values.layers for t in (layer.keys, layer.values))
    assert shape_of(model.network).cache_bytes(4) * 3 * 7 == held
    found = project_memory(model, SMALL, TuneConfig(weights="none"))
    weights = sum(tensor.nbytes for tensor in model.network.state_dict().values())
    assert found == Footprint(weights, 1024 // (256 + 56) * (256 + 56) * shape_of(model.network).cache_bytes(4), 0)


def test_memory_of_fine_tuning_grows_with_what_is_trained() -> None:
    model = lively_model(0)
    of = [
        project_memory(model, SMALL, tune).training
        for tune in (
            TuneConfig(lora=LoraConfig(rank=1, modules=("q_proj",)), max_tokens=64),
            TuneConfig(lora=LoraConfig(rank=2, modules=("q_proj",)), max_tokens=64),
            TuneConfig(lora=LoraConfig(rank=1, modules=("embed_tokens",)), max_tokens=64),
            TuneConfig(weights="all", max_tokens=64),
        )
    ]
    rank_1 = 4 * 4 * 2 * (64 + 64)  # two layers
    activations = of[0] - rank_1
    assert of[1:3] == [activations + 2 * rank_1, activations + 4 * 4 * (VOCABULARY + 64)]
    n_bytes = sum(p.nbytes for p in model.network.parameters())
    assert of[3] == activations + 4 * n_bytes


def test_memory_fails_where_less_is_available() -> None:
    model, tune = new_model(64, 1, 0), TuneConfig()
    config = PreflightConfig(generate=SMALL, memory_headroom=1.0)
    footprint = project_memory(model, SMALL, tune)
    assert check_memory(footprint, footprint.peak, config).ok
    assert not check_memory(footprint, footprint.peak - 1, config).ok


def test_weights_that_do_not_fit_are_refused_before_they_are_loaded(
    config: PreflightConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The linear layers of the box have nearly all of its fp32 weights: in 4 bits they would fit."""
    monkeypatch.setattr("arc_kaggle.evaluation.preflight.available_bytes", lambda _: 6_000_000)
    report = preflight(config)
    assert report.failed == ("memory",) and [each.name for each in report.findings][:2] == ["engine", "memory"]
    assert report.not_run == ("cells, stop, nll, fp16, time",)
    assert "weights 0.01" in report.text and "add --four-bit" in report.text
    assert report.text.endswith("the weights do not fit")


def test_what_is_rehearsed_is_what_will_run(tmp_path: Path, write_json: WriteJson) -> None:
    """Options of fine-tuning count, 4-bit weights and a cut vocabulary too."""
    save_model(new_model(256, 4, 0), tmp_path / "model", "lora", {})
    sized_by = str(write_json("sized.json", {"a": TASK_JSON}))
    plain = PreflightConfig(model=tmp_path / "model", device="cpu", precision="fp32", n_tasks=1, sized_by=sized_by)
    plain = replace(plain, generate=SMALL, tune=TuneConfig(max_tokens=512))
    longer = replace(plain, tune=TuneConfig(max_tokens=2048))
    packed = replace(plain, four_bit=True, cut_vocabulary=True)
    checks = [{each.name: each.found for each in preflight(config).findings} for config in (plain, longer, packed)]
    assert len({each["memory"].partition("(")[2] for each in checks}) == 3
    assert [*checks[2]][-3:] == ["stop", "memory", "time"]  # no fp16: it computes in fp32


def test_the_engine_is_named_with_its_reason_or_refused(
    config: PreflightConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(new_model(64, 1, 0), tmp_path, "box", {})
    config = replace(config, model=tmp_path)
    assert check_engine(config.run).line.startswith("ok      engine: hf, ")
    monkeypatch.setattr("arc_kaggle.engines.choice.find_spec", lambda _: True)
    monkeypatch.setattr("arc_kaggle.engines.choice.find_machine", lambda *_: MachineMemory(1, 2**30, 2**30))
    lora = replace(config, engine="vllm", recipe="lora", tune=TuneConfig(lora=LoraConfig(8)))
    line = check_engine(lora.run).line
    assert line.startswith("FAILED  engine: option engine: found vllm, which cannot live beside")
    assert line.endswith("take --engine auto for one that fits")
    assert check_engine(replace(lora, engine="auto").run).ok


def test_time_is_that_of_every_view_and_step() -> None:
    size, speed = MeanTask(prompt=100, answer=10, n_queries=2), Speed(1000, 0.5, n_rows=4)
    generate, tune = GenerateConfig(n_views=8), TuneConfig(steps=5, batch_size=2)
    assert project_seconds(size, speed, generate, tune) == (3 * 5 * 2 * 0.1, 8 * 2 * 0.1 + 8 * 2 / 4 * 10 * 0.5)
    assert project_seconds(size, speed, generate, TuneConfig(weights="none"))[0] == 0
    capped = replace(generate, max_seconds=7), replace(tune, max_seconds=2)
    assert project_seconds(size, speed, *capped) == (2, 7)


def test_time_that_is_not_there_fails(config: PreflightConfig, box: LoadedModel) -> None:
    for minutes, ok in ((700.0, True), (1e-6, False)):
        check = check_time(box, TuneConfig(weights="none"), replace(config, time_limit_minutes=minutes))
        assert check.ok is ok, check.line


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2", "grid", "grid alone"])
def test_speed_is_measured_on_any_network(kind: str) -> None:
    speed = measure_speed(lively_model(0, kind), random_prompts([40])[0], n_rows=3, n_steps=2)
    assert speed.n_rows == 3 and speed.prefill_tokens_per_s > 0 and 0 < speed.step_seconds < 10


@pytest.mark.parametrize("change", [{"n_tasks": 0}, {"min_ended": 1.5}, {"min_ended": 0.0}, {"n_run_tasks": -1}])
def test_options_that_make_no_sense_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"option {next(iter(change))}"):
        PreflightConfig(**change)  # type: ignore[arg-type]
