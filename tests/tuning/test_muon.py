"""Muon against torch's own, which orthogonalises in bf16; and which weights of a network it is given."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from models import lively_model
from torch import Tensor, nn

from arc_kaggle.config.tune import OptimConfig
from arc_kaggle.tuning.muon import Muon, orthogonalised
from arc_kaggle.tuning.optimizer import Optimizer, inner_matrices, make_optimizers

SHAPES = [(8, 8), (8, 24), (24, 8), (8, 8)]


def matrices(seed: int = 0) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(*shape, generator=generator)) for shape in SHAPES]


def gradients(step: int) -> list[Tensor]:
    return [matrix.data for matrix in matrices(100 + step)]


@pytest.mark.parametrize(("dtype", "apart"), [(torch.float32, 0.03), (torch.bfloat16, 1e-5)])
def test_steps_are_those_of_torch(dtype: torch.dtype, apart: float) -> None:
    ours, theirs = matrices(), matrices()
    mine = Muon(ours, lr=0.1, weight_decay=0.1, dtype=dtype)
    reference = torch.optim.Muon(theirs, lr=0.1, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for step in range(4):
        for own, other, gradient in zip(ours, theirs, gradients(step), strict=True):
            own.grad, other.grad = gradient.clone(), gradient.clone()
        mine.step()
        reference.step()
    for own, other, first in zip(ours, theirs, matrices(), strict=True):
        assert (own - first).norm() > 0.1
        assert (own - other).norm() < apart * (own - first).norm()  # bf16 has three digits


@pytest.mark.parametrize("shape", SHAPES)
def test_singular_values_come_near_one(shape: tuple[int, int]) -> None:
    values = torch.linalg.svdvals(orthogonalised(torch.randn(5, *shape, generator=torch.Generator().manual_seed(1))))
    assert values.min() > 0.3
    assert values.max() < 1.3


def test_a_matrix_without_a_gradient_stays() -> None:
    ours = matrices()
    ours[0].grad = gradients(0)[0]
    Muon(ours, lr=0.1).step()
    assert [torch.equal(a, b) for a, b in zip(ours, matrices(), strict=True)] == [False, True, True, True]


@pytest.mark.parametrize(
    ("autocast", "dtype"), [(None, torch.float32), (torch.float16, torch.float32), (torch.bfloat16, torch.bfloat16)]
)
def test_muon_computes_in_bf16_where_the_model_does(autocast: torch.dtype | None, dtype: torch.dtype) -> None:
    model = replace(lively_model(0, "grid"), autocast=autocast)
    muon, _ = Optimizer(model, model.network.parameters(), OptimConfig(matrices="muon"), 1).optimizers
    assert isinstance(muon, Muon)
    assert muon.dtype is dtype
    assert {p.dtype for p in muon.param_groups[0]["params"]} == {torch.float32}


@pytest.mark.parametrize("kind", ["llama", "qwen2", "grid"])
def test_muon_has_the_matrices_of_the_layers_and_adamw_all_else(kind: str) -> None:
    network = lively_model(0, kind).network
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    muon, adamw = make_optimizers(network, list(network.parameters()), OptimConfig(matrices="muon"))
    taken, left = ({names[id(p)] for g in each.param_groups for p in g["params"]} for each in (muon, adamw))
    assert taken | left == set(names.values())
    assert taken == {name for name in names.values() if "proj.weight" in name and "layers" in name}
    assert not taken & left
    assert not inner_matrices(network, [network.get_output_embeddings().weight])
