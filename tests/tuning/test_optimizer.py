"""The training step that `train` and test-time fine-tuning share."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from models import VOCABULARY, lively_model, weights_of

from arc_kaggle.config.tune import EVERYWHERE, LoraConfig, OptimConfig
from arc_kaggle.errors import TuneError
from arc_kaggle.models.loading import LoadedModel
from arc_kaggle.models.loss import TensorBatch, collate, completion_loss
from arc_kaggle.system.integers import round_up
from arc_kaggle.text.tokens import NOT_TRAINED, Example
from arc_kaggle.tuning.optimizer import Optimizer, parameter_groups, rate_scale
from arc_kaggle.tuning.tunable_weights import LoraAdapter

MODEL = lively_model(0)


def random_example(length: int, seed: int, share: float = 0.4) -> Example:
    """Random ids, of which a share is trained on, the last one always."""
    rng = np.random.default_rng([length, seed])
    ids = rng.integers(VOCABULARY, size=length)
    trained = (rng.random(length) < share) | (np.arange(length) == length - 1)
    return Example(ids, np.where(trained, ids, NOT_TRAINED))


EXAMPLES = [random_example(length, seed) for seed, length in enumerate((2, 5, 64, 65, 100, 127))]


def slow_loss(model: LoadedModel, example: Example) -> tuple[float, int]:
    """(summed NLL in nats, labels), token by token from the full logits of one unpadded example."""
    logits = model.network(input_ids=torch.from_numpy(example.ids)[None]).logits[0]  # (time, vocab)
    log_probs = logits.log_softmax(dim=-1)
    places = [t for t in range(1, len(example.ids)) if example.labels[t] != NOT_TRAINED]
    return -sum(float(log_probs[t - 1, example.labels[t]]) for t in places), len(places)


@pytest.mark.parametrize("bucket", [1, 64, 100])
def test_collate_pads_on_the_right_and_trains_no_padding(bucket: int) -> None:
    ids, labels = collate(EXAMPLES, 3, bucket)
    assert ids.shape == labels.shape == (len(EXAMPLES), round_up(127, bucket))
    for row, example in enumerate(EXAMPLES):
        n = len(example.ids)
        assert ids[row].tolist() == example.ids.tolist() + [3] * (ids.shape[1] - n)
        assert labels[row].tolist() == example.labels.tolist() + [NOT_TRAINED] * (ids.shape[1] - n)


@torch.inference_mode()
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: f"{len(example.ids)} tokens")
@pytest.mark.parametrize(("pad_id", "bucket"), [(0, 1), (0, 64), (7, 200)])
def test_right_padding_changes_no_loss(example: Example, pad_id: int, bucket: int) -> None:
    total, n_labels = slow_loss(MODEL, example)
    assert completion_loss(MODEL, *collate([example], pad_id, bucket)).item() == pytest.approx(total / n_labels, 1e-5)


@torch.inference_mode()
def test_the_loss_of_a_batch_is_the_mean_over_all_its_labels() -> None:
    totals = [slow_loss(MODEL, example) for example in EXAMPLES]
    mean = sum(total for total, _ in totals) / sum(n for _, n in totals)
    assert completion_loss(MODEL, *collate(EXAMPLES, 0, 64)).item() == pytest.approx(mean, 1e-5)


def test_the_gradient_is_that_of_the_full_logits() -> None:
    ids, labels = collate(EXAMPLES, 0, 64)
    weight = MODEL.network.get_input_embeddings().weight
    logits = MODEL.network(input_ids=ids).logits  # (batch, time, vocab)
    full = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=NOT_TRAINED)
    (expected,) = torch.autograd.grad(full, weight)
    (found,) = torch.autograd.grad(completion_loss(MODEL, ids, labels), weight)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@torch.inference_mode()
def test_what_is_not_trained_on_is_in_no_loss() -> None:
    example = random_example(60, 0, share=0)
    (last,) = np.flatnonzero(example.labels != NOT_TRAINED)
    shuffled = Example(example.ids, np.where(np.arange(60) == last, 3, NOT_TRAINED))
    logits = MODEL.network(input_ids=torch.from_numpy(example.ids)[None]).logits[0, last - 1]
    loss = completion_loss(MODEL, *collate([shuffled], 0, 1))
    assert loss.item() == pytest.approx(-float(logits.log_softmax(dim=-1)[3]), 1e-5)


def test_a_step_lowers_the_loss_and_leaves_no_gradient() -> None:
    model = lively_model(1)
    batch = collate(EXAMPLES, 0, 64)
    config = OptimConfig(learning_rate=1e-3, schedule="constant_with_warmup", warmup_fraction=0)
    optimizer = Optimizer(model, model.network.parameters(), config, 5)
    losses = [optimizer.step(*batch) for _ in range(5)]
    assert losses[-1] < losses[0]
    assert all(parameter.grad is None for parameter in model.network.parameters())


def test_a_loss_that_is_not_finite_updates_nothing() -> None:
    model = lively_model(1)
    unlabelled = Example(EXAMPLES[2].ids, np.full(64, NOT_TRAINED))
    before = weights_of(model.network)
    optimizer = Optimizer(model, model.network.parameters(), OptimConfig(warmup_fraction=0), 5)
    with pytest.raises(TuneError, match=r"^loss nan with gradient norm .*, expected finite numbers"):
        optimizer.step(*collate([unlabelled], 0, 64))
    assert weights_of(model.network) == before
    assert all(parameter.grad is None for parameter in model.network.parameters())


@pytest.mark.parametrize("kind", ["llama", "qwen2", "grid"])
def test_factors_on_embeddings_and_head_learn_at_their_own_rate(kind: str) -> None:
    """At a rate of 0 they stay where they are, and all others move."""
    model = lively_model(0, kind)
    adapter = LoraAdapter(model, LoraConfig(rank=4, modules=EVERYWHERE))
    config = OptimConfig(0.01, 0.0, schedule="constant_with_warmup", warmup_fraction=0)
    before = weights_of(model.network)
    optimizer = Optimizer(model, adapter.parameters, config, 5)
    for _ in range(2):  # of two factors one is 0 at first, and the other has no gradient then
        optimizer.step(*collate(EXAMPLES, 3, 64))
    moved = {name for name, value in weights_of(model.network).items() if value != before[name]}
    assert moved == {name for name in before if "lora_" in name and "embed" not in name and "lm_head" not in name}


@pytest.mark.parametrize("own", [None, 1e-5])
def test_every_parameter_is_in_one_group(own: float | None) -> None:
    network = lively_model(0).network  # its head is its embeddings
    groups = parameter_groups(network, list(network.parameters()), OptimConfig(1e-3, own, weight_decay=0.1))
    rates = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(rates) == len(list(network.parameters()))
    for name, parameter in network.named_parameters():
        rate = own if own and "embed" in name else 1e-3
        assert rates[id(parameter)] == (rate, 0.1 if parameter.ndim == 2 else 0.0)


def packed(*examples: Example) -> TensorBatch:
    return *collate(examples, 0, 64), None


def test_accumulated_batches_step_as_one_large_batch_does() -> None:
    """Few labels in one batch and many in another: the mean is over labels, not over batches."""
    config = OptimConfig(learning_rate=1e-3, warmup_fraction=0)
    few, many = random_example(64, 1, share=0.05), random_example(64, 2, share=0.9)
    models = [lively_model(1) for _ in range(3)]
    optimizers = [Optimizer(model, model.network.parameters(), config, 9) for model in models]
    for _ in range(3):
        whole = optimizers[0].update([packed(few, many)])
        parts = optimizers[1].update([packed(few), packed(many)])
        optimizers[2].step(*packed(few)[:2])
        assert parts == pytest.approx(whole, rel=1e-6)
    own, other, third = (dict(model.network.named_parameters()) for model in models)
    for name, weight in own.items():
        torch.testing.assert_close(other[name], weight, rtol=1e-4, atol=1e-5)
    assert max(float((third[name] - weight).detach().abs().max()) for name, weight in own.items()) > 1e-3


def rates(schedule: str, decay_fraction: float, n: int = 100, warmup: float = 0.1) -> list[float]:
    config = OptimConfig(schedule=schedule, warmup_fraction=warmup)  # type: ignore[arg-type]
    return [rate_scale(step, n, config, decay_fraction) for step in range(n + 1)]


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_the_rate_rises_stays_and_falls(schedule: str) -> None:
    found = rates(schedule, 0.2)
    assert found[:11] == pytest.approx([step / 10 for step in range(11)])
    assert found[10:81] == [1.0] * 71
    assert found[90] == pytest.approx(0.5)
    assert found[100] == pytest.approx(0)
    assert all(a >= b for a, b in pairwise(found[80:]))
    assert rates(schedule, 0.0)[:100] == [min(1, step / 10) for step in range(100)]


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant_with_warmup"])
@pytest.mark.parametrize("warmup", [0.0, 0.1])
def test_a_fall_from_the_warm_up_on_is_the_schedule_of_transformers(schedule: str, warmup: float) -> None:
    from transformers import get_scheduler

    adamw = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=1.0)
    reference = get_scheduler(schedule, adamw, round(warmup * 100), 100)
    for step in range(100):
        assert rates(schedule, 1.0, warmup=warmup)[step] == pytest.approx(reference.get_last_lr()[0], abs=1e-12), step
        adamw.step()
        reference.step()


def test_the_schedule_is_as_far_as_the_steps_or_the_time_whichever_is_further() -> None:
    model = lively_model(1)
    config = OptimConfig(learning_rate=1e-3, schedule="linear", warmup_fraction=0)
    optimizer = Optimizer(model, model.network.parameters(), config, 10)
    found = []
    for time_share in (0.0, 0.0, 0.5, 0.1, 0.9, 1.0):
        optimizer.update([packed(EXAMPLES[2])], time_share)
        found.append(optimizer.groups[0]["lr"])
    assert found == pytest.approx([1e-3, 0.9e-3, 0.5e-3, 0.7e-3, 0.1e-3, 0])


def test_a_restored_optimizer_goes_on_bit_for_bit() -> None:
    config = OptimConfig(learning_rate=1e-3, embedding_learning_rate=1e-4, weight_decay=0.1)
    models = [lively_model(1), lively_model(1)]
    through, first = (Optimizer(model, model.network.parameters(), config, 9) for model in models)
    for example in EXAMPLES[2:5]:
        through.update([packed(example)])
        first.update([packed(example)])
    second = Optimizer(models[1], models[1].network.parameters(), config, 9)
    second.restore(first.state())
    for example in EXAMPLES[2:]:
        assert through.update([packed(example)]) == second.update([packed(example)])
    assert weights_of(models[0].network) == weights_of(models[1].network)


def test_in_fp16_the_loss_is_scaled_and_an_update_that_overflows_is_left_out() -> None:
    model = replace(lively_model(1), autocast=torch.float16)
    config = OptimConfig(learning_rate=1e-4, schedule="constant_with_warmup", warmup_fraction=0)
    optimizer = Optimizer(model, model.network.parameters(), config, 40)
    optimizer.scaler.load_state_dict({**optimizer.scaler.state_dict(), "scale": 2.0**40})
    before = weights_of(model.network)
    optimizer.update([packed(EXAMPLES[2])])
    assert weights_of(model.network) == before
    scale = optimizer.scaler.get_scale()
    assert scale < 2.0**40
    losses = [optimizer.update([packed(EXAMPLES[2])]) for _ in range(39)]
    assert losses[-1] < losses[0]
    assert 1 < optimizer.scaler.get_scale() < scale
    again = Optimizer(model, model.network.parameters(), config, 40)
    again.restore(optimizer.state())
    assert again.scaler.get_scale() == optimizer.scaler.get_scale()
