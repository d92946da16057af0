"""Losses and gradients with the last layer's MLP at labels alone are those of whole forward passes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from models import lively_model
from torch import Tensor

from arc_kaggle.models.label_rows import last_layer_at
from arc_kaggle.models.loading import LoadedModel
from arc_kaggle.models.loss import summed_loss
from arc_kaggle.text.tokens import NOT_TRAINED

KINDS = ("llama", "qwen2", "gpt2", "grid")


def batch_of(model: LoadedModel) -> tuple[Tensor, Tensor]:
    """Two rows with a label here and there, none at the beginning."""
    n_tokens = model.network.config.vocab_size
    ids = torch.randint(1, n_tokens, (2, 24), generator=torch.Generator().manual_seed(1))
    labels = ids.clone()
    labels[0, :9], labels[1, :15], labels[1, 18:21] = NOT_TRAINED, NOT_TRAINED, NOT_TRAINED
    return ids, labels


@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradients_are_those_of_a_whole_forward_pass(kind: str) -> None:
    model = lively_model(0, kind)
    network = model.network.double()
    ids, labels = batch_of(model)
    logits = network(input_ids=ids, use_cache=False).logits
    expected = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction="sum")
    expected.backward()
    gradients = {name: parameter.grad.clone() for name, parameter in network.named_parameters()}
    network.zero_grad()

    loss, n_labels = summed_loss(model, ids, labels)
    loss.backward()

    assert n_labels == int((labels[:, 1:] != NOT_TRAINED).sum())
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    for name, parameter in network.named_parameters():
        assert torch.allclose(parameter.grad, gradients[name], rtol=1e-4, atol=1e-6), name


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_mlp_sees_labels_alone_and_is_as_before_afterwards(kind: str) -> None:
    model = lively_model(0, kind)
    ids, labels = batch_of(model)
    kept = labels != NOT_TRAINED
    if kind == "gpt2":  # its layers are of another kind
        with last_layer_at(model.network, kept) as is_kept:
            assert not is_kept
        return
    layers = model.network.get_decoder().layers
    seen: list[int] = []
    for layer in layers:
        layer.mlp.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[:-1].numel()))
    with torch.no_grad():
        whole = model.network.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
        with last_layer_at(model.network, kept) as is_kept:
            some = model.network.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
        again = model.network.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
    assert is_kept and torch.allclose(some[0], whole[kept], atol=1e-5) and torch.equal(again, whole)
    n_all, n_kept = ids.numel(), int(kept.sum())
    assert seen[len(layers) : 2 * len(layers)] == [n_all] * (len(layers) - 1) + [n_kept]
