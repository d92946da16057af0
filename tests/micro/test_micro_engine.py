"""The engine of micro-step models beside its definition: teacher forcing, its base, and what it says of its scores."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from models import ENTROPY, TickingClock, generate, micro_of, random_prompts

from arc_kaggle.config.answer import Decoding
from arc_kaggle.config.micro import MicroConfig
from arc_kaggle.engines.hf.engine import HFEngine
from arc_kaggle.errors import EngineError
from arc_kaggle.micro.engine import MicroEngine
from arc_kaggle.micro.network import MicroLM, Segments
from arc_kaggle.micro.segmentation import starts_of
from arc_kaggle.models.loading import LoadedModel
from arc_kaggle.system.deadline import Deadline


@pytest.mark.parametrize("config", [ENTROPY, replace(ENTROPY, stop=0.0), replace(ENTROPY, merger="mean", layers=2)])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("kind", ["llama", "grid"])
def test_decoding_equals_teacher_forcing(config: MicroConfig, temperature: float, kind: str) -> None:
    """In batches, with the segments that decoding itself has made."""
    model, _ = micro_of(config, kind=kind)
    prompts = random_prompts([7, 12, 5, 12])
    engine = MicroEngine(model)
    found = dict(engine.generate(prompts, [17] * 4, Deadline.never(), decoding=Decoding(temperature)))
    for i, prompt in enumerate(prompts):
        (alone,) = MicroEngine(model).generate([prompt], [17], Deadline.never(), decoding=Decoding(temperature))
        assert alone[1].ids.tolist() == found[i].ids.tolist()
        begins = decoded_starts(model, prompt, found[i].ids)
        logits = teacher_forced(model, prompt, found[i].ids, begins)
        forced = logits.log_softmax(-1)[range(len(begins)), found[i].ids]
        np.testing.assert_allclose(forced.numpy(), found[i].log_probs, atol=2e-4)


def decoded_starts(model: LoadedModel, prompt: Any, ids: Any) -> list[bool]:
    """Where decoding began segments: the micro decoder's confidence is asked for again, segment by segment."""
    network: Any = model.network
    config, begins, length = network.micro_config, [True] + [False] * (len(ids) - 1), 1
    for t in range(1, len(ids)):
        sure = length < config.most_tokens
        if sure:
            logits = teacher_forced(model, prompt, ids[: t + 1], [*begins[:t], False])[-1]
            sure = bool(logits.softmax(-1).max() > config.stop)
        begins[t] = not sure
        length = length + 1 if sure else 1
    return begins


@torch.no_grad()
def teacher_forced(model: LoadedModel, prompt: Any, ids: Any, begins: list[bool]) -> torch.Tensor:
    """Logits (T, vocab) of the ids behind a prompt, whose segments begin there."""
    network: Any = model.network
    whole = torch.from_numpy(np.concatenate([prompt, ids]))[None]
    found = starts_of(network.reference[0], whole, network.micro_config, [whole[0, len(prompt) - 1 : len(prompt)]])
    found[0, len(prompt) :] = torch.tensor(begins)
    hidden = network.hidden_before(whole, Segments.of(found))[0, len(prompt) :]
    logits: torch.Tensor = network.get_output_embeddings()(hidden).float()
    return logits


def test_early_stop_at_1_is_the_base_and_at_0_writes_whole_segments() -> None:
    prompts = random_prompts([7, 12])
    for stop, most in ((1.0, 1), (0.0, 4)):
        model, _ = micro_of(replace(ENTROPY, stop=stop))
        engine = MicroEngine(model)
        (_, first), (_, second) = sorted(engine.generate(prompts, [16, 16], Deadline.never()), key=lambda each: each[0])
        expected = sum(-(-len(each.ids) // most) for each in (first, second))
        assert engine.counts.macro_steps == expected
        assert engine.counts.tokens == len(first.ids) + len(second.ids)


@pytest.mark.parametrize("kind", ["llama", "grid"])
@pytest.mark.parametrize("merger", ["weights", "mean", "last"])
@pytest.mark.parametrize("held", ["fp32", "bf16", "bf16 products"])
def test_a_decoded_answer_has_the_score_that_it_was_found_with(kind: str, merger: Any, held: str) -> None:
    """In every type that a base is loaded in: as on a GPU, and as on a CPU."""
    model, _ = micro_of(replace(ENTROPY, merger=merger), kind=kind)
    if held == "bf16":
        base: Any = model.network.base.bfloat16()  # type: ignore[union-attr]
        made = MicroLM(base, model.network.micro_config, model.network.reference[0])  # type: ignore[union-attr]
        made.load_state_dict(model.network.state_dict())
        network: Any = made.eval()
        model = replace(model, network=network)
    elif held == "bf16 products":
        model = replace(model, autocast=torch.bfloat16)
    engine = MicroEngine(model)
    for prompt in random_prompts([7, 12, 5]):
        (found,) = generate(engine, [prompt], [17])
        ((_, nlls),) = engine.score([prompt], [[found.ids]], Deadline.never())
        assert nlls[0] == pytest.approx(-found.log_prob, abs=1e-4) and nlls[0] > 0.1
    assert 0 < engine.counts.macro_steps < engine.counts.tokens


def test_samples_are_those_of_the_base_where_segments_are_of_one_token() -> None:
    model, base = micro_of(replace(ENTROPY, threshold=0.0, stop=1.0))
    decoding, prompts = Decoding(temperature=1.0, best_of=3, seed=5), random_prompts([7, 12, 5, 9])
    asked = prompts, [20] * 4, Deadline.never()
    found = dict(MicroEngine(model, rows_per_batch=6).generate(*asked, decoding=decoding))
    wanted = dict(HFEngine(base).generate(*asked, decoding=decoding))
    assert {i: each.ids.tolist() for i, each in found.items()} == {i: each.ids.tolist() for i, each in wanted.items()}
    one = dict(MicroEngine(model).generate(*asked, decoding=replace(decoding, best_of=1)))
    assert any(one[i].ids.tolist() != found[i].ids.tolist() for i in one)


def test_no_prompt_is_read_behind_the_deadline() -> None:
    """The clock moves with every look at it: of four prompts in two batches none, two or all are read in time."""
    prompts = random_prompts([7, 12, 5, 12])
    for seconds, n_read in ((0, 0), (2, 2), (1000, 4)):
        engine = MicroEngine(micro_of()[0], rows_per_batch=2)
        generate(engine, prompts, [5] * 4, Deadline(seconds + 0.5, TickingClock()))
        assert engine.counts.prompt_tokens == sum(sorted(map(len, prompts))[:n_read])


def test_the_candidates_of_a_prompt_share_its_prefill() -> None:
    engine, (prompt, *candidates) = MicroEngine(micro_of()[0]), random_prompts([30, 5, 9, 7])
    ((_, together),) = engine.score([prompt], [candidates], Deadline.never())
    assert engine.counts.prompt_tokens == 30
    for nll, ids in zip(together, candidates, strict=True):
        ((_, alone),) = engine.score([prompt], [[ids]], Deadline.never())
        assert alone[0] == pytest.approx(nll, abs=1e-4)


def test_what_the_engine_cannot_do_is_refused() -> None:
    engine = MicroEngine(micro_of()[0])
    with pytest.raises(EngineError, match=r"^decoding: found 2 beams for a micro-step model, expected 1"):
        list(engine.generate(random_prompts([3]), [3], Deadline.never(), decoding=Decoding(beams=2)))
