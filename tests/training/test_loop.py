"""The parts of a training run: its time, its stages, the average of its weights, and what is trained and saved."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models import lively_model, trained_tokenizer, weights_of
from train_data import rows_of, tiny_config

from arc_kaggle.config.adapter import lora_of
from arc_kaggle.config.train import TrainConfig
from arc_kaggle.config.tune import EVERYWHERE, LoraConfig
from arc_kaggle.errors import ConfigError
from arc_kaggle.models.block_attention import BlockAttention
from arc_kaggle.models.card import read_card
from arc_kaggle.models.loading import LoadedModel, load_model, save_model
from arc_kaggle.models.new_model import new_model
from arc_kaggle.text.presets import find_preset
from arc_kaggle.training.average import MovingAverage
from arc_kaggle.training.log import TrainLog, keep_rows, read_log
from arc_kaggle.training.loop import Clock, stages_of
from arc_kaggle.training.session import check_team, train
from arc_kaggle.training.trainee import Trainee, make_trainee
from arc_kaggle.tuning.distributed import Team
from arc_kaggle.tuning.tunable_weights import LoraAdapter

CPU = torch.device("cpu")


# time


class FakeTime:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def fake_time(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    fake = FakeTime()
    monkeypatch.setattr("arc_kaggle.training.loop.time", fake)
    return fake


def test_without_a_limit_no_time_is_used(fake_time: FakeTime) -> None:
    clock = Clock(fake_time.now, None)
    fake_time.now += 50
    assert (clock.seconds, clock.time_share) == (50, 0.0)


def test_time_is_used_from_the_first_step_on_and_up_to_the_last_saving(fake_time: FakeTime) -> None:
    clock = Clock(fake_time.now, max_minutes=10)
    fake_time.now += 60
    clock.took_to_save(40)
    clock.took_to_save(20)
    clock.begin(0.0)
    shares = []
    for _ in range(5):
        shares.append(clock.time_share)
        fake_time.now += 120
    assert shares == pytest.approx([0, 0.25, 0.5, 0.75, 1])  # of 600 seconds 60 were over, and 60 are for the saving
    assert clock.time_share == 1


def test_a_part_that_goes_on_spreads_the_rest_over_the_time_that_is_left(fake_time: FakeTime) -> None:
    clock = Clock(fake_time.now, max_minutes=10)
    clock.seconds_before = 200.0
    fake_time.now += 100
    clock.begin(0.5)
    assert clock.time_share == pytest.approx(0.5)
    fake_time.now += 150
    assert clock.time_share == pytest.approx(0.75)


def test_where_no_time_is_left_all_of_it_is_used(fake_time: FakeTime) -> None:
    clock = Clock(fake_time.now, max_minutes=1)
    fake_time.now += 100
    clock.begin(0.0)
    assert clock.time_share == 1


def test_a_run_ends_in_time_with_its_rate_fallen_and_its_model_saved(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, steps=10**6, max_minutes=0.08, decay_fraction=0.5, save_every=10**6)
    facts = train(config)
    rows = rows_of(config)[1:]
    assert 5 < facts["steps"] == len(rows) < 10**6
    assert facts["hours"] * 3600 < 0.08 * 60 + 2
    rates = [row["learning_rate"] for row in rows]
    assert max(rates) > 0.9 * config.optim.learning_rate
    assert rates[-1] < 0.2 * max(rates)
    assert train(config) == facts  # its time is over


# the average


def test_the_average_follows_its_definition_and_gives_the_weights_back() -> None:
    weight = torch.nn.Parameter(torch.zeros(3))
    average = MovingAverage([weight], 0.4)
    expected = 0.0
    for n in range(8):
        with torch.no_grad():
            weight.fill_(n + 1.0)
        average.update()
        decay = min(0.4, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * (n + 1)
    with average.in_place():
        assert weight.tolist() == pytest.approx([expected] * 3)
    assert weight.tolist() == [8.0] * 3
    again = MovingAverage([weight], 0.4)
    again.restore(average.state())
    assert torch.equal(again.averages[0], average.averages[0]) and again.n_updates == 8


def test_the_average_is_saved_and_validated_beside_the_weights(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, ema=0.9)
    facts = train(config)
    own, average = (weights_of(load_model(folder).network) for folder in (config.out, config.out / "ema"))
    assert all(own[name] != average[name] for name in own)
    row = rows_of(config)[-1]
    assert row["validation_loss"] != row["ema_validation_loss"] == facts["ema_validation_loss"]
    assert facts["ema_validation_solved"] == 0


# stages


def test_in_the_first_stage_all_else_stays_where_it_is(tmp_path: Path) -> None:
    start = tmp_path / "start"
    save_model(new_model(32, 1, 0), start, "box", {})
    two = {"first_stage_steps": 2, "first_stage_modules": ("embed_tokens", "mlp.up_proj"), "start": start}
    config = tiny_config(tmp_path, **two, first_stage_learning_rate=5e-3, steps=4, save_every=2, decay_fraction=0.0)
    train(config)
    before = {name: value.float() for name, value in load_model(start, "fp32").network.state_dict().items()}
    for step, expected in ((2, {"model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight"}), (4, {*before})):
        state = torch.load(config.out / "checkpoints" / f"step-{step:08}" / "state.pt")
        moved = {name for name, value in state["weights"].items() if not torch.equal(value, before[name])}
        assert moved == expected - {"lm_head.weight"}  # it is the embeddings
    rates = [row["learning_rate"] for row in rows_of(config)[1:]]
    assert rates == [5e-3, 5e-3, 2e-3, 2e-3]


def test_a_module_that_is_not_there_is_named(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, first_stage_steps=1, first_stage_modules=("embed_token",))
    with pytest.raises(ConfigError, match=r"^option first_stage_modules: found no 'embed_token', expected some of "):
        stages_of(config, make_trainee(config, CPU).weights)


# what is trained


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a vocabulary far larger than prompts need."""
    folder = tmp_path_factory.mktemp("base") / "model"
    tokenizer = trained_tokenizer()
    model = lively_model(0, "qwen2")
    model.network.resize_token_embeddings(len(tokenizer))
    model = replace(model, notation=find_preset("plain", tokenizer).notation(tokenizer))
    save_model(model, folder, "lora", {"tokens": 5})
    return folder


def trained(config: TrainConfig) -> tuple[Trainee, LoadedModel]:
    """What a run began with, and the model in its folder."""
    began = make_trainee(config, CPU)
    train(config)
    return began, load_model(config.out, "fp32")


def test_lora_saves_an_adapter_alone_and_leaves_its_base(tmp_path: Path, base: Path) -> None:
    config = tiny_config(tmp_path, start=base, weights="lora", lora=LoraConfig(rank=4), ema=0.9, max_tokens=400)
    before = weights_of(load_model(base, "fp32").network)
    facts = train(config)
    assert (config.out / "adapter_model.safetensors").exists()
    assert not list(config.out.glob("model*"))
    card = read_card(config.out)
    assert card is not None and card.facts == facts and facts["started_from"] == {"tokens": 5}
    assert json.loads((config.out / "adapter_config.json").read_text())["base_model_name_or_path"] == str(base)
    import peft

    network: Any = peft.PeftModel.from_pretrained(load_model(base, "fp32").network, str(config.out))
    factors = {name: w for name, w in network.named_parameters() if "lora_B" in name}
    assert all(float(w.detach().abs().max()) > 0 for w in factors.values())
    assert weights_of(load_model(base, "fp32").network) == before
    state = torch.load(config.out / "checkpoints" / "step-00000003" / "state.pt")
    assert all("lora_" in name for name in state["weights"])


@pytest.mark.parametrize("weights", ["lora", "all"])
def test_training_goes_on_from_an_adapter(tmp_path: Path, base: Path, weights: Any) -> None:
    """Its first loss is that of the merged model, not of the base; an adapter goes on with its own rank."""
    loaded = load_model(base, "fp32")
    adapter = LoraAdapter(loaded, LoraConfig(rank=2))
    torch.manual_seed(0)
    for factor in adapter.parameters:
        factor.data.normal_(std=0.1)
    adapter.save(tmp_path / "mine")
    adapter.peft_model.merge_and_unload()
    save_model(loaded, tmp_path / "merged", "lora", {})

    def losses(name: str, **changes: Any) -> list[float]:
        (folder := tmp_path / name).mkdir()
        config = tiny_config(folder, **{"start": base, "max_tokens": 400, "lora": LoraConfig(rank=9), **changes})
        train(config)
        return [row["loss"] for row in rows_of(config)[1:]]

    on = losses("on", adapter=tmp_path / "mine", weights=weights)
    merged, plain = losses("on-merged", start=tmp_path / "merged"), losses("on-base")
    assert on[0] == pytest.approx(merged[0], rel=1e-4) != pytest.approx(plain[0], rel=1e-2)
    if weights == "lora":
        assert lora_of(tmp_path / "on" / "out").rank == 2
    else:
        assert on == pytest.approx(merged, rel=1e-3)


def test_a_base_in_four_bits_is_trained_by_an_adapter(tmp_path: Path, base: Path) -> None:
    lora = {"weights": "lora", "lora": LoraConfig(rank=8, modules=EVERYWHERE), "four_bit": True}
    config = tiny_config(tmp_path, start=base, steps=12, max_tokens=400, first_max_tokens=400, **lora)
    train(replace(config, optim=replace(config.optim, learning_rate=0.02)))
    losses = [row["loss"] for row in rows_of(config)[1:]]
    assert losses[-1] < 0.9 * losses[0]


def test_a_cut_vocabulary_is_saved_whole_with_the_rest_as_it_was(tmp_path: Path, base: Path) -> None:
    config = tiny_config(tmp_path, start=base, cut_vocabulary=True, max_tokens=400)
    began, ended = trained(config)
    before = load_model(base, "fp32").network.get_input_embeddings().weight
    after = ended.network.get_input_embeddings().weight
    kept = np.array(began.model.tokenizer.kept)
    assert len(kept) < 60 < len(before) == len(after)
    gone = np.setdiff1d(np.arange(len(before)), kept)
    assert torch.equal(after[gone], before[gone])
    assert not torch.equal(after[kept], before[kept])
    assert ended.tokenizer.get_vocab() == load_model(base).tokenizer.get_vocab()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_weights_stay_in_fp32_whatever_is_computed_in(tmp_path: Path, precision: Any) -> None:
    config = tiny_config(tmp_path, precision=precision, steps=2)
    train(config)
    state = torch.load(config.out / "checkpoints" / "step-00000002" / "state.pt")
    assert {value.dtype for value in state["weights"].values()} == {torch.float32}
    assert rows_of(config)[-1]["loss"] > 0


@pytest.mark.parametrize(
    ("changes", "blocks"), [({}, True), ({"architecture": "grid"}, True), ({"compile": True}, False)]
)
def test_steps_in_bf16_attend_by_blocks_and_validation_by_torchs_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], blocks: bool
) -> None:
    """The engine, which validates between two steps, refuses any other attention than torch's."""
    rows, plain = [], BlockAttention.apply
    monkeypatch.setattr(BlockAttention, "apply", lambda *given: rows.append(given[0].shape) or plain(*given))
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda module: setattr(module, "_compiled_call_impl", module.forward)
    )
    train(tiny_config(tmp_path, precision="bf16", steps=2, save_every=1, **changes))
    assert bool(rows) == blocks
    assert all(len(shape) == 3 for shape in rows)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tokens_per_pass": 300}, "tokens_per_pass: found 300, expected a divisor of 512"),
        ({"weights": "lora"}, "start: found none, expected a model folder for an adapter"),
        ({"cut_vocabulary": True}, "start: found none, expected a model folder for an adapter, or for a vocabulary"),
        ({"four_bit": True}, "four_bit: found weights 'all', expected lora"),
        ({"first_stage_steps": 2}, "first_stage_steps: found 2 of 3 and modules \\(\\)"),
        ({"first_stage_steps": 4, "first_stage_modules": ("a",)}, "first_stage_steps: found 4 of 3"),
        ({"save_every": 0}, "save_every: found 0, expected 1 or more"),
        ({"ema": 1.5}, "ema: found 1.5, expected a share, 0..1"),
        ({"track": ("wandb",)}, "track: found no package wandb, expected it; pip install wandb"),
    ],
)
def test_options_that_make_no_sense_are_refused_before_anything_is_read(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=f"^option {said}"):
        train(tiny_config(tmp_path, **changes))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("tokens_per_pass", "size", "fine"), [(None, 1, True), (None, 2, False), (128, 2, True)])
def test_processes_must_share_a_step_evenly(tmp_path: Path, tokens_per_pass: int | None, size: int, fine: bool) -> None:
    config = tiny_config(tmp_path, tokens_per_pass=tokens_per_pass)
    if fine:
        check_team(config, Team(0, size, CPU))
    else:
        with pytest.raises(ConfigError, match=r"found 1 passes a step for 2 processes, expected a multiple of 2: 256"):
            check_team(config, Team(0, size, CPU))


# the log


def test_a_log_keeps_its_rows_up_to_a_step_and_no_broken_line(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    log = TrainLog(config, {}, 0)
    for step in range(5):
        log.write({"step": step})
    log.path.write_text(log.path.read_text() + '{"step": 5, "lo')
    assert [row["step"] for row in read_log(log.path)] == [0, 1, 2, 3, 4]
    keep_rows(log.path, 3)
    assert [row["step"] for row in read_log(log.path)] == [0, 1, 2, 3]
    TrainLog(config, {}, 0)
    assert read_log(log.path) == []
