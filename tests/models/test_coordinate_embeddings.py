"""Embeddings in parts: the same network before, within and after; and what is learnt in one place holds in others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from arc_kaggle.models import loss as loss_module
from arc_kaggle.models.coordinate_embeddings import SumOfParts, has_parts, in_parts, merge, parts_of, split
from arc_kaggle.models.loading import LoadedModel, load_model, save_model
from arc_kaggle.models.new_model import new_model
from arc_kaggle.tasks.grid import as_grid
from arc_kaggle.text.box_tokenizer import SYMBOLS
from arc_kaggle.text.encoders import parse_encoder


@pytest.fixture
def model() -> LoadedModel:
    return new_model(32, 1, 0, encoder="coordinates")


def embeddings_of(model: LoadedModel) -> Tensor:
    network: Any = model.network
    weight: Tensor = network.get_input_embeddings().weight
    return weight.detach().clone()


@torch.no_grad()
def logits_of(model: LoadedModel) -> Tensor:
    network: Any = model.network
    logits: Tensor = network(input_ids=torch.arange(5, 9035, 90)[None]).logits
    return logits


def ids_of(model: LoadedModel, text: str) -> list[int]:
    return model.tokenizer.encode(text, add_special_tokens=False)


def test_every_row_name_and_cell_is_one_token(model: LoadedModel) -> None:
    symbols = SYMBOLS["coordinates"]
    assert len(set(symbols)) == len(symbols) == 5 + 30 + 9000
    for colour in range(10):
        grid = np.full((30, 30), colour)
        ids = ids_of(model, "I" + model.encoder.encode(as_grid(grid.tolist())) + "<eos>")
        assert len(ids) == 1 + 30 + 900 + 1 and model.tokenizer.decode(ids).count("\n") == 29
        assert [symbols[i] for i in ids[1:4]] == ["a", f"{colour}aa", f"{colour}ab"]
    assert ids_of(model, "0aa1ab\nb2ba") == [symbols.index(s) for s in ("0aa", "1ab", "\nb", "2ba")]


@pytest.mark.parametrize("text", ["0a", "0aE", "e0", "\n", "\n\nb", "0AA0Aa "])
def test_other_texts_are_refused(model: LoadedModel, text: str) -> None:
    if text != "e0":
        with pytest.raises(Exception, match=r"Missing \[UNK\] token"):
            ids_of(model, text + "0")
    with pytest.raises(Exception, match=r"Missing \[UNK\] token"):
        ids_of(model, "0" + text)


def test_a_new_model_begins_with_sums(model: LoadedModel) -> None:
    cells = embeddings_of(model)[35:].view(10, 30, 30, -1)
    assert torch.allclose(cells[3, 4, 5] - cells[3, 4, 6], cells[7, 20, 5] - cells[7, 20, 6], atol=1e-6)
    assert torch.allclose(cells[3, 4, 5] - cells[2, 4, 5], cells[3, 20, 9] - cells[2, 20, 9], atol=1e-6)
    names = embeddings_of(model)[5:35]
    assert torch.allclose(names[3] - names[9], cells[0, 3, 0] - cells[0, 9, 0], atol=1e-6)


def test_parts_and_back_are_the_same_network(model: LoadedModel) -> None:
    before, logits, names = embeddings_of(model), logits_of(model), list(model.network.state_dict())
    with in_parts(model):
        assert torch.allclose(embeddings_of(model), before, atol=1e-6)
        assert torch.allclose(logits_of(model), logits, atol=1e-5)
        parts = [
            tuple(p.shape) for name, p in model.network.named_parameters() if "parametrizations" in name and len(p)
        ]
        assert parts == [(5, 32), (1, 32), (10, 32), (30, 32), (30, 32)]
        within = embeddings_of(model)
    network: Any = model.network
    assert torch.equal(embeddings_of(model), within) and list(model.network.state_dict()) == names
    assert network.lm_head.weight is network.model.embed_tokens.weight
    assert isinstance(network.lm_head.weight, nn.Parameter) and type(network.lm_head) is nn.Linear


def test_parts_of_what_is_no_sum_are_the_nearest() -> None:
    generator = torch.Generator().manual_seed(0)
    noisy = torch.randn(9035, 4, generator=generator)
    parts = SumOfParts().right_inverse(noisy)
    wanted = ((SumOfParts()(*parts) - noisy)[35:] ** 2).sum()
    for i in (2, 3, 4):
        moved = list(parts)
        moved[i] = parts[i] + 0.01 * torch.randn(parts[i].shape, generator=generator)
        assert ((SumOfParts()(*moved) - noisy)[35:] ** 2).sum() > wanted


def test_a_colour_learnt_in_one_place_is_learnt_in_all(model: LoadedModel) -> None:
    seen, unseen = ids_of(model, "0aa")[0], ids_of(model, "0DD")[0]
    before = embeddings_of(model)
    with in_parts(model):
        network: Any = model.network
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        network.get_input_embeddings()(torch.tensor([seen])).sum().backward()
        optimizer.step()
    moved = embeddings_of(model) - before
    assert torch.allclose(moved[seen], torch.full((32,), -0.3), atol=1e-5)  # colour, row and column
    assert torch.allclose(moved[unseen], torch.full((32,), -0.1), atol=1e-5)  # colour alone


def learnt(model: LoadedModel) -> nn.Module:
    """Parts that are no longer those of a new model, and large enough to tell tokens apart."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model.network


def test_parts_embed_every_token_as_the_table_does(model: LoadedModel) -> None:
    assert parts_of(model.network) is None
    with in_parts(model):
        parts = parts_of(learnt(model))
        assert parts is not None and parts.table.shape == (5 + 1 + 10 + 30 + 30 + 1, 32)
        assert torch.equal(parts.embed(torch.arange(9035)[None])[0], embeddings_of(model))
    assert parts_of(model.network) is None


def test_the_loss_of_every_token_in_parts_is_that_of_the_table(model: LoadedModel) -> None:
    with in_parts(model):
        parts = parts_of(learnt(model))
        assert parts is not None
        hidden = torch.randn(9035, 32)
        exact = -(hidden.double() @ embeddings_of(model).double().T).log_softmax(dim=-1).diagonal()
        for targets in (slice(0, 5), slice(5, 35), slice(35, 9035), slice(7000, 7001)):
            found = parts.summed_loss(hidden[targets], torch.arange(9035)[targets])
            assert found.item() == pytest.approx(exact[targets].sum().item(), rel=1e-5)


@pytest.mark.parametrize("packed", [False, True])
def test_a_step_in_parts_is_the_step_with_the_table(
    model: LoadedModel, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loss and gradient of every weight, with tokens of all kinds."""
    rng = np.random.default_rng(0)
    ids = torch.from_numpy(np.concatenate([rng.integers(35, size=60), rng.integers(9035, size=140)])).view(2, 100)
    labels = torch.where(torch.from_numpy(rng.random((2, 100)) < 0.5), ids, -100)
    positions = torch.arange(100).remainder(50).repeat(2, 1) if packed else None
    with in_parts(model):
        parameters = [p for p in learnt(model).parameters() if len(p)]
        found = []
        for way in (parts_of, lambda _: None):
            monkeypatch.setattr(loss_module, "parts_of", way)
            loss, n_labels = loss_module.summed_loss(model, ids, labels, positions)
            assert n_labels == (labels[:, 1:] >= 0).sum()
            found.append((loss.detach(), *torch.autograd.grad(loss, parameters)))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3)


def test_a_step_in_parts_never_makes_the_table(model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    ids, own, made = torch.arange(40, 60)[None], SumOfParts.forward, []

    def forward(self: SumOfParts, *parts: Tensor) -> Tensor:
        made.append(len(parts))
        return own(self, *parts)

    with in_parts(model):
        monkeypatch.setattr(SumOfParts, "forward", forward)
        loss_module.completion_loss(model, ids, ids).backward()  # type: ignore[no-untyped-call]
        assert made == []
        embeddings_of(model)
        assert made == [5]


def test_a_model_saved_in_parts_is_stock(model: LoadedModel, tmp_path: Path) -> None:
    split(model)
    save_model(model, tmp_path, "box", {})
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}
    loaded = load_model(tmp_path, "fp32", "cpu")
    assert torch.allclose(embeddings_of(loaded), embeddings_of(model), atol=1e-3) and has_parts(loaded)
    assert (tmp_path / "model.safetensors").stat().st_size < 2 * 1.05 * sum(
        p.numel() for p in loaded.network.parameters()
    )


def test_other_models_are_left_alone(model: LoadedModel) -> None:
    plain = new_model(32, 1, 0)
    for other in (plain, replace(model, notation=model.notation.in_encoder(parse_encoder("minimal")))):
        names = list(other.network.state_dict())
        with in_parts(other):
            assert not has_parts(other) and list(other.network.state_dict()) == names
        merge(other)
        assert list(other.network.state_dict()) == names
