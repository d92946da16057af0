"""The vocabulary cut: the same logits and answers of the tokens that stay, and nothing silent about those that go."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import digest, generate, trained_tokenizer
from strategies import tasks

from arc_kaggle.answering.requests import make_requests
from arc_kaggle.config.answer import GenerateConfig
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.config.tune import LoraConfig, Loss
from arc_kaggle.engines.hf.engine import HFEngine
from arc_kaggle.errors import ModelError, PromptError
from arc_kaggle.models import vocabulary_cut as vocabulary
from arc_kaggle.models.loading import LoadedModel, in_notation, save_model
from arc_kaggle.models.vocabulary_cut import CutTokenizer, cut_vocabulary, shrink, used_ids
from arc_kaggle.run.worker.main import load_method
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.tasks.task import Pair, Task
from arc_kaggle.text.encoders import MinimalGridEncoder, RowNumberEncoder
from arc_kaggle.text.notation import Notation
from arc_kaggle.text.presets import PRESETS, Preset
from arc_kaggle.text.prompt import training_prompt
from arc_kaggle.text.prompt_format import PromptFormat
from arc_kaggle.text.tokens import TokenIds, tokenize
from arc_kaggle.tuning.tunable_weights import LoraAdapter

FORMATS = ["plain", "arc24", "nvarc"]
TIES = pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])


@pytest.fixture(autouse=True, scope="module")
def found_once() -> Iterator[None]:
    """The tokens in use are found once for each format and encoder: it takes a second."""
    found = cache(used_ids)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vocabulary, "used_ids", found)
        yield


def preset_of(name: str) -> Preset:
    return PRESETS[name].for_tokens("<s>", "</s>")


def model_of(name: str = "nvarc", tied: bool = True, seed: int = 0) -> LoadedModel:
    """A tiny Llama with large random weights, over more rows than the tokenizer has tokens, as Qwen's is."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer, preset = trained_tokenizer(), preset_of(name)
    torch.manual_seed(seed)
    shape = {"vocab_size": len(tokenizer) + 12, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = LlamaConfig(**shape, **ids, num_attention_heads=2, tie_word_embeddings=tied)
    network: Any = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(10 if parameter.ndim == 2 else 1)
    return in_notation(network, preset.notation(tokenizer), None)


def task_of(seed: int) -> Task:
    rng = np.random.default_rng(seed)
    grids = [rng.integers(10, size=(3, 4)).astype(np.int8) for _ in range(7)]
    return Task("random", tuple(Pair(*grids[i : i + 2]) for i in (0, 2, 4)), (Pair(grids[6], None),))


def prompts_of(model: LoadedModel, seed: int = 0) -> list[TokenIds]:
    config, rng = GenerateConfig(n_views=3), np.random.default_rng(seed)
    requests = make_requests(task_of(seed), model.notation, config, rng)
    return [request.ids for request in requests]


@torch.inference_mode()
def logits(model: LoadedModel, ids: TokenIds) -> torch.Tensor:
    found: torch.Tensor = model.network(input_ids=torch.from_numpy(ids)[None], use_cache=False).logits
    return found[0]


@TIES
@pytest.mark.parametrize("name", FORMATS)
def test_logits_of_the_kept_tokens_are_what_they_were(name: str, tied: bool) -> None:
    full, cut = model_of(name, tied), cut_vocabulary(model_of(name, tied))
    kept = list(cut.tokenizer.kept)
    assert len(kept) < len(full.tokenizer) / 2
    for before, after in zip(prompts_of(full), prompts_of(cut), strict=True):
        assert [kept[i] for i in after] == before.tolist()
        torch.testing.assert_close(logits(cut, after), logits(full, before)[:, kept], rtol=1e-6, atol=1e-5)


@TIES
def test_the_network_is_smaller_and_as_tied_as_it_was(tied: bool) -> None:
    full, cut = model_of(tied=tied), cut_vocabulary(model_of(tied=tied))
    n_kept, n_rows = len(cut.tokenizer.kept), len(full.tokenizer) + 12
    saved = (n_rows - n_kept) * 64 * (1 if tied else 2)
    sizes = [sum(parameter.numel() for parameter in model.network.parameters()) for model in (full, cut)]
    assert sizes[1] == sizes[0] - saved
    embeddings, head = cut.network.get_input_embeddings(), cut.network.get_output_embeddings()
    assert (head.weight is embeddings.weight) is tied
    assert cut.network.config.vocab_size == n_kept
    assert all(parameter.requires_grad for parameter in cut.network.parameters())


@pytest.mark.parametrize("name", FORMATS)
def test_special_tokens_are_found_again(name: str) -> None:
    full, cut = model_of(name), cut_vocabulary(model_of(name))
    kept = cut.tokenizer.kept
    assert (kept[cut.end_id], kept[cut.pad_id]) == (full.end_id, full.pad_id)
    assert kept[cut.network.config.eos_token_id] == full.network.config.eos_token_id
    assert kept[cut.network.get_input_embeddings().padding_idx] == full.network.get_input_embeddings().padding_idx
    assert {full.tokenizer.bos_token_id, full.tokenizer.eos_token_id} <= set(kept)


@TIES
def test_greedy_answers_are_the_same_where_the_full_model_stays_within_the_kept(tied: bool) -> None:
    full, cut = model_of(tied=tied), cut_vocabulary(model_of(tied=tied))
    kept, n_same = cut.tokenizer.kept, 0
    with torch.no_grad():  # the full model is made to prefer tokens that stay, as one trained on this format does
        fill = torch.full((len(full.network.lm_head.weight),), -1e4).index_fill(0, torch.tensor(kept), 0.0)
    full.network.lm_head.register_forward_hook(lambda module, inputs, output: output + fill)
    for seed in range(3):
        pairs = zip(
            generate(HFEngine(full), prompts_of(full, seed), [30] * 3),
            generate(HFEngine(cut), prompts_of(cut, seed), [30] * 3),
            strict=True,
        )
        for before, after in pairs:
            assert [kept[i] for i in after.ids] == before.ids.tolist()
            assert after.ended is before.ended
            np.testing.assert_allclose(after.log_probs, before.log_probs, atol=1e-4)
            assert cut.tokenizer.decode(after.ids.tolist()) == full.tokenizer.decode(before.ids.tolist())
            n_same += len(set(before.ids.tolist()))
    assert n_same > 9  # answers of one token again and again would prove little


@cache
def covered(name: str, spec: str) -> tuple[Notation, Notation]:
    """The notation of a format with the full tokenizer, and with the one that was cut for it."""
    preset = preset_of(name)
    full = replace(preset, encoder=spec or preset.encoder).notation(trained_tokenizer())
    kept = tuple(sorted(vocabulary.used_ids(full)))
    return full, replace(full, tokenizer=CutTokenizer(full.tokenizer, kept))


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        *((name, "") for name in ("plain", "arc24", "architects", "nvarc")),
        ("plain", "shape+rows+colours"),
        ("architects", "rows+separated('|')"),
    ],
)
@settings(max_examples=15)
@given(task=tasks(), loss=st.sampled_from(get_args(Loss)))
def test_no_task_needs_a_token_that_was_cut(name: str, spec: str, task: Task, loss: Loss) -> None:
    full, cut = covered(name, spec)
    kept = cut.tokenizer.kept  # type: ignore[attr-defined]
    before, after = (
        [request.ids for request in make_requests(task, each, GenerateConfig(n_views=2), np.random.default_rng(0))]
        for each in (full, cut)
    )
    assert [[kept[i] for i in ids] for ids in after] == [ids.tolist() for ids in before]
    if len(task.train) > 1:
        prompt = training_prompt(task, replace(full, loss=loss))
        assert [kept[i] for i in tokenize(prompt, cut.tokenizer).ids] == tokenize(prompt, full.tokenizer).ids.tolist()


@pytest.mark.parametrize("name", ["plain", "arc24", "architects"])
def test_what_asks_for_a_verdict_is_kept(name: str) -> None:
    _, cut = covered(name, "")
    for text in (cut.format.verify, cut.format.right, cut.format.wrong):
        assert text and cut.tokenizer.decode(cut.ids(text)) == text


BORDERS = PromptFormat("<s>", "I", "O", "$;", stop="$")


@cache
def border_notation() -> Notation:
    """Its tokens reach over the borders of grids, such as 1O2 and 3$;I4, as some of Qwen do; cut for `BORDERS`."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    sides, signs = ["", *"0123456789"], ["I", "O", "$", "$;I", ";I", ";"]
    texts = ["<s>", "\n", *sides[1:], *(a + sign + b for sign in signs for a in sides for b in sides)]
    inner = Tokenizer(models.WordLevel({text: i for i, text in enumerate(texts)}))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"[0-9]?[$;IO]+[0-9]?|[\s\S]"), "isolated")
    inner.decoder = decoders.Fuse()
    full = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>")
    notation = Notation(MinimalGridEncoder(), BORDERS, full)
    used = vocabulary.used_ids(notation)
    assert len(used) < len(texts)
    return replace(notation, tokenizer=CutTokenizer(full, tuple(sorted(used))))


@given(task=tasks(), loss=st.sampled_from(get_args(Loss)))
def test_tokens_over_the_borders_of_grids_are_kept(task: Task, loss: Loss) -> None:
    notation = border_notation()
    assert list(make_requests(task, notation, GenerateConfig(n_views=2), np.random.default_rng(0)))
    if len(task.train) > 1:
        prompt, decode = training_prompt(task, replace(notation, loss=loss)), notation.tokenizer.decode
        assert "".join(decode([i]) for i in tokenize(prompt, notation.tokenizer).ids) == prompt.text


@pytest.mark.parametrize("text", ["012x", "é", "Let's"])
def test_a_text_of_cut_tokens_is_refused(text: str) -> None:
    tokenizer = cut_vocabulary(model_of("plain")).tokenizer
    assert tokenizer.decode(tokenizer.encode("01\n2", add_special_tokens=False)) == "01\n2"
    with pytest.raises(PromptError, match=r"^cut vocabulary: .* needs the token .*, expected one of the \d+ kept"):
        tokenizer.encode(text, add_special_tokens=False)


def test_a_fallback_encoder_is_kept_too() -> None:
    text = RowNumberEncoder(MinimalGridEncoder()).encode(np.zeros((2, 2), dtype=np.int8))
    with pytest.raises(PromptError, match="cut vocabulary"):
        cut_vocabulary(model_of("plain")).tokenizer.encode(text, add_special_tokens=False)
    tokenizer = cut_vocabulary(model_of("plain"), "rows+minimal").tokenizer
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


@TIES
def test_an_adapter_on_what_is_left_is_reset(tied: bool) -> None:
    cut = cut_vocabulary(model_of(tied=tied))
    ids = prompts_of(cut)[0]
    before = logits(cut, ids)
    adapter = LoraAdapter(cut, LoraConfig(rank=4, modules=("q_proj", "embed_tokens", "lm_head")))
    with torch.no_grad():
        for parameter in adapter.parameters:
            parameter.add_(1)
    assert not torch.equal(logits(cut, ids), before)
    adapter.reset(0)
    assert digest(logits(cut, ids)) == digest(before)


def test_a_network_without_a_row_for_every_token_is_refused() -> None:
    with pytest.raises(ModelError, match=r"^cut vocabulary: found \d+ embeddings and a head of \d+ in LlamaForCausal"):
        shrink(model_of().network, [0, 99999])


@pytest.mark.parametrize("cut", [True, False])
def test_solve_cuts_where_it_is_told_to(tmp_path: Path, cut: bool) -> None:
    save_model(model_of("nvarc"), tmp_path, "none", {})
    method = load_method(SolveConfig("unread", Path("unwritten"), model=tmp_path, device="cpu", cut_vocabulary=cut))
    n_rows = len(method.engine.model.network.lm_head.weight)  # type: ignore[attr-defined]
    assert (n_rows < 100) is cut
    assert isinstance(method.notation.tokenizer, CutTokenizer) is cut
    config = GenerateConfig(n_views=1)
    ids = [request.ids for request in make_requests(task_of(0), method.notation, config, np.random.default_rng(0))]
    assert list(method.engine.generate(ids, [3] * len(ids), Deadline.never()))
