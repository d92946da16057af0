"""The engine on vLLM beside the one on Hugging Face, with the same weights in fp32; and what becomes of it in trouble.

The contract that all engines share is tested in tests/engines/test_contract.py. ARC_KAGGLE_N_ADAPTERS=60 makes the
longer run.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models import LONGEST, TickingClock, assert_same, generate, lively_model, random_prompts
from prompt_models import write_set, write_text_model
from strategies import prediction as proposal
from vllm_engines import QUICK, vllm_engine

from arc_kaggle.answering.candidates import Prediction
from arc_kaggle.answering.predict import Interpreter
from arc_kaggle.answering.rescore import rescore
from arc_kaggle.answering.vote import rank_candidates
from arc_kaggle.cli import main
from arc_kaggle.config.answer import Decoding, GenerateConfig, RescoreConfig, Search
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.config.tune import EVERYWHERE, LoraConfig, OptimConfig, TuneConfig
from arc_kaggle.engines.base import Completion, Engine
from arc_kaggle.engines.hf.engine import HFEngine
from arc_kaggle.engines.vllm import VLLMEngine
from arc_kaggle.engines.vllm.process import SWITCHES, VLLMProcess
from arc_kaggle.errors import EngineError, ModelError
from arc_kaggle.models.loading import LoadedModel, save_model
from arc_kaggle.run.worker.main import load_method
from arc_kaggle.run.worker.method import answer_views, tune_task
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.system.hardware import held_bytes
from arc_kaggle.tasks.grid import as_grid
from arc_kaggle.tasks.task import Pair, Task
from arc_kaggle.text.tokens import TokenIds
from arc_kaggle.tuning.tunable_weights import LoraAdapter

if not find_spec("vllm"):
    pytest.skip("vLLM is not installed here; make test-backends runs it where it is", allow_module_level=True)

TOLERANCE = 2e-4
"""Nats of one log-probability, in fp32 under weights ten times as large as usual."""
RANK = 8
N_ADAPTERS = int(os.environ.get("ARC_KAGGLE_N_ADAPTERS", "6"))
LENGTHS = [5, 60, 33, 1, 129, 17, 64, 3]
LIMITS = [20, 30, 1, 12, 30, 0, 25, 30]
PROMPTS = random_prompts(LENGTHS, seed=5)
NEVER = Deadline.never()


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return lively_model(0)


@pytest.fixture(scope="module")
def hf() -> HFEngine:
    return HFEngine(lively_model(0))


@pytest.fixture(scope="module")
def shared(model: LoadedModel) -> Iterator[VLLMEngine]:
    engine = vllm_engine(model, RANK, replace(QUICK, max_adapters=4, patience_seconds=60))
    yield engine
    engine.close()


@pytest.fixture
def engine(shared: VLLMEngine) -> Iterator[VLLMEngine]:
    """One for all tests, as new."""
    config = shared.process.config
    yield shared
    shared.process.config = config
    for name in list(shared.shelf.known):
        shared.drop(name)


def scored(engine: Engine, candidates: list[list[TokenIds]], adapters: list[str] | None = None) -> list[list[float]]:
    found = dict(engine.score(PROMPTS, candidates, NEVER, adapters=adapters))
    return [found[i].tolist() for i in range(len(PROMPTS))]


def test_greedy_answers_are_those_of_hugging_face(engine: VLLMEngine, hf: HFEngine) -> None:
    for found, expected in zip(generate(engine, PROMPTS, LIMITS), generate(hf, PROMPTS, LIMITS), strict=True):
        assert_same(found, expected, TOLERANCE)


def test_both_agree_on_the_likeliest_token_under_teacher_forcing(engine: VLLMEngine, hf: HFEngine) -> None:
    """Random texts of many tokens: of each the next one, by a search that cannot look further than one token."""
    texts = random_prompts([300] * 4, seed=8)
    prompts = [text[:n] for text in texts for n in range(1, len(text))]
    ones = [1] * len(prompts)
    pairs = list(zip(generate(engine, prompts, ones), generate(hf, prompts, ones), strict=True))
    agree = [one.ids.tolist() == other.ids.tolist() for one, other in pairs]
    assert len(pairs) > 1000
    assert np.mean(agree) >= 0.999
    differences = [abs(one.log_prob - other.log_prob) for one, other in pairs]
    assert max(differences) < TOLERANCE


@pytest.mark.parametrize("n_beams", [2, 5, 100])
def test_beams_are_those_of_hugging_face(engine: VLLMEngine, hf: HFEngine, n_beams: int) -> None:
    limits, beams = [min(limit, 8) for limit in LIMITS], Decoding(beams=n_beams)
    found, expected = (dict(each.generate(PROMPTS, limits, NEVER, decoding=beams)) for each in (engine, hf))
    for position in range(len(PROMPTS)):
        assert_same(found[position], expected[position], TOLERANCE)


def test_samples_are_their_prompts_own_and_carry_the_models_log_probabilities(engine: VLLMEngine, hf: HFEngine) -> None:
    sampled = [sample(engine, seed, 1.5) for seed in (1, 1, 2)]
    texts = [[each.ids.tolist() for each in found] for found in sampled]
    assert texts[0] == texts[1] != texts[2]
    ((_, alone),) = engine.generate(PROMPTS[4:5], [30], NEVER, decoding=Decoding(1.5, seed=1))
    assert alone.ids.tolist() == texts[0][4]
    nlls = scored(hf, [[each.ids] for each in sampled[0]])
    np.testing.assert_allclose([-each.log_prob for each in sampled[0]], np.concatenate(nlls), atol=30 * TOLERANCE)


def sample(engine: VLLMEngine, seed: int, temperature: float, best_of: int = 1) -> list[Completion]:
    decoding = Decoding(temperature, best_of, seed=seed)
    return [each for _, each in sorted(engine.generate(PROMPTS, LIMITS, NEVER, decoding=decoding))]


def test_samples_follow_the_softmax_at_their_temperature(engine: VLLMEngine, hf: HFEngine) -> None:
    temperature, n, tokens = 2.0, 400, [np.array([i]) for i in range(len(hf.model.tokenizer))]
    ((_, nlls),) = hf.score(PROMPTS[:1], [tokens], NEVER)
    shares = np.exp(-nlls / temperature)
    counts = np.zeros(len(tokens))
    for seed in range(n):
        ((_, drawn),) = engine.generate(PROMPTS[:1], [1], NEVER, decoding=Decoding(temperature, seed=seed))
        counts[drawn.ids[0]] += 1
    assert np.abs(counts / n - shares / shares.sum()).max() < 4 * np.sqrt(0.25 / n)


def test_the_best_of_many_samples_is_one_of_them_and_the_likeliest(engine: VLLMEngine) -> None:
    singles, many = sample(engine, 3, 1.5), sample(engine, 3, 1.5, best_of=6)
    assert all(best.ended >= one.ended for best, one in zip(many, singles, strict=True))
    assert all(
        best.log_prob >= one.log_prob for best, one in zip(many, singles, strict=True) if best.ended == one.ended
    )
    assert [each.ids.tolist() for each in many] != [each.ids.tolist() for each in singles]


@pytest.mark.parametrize("p_min", [0.3, 0.05, 0.004])
def test_a_search_finds_what_hugging_face_finds(engine: VLLMEngine, hf: HFEngine, p_min: float) -> None:
    search, limits = Search(p_min), [min(limit, 12) for limit in LIMITS]
    found, expected = (dict(each.search(PROMPTS, limits, NEVER, search)) for each in (engine, hf))
    for position in range(len(PROMPTS)):
        one, other = found[position], expected[position]
        assert (one.nodes, one.cut, one.stopped) == (other.nodes, other.cut, other.stopped)
        for mine, theirs in zip(one.completions, other.completions, strict=True):
            assert_same(mine, theirs, TOLERANCE)


def test_scores_are_those_of_hugging_face(engine: VLLMEngine, hf: HFEngine) -> None:
    """Also of what the model would never say, and with an end token in the middle."""
    ends = np.array([4, 2, 4, 2])
    candidates = [[*random_prompts([n, 1, 0, 2 * n]), ends] for n in range(1, len(PROMPTS) + 1)]
    for mine, theirs in zip(scored(engine, candidates), scored(hf, candidates), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=20 * TOLERANCE)


def test_a_pairwise_judge_says_what_it_says_on_hugging_face(
    engine: VLLMEngine, hf: HFEngine, model: LoadedModel
) -> None:
    """The margins of all comparisons, and the order that follows from them."""
    proposed = [proposal(grid, i, 0, "copy") for i, grid in enumerate([[[4]], [[0, 0]], [[4, 2], [1, 1]]])]
    config, options = GenerateConfig(n_views=4), RescoreConfig(n_views=4, pairs=3)
    found = []
    for each in (engine, hf):
        interpreter = Interpreter(each, model.notation)
        rng = np.random.default_rng(5)
        scores = rescore(copy_task(3), proposed, interpreter, config, options, rng, NEVER)
        found.append(sorted(scores, key=lambda score: score.view))  # views come as they are through
    mine, theirs = ([margin for score in scores for _, margin in score.duels] for scores in found)
    assert len(mine) == 4 * 3 and np.ptp(theirs) > 0.1
    np.testing.assert_allclose(mine, theirs, atol=40 * TOLERANCE)
    orders = [[c.grid.tolist() for c in rank_candidates(proposed, scores, "pairwise")] for scores in found]
    assert orders[0] == orders[1]


def attach(model: LoadedModel, modules: tuple[str, ...] = EVERYWHERE, rank: int = RANK) -> LoraAdapter:
    return LoraAdapter(model, LoraConfig(rank=rank, modules=modules))


def draw(adapter: LoraAdapter, seed: int) -> None:
    """Random factors that change every answer."""
    adapter.reset(seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapter.parameters:
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)


def test_every_adapter_answers_as_on_hugging_face_all_in_one_batch(engine: VLLMEngine) -> None:
    """With adapters on embeddings and head; scores as well, and beside the base."""
    base = lively_model(0)
    candidates = [[prompt[:9], prompt[:4]] for prompt in PROMPTS]
    names, expected, nlls = (
        ["__base__"],
        [generate(HFEngine(base), PROMPTS, LIMITS)],
        [scored(HFEngine(base), candidates)],
    )
    adapter = attach(base)
    for seed in (1, 2, 3):
        draw(adapter, seed)
        names.append(engine.put(saver(adapter)))
        expected.append(generate(HFEngine(base), PROMPTS, LIMITS))
        nlls.append(scored(HFEngine(base), candidates))
    mixed = [names[i % 4] for i in range(len(PROMPTS))]
    found = dict(engine.generate(PROMPTS, LIMITS, NEVER, adapters=mixed))
    scores = scored(engine, candidates, mixed)
    for i in range(len(PROMPTS)):
        assert_same(found[i], expected[i % 4][i], 5 * TOLERANCE)
        np.testing.assert_allclose(scores[i], nlls[i % 4][i], atol=20 * TOLERANCE)
    assert len({tuple(each[1].ids.tolist()) for each in expected}) == 4


def saver(adapter: LoraAdapter):  # type: ignore[no-untyped-def]
    def save(folder: Path) -> None:
        folder.mkdir()
        adapter.save(folder)

    return save


def test_a_new_revision_is_another_adapter(engine: VLLMEngine) -> None:
    base = lively_model(0)
    adapter = attach(base)
    answers = []
    for seed in (1, 2, 1):
        draw(adapter, seed)
        name = engine.put(saver(adapter))
        engine.use(name)
        answers.append([each.ids.tolist() for each in generate(engine, PROMPTS, LIMITS)])
        engine.drop(name)
        assert [*engine.shelf.folder.iterdir()] == []
    assert answers[0] == answers[2] != answers[1]
    assert generate(engine, PROMPTS, LIMITS)[1].ids.tolist() != answers[0][1]  # the base again


@pytest.mark.skipif(N_ADAPTERS < 2, reason="nothing to tell apart")
def test_many_adapters_through_one_engine(engine: VLLMEngine) -> None:
    """Any two disagree on a probe; each answers as by itself on Hugging Face; memory stays what it was."""
    base = lively_model(0)
    adapter, probes = attach(base), set()
    held = []
    for seed in range(N_ADAPTERS):
        draw(adapter, seed)
        expected = generate(HFEngine(base), PROMPTS, LIMITS)
        name = engine.put(saver(adapter))
        found = dict(engine.generate(PROMPTS, LIMITS, NEVER, adapters=[name] * len(PROMPTS)))
        for position, each in enumerate(expected):
            assert_same(found[position], each, 5 * TOLERANCE)
        engine.drop(name)
        probes.add(tuple(np.concatenate([each.ids for each in expected]).tolist()))
        held.append(held_bytes(engine.process.process.pid) / 2**20)
    assert len(probes) == N_ADAPTERS
    print(f"host memory in MiB after each adapter: {[round(each) for each in held]}")
    assert held[-1] - held[len(held) // 4] < 20 + N_ADAPTERS  # MiB


@pytest.mark.parametrize(
    ("options", "refusal"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"modules_to_save": ["norm"]}, "modules_to_save"),
        ({"r": 16}, "rank 16, expected 8 or less: raise max_lora_rank to 16"),
    ],
)
def test_what_vllm_cannot_load_is_refused_before_it_is_asked(
    engine: VLLMEngine, options: dict[str, object], refusal: str
) -> None:
    import peft

    config = peft.LoraConfig(**{"r": 4, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM", **options})
    adapted = peft.get_peft_model(lively_model(0).network, config)
    with pytest.raises(ModelError, match=refusal):
        engine.put(adapted.save_pretrained)
    assert [*engine.shelf.folder.iterdir()] == []


def test_a_prompt_that_leaves_no_room_for_its_answer_is_refused(engine: VLLMEngine) -> None:
    (long,) = random_prompts([LONGEST - 9])
    assert len(generate(engine, [long], [9])) == 1
    with pytest.raises(EngineError, match=rf"^prompt 0 of 1: found {LONGEST - 9} tokens and up to 10 of an answer"):
        generate(engine, [long], [10])


def test_a_call_within_a_call_is_refused(engine: VLLMEngine) -> None:
    first = engine.generate(PROMPTS, LIMITS, NEVER)
    next(first)
    with pytest.raises(EngineError, match="found a call within a call"):
        generate(engine, PROMPTS, LIMITS)
    first.close()
    assert len(generate(engine, PROMPTS, LIMITS)) == len(PROMPTS)


def test_the_deadline_comes_in_the_middle(engine: VLLMEngine) -> None:
    prompts = random_prompts([30] * 40, seed=2)
    whole = generate(engine, prompts, [400] * 40)
    cut = generate(engine, prompts, [400] * 40, Deadline.after(4, TickingClock()))
    assert 0 < sum(len(each.ids) for each in cut) < sum(len(each.ids) for each in whole)
    for few, many in zip(cut, whole, strict=True):
        assert few.ids.tolist() == many.ids[: len(few.ids)].tolist()


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Process ids of vLLM's processes that are started during a test."""
    begun, start = list[int](), VLLMProcess.start

    def noted(self: VLLMProcess) -> None:
        start(self)
        begun.append(self.process.pid)

    monkeypatch.setattr(VLLMProcess, "start", noted)
    return begun


def test_a_hang_ends_at_the_deadline_and_the_next_call_is_answered(engine: VLLMEngine, starts: list[int]) -> None:
    """The process stands still, as one that hangs in a kernel does: it is alive, and says nothing."""
    expected = generate(engine, PROMPTS, LIMITS)
    os.kill(engine.process.process.pid, signal.SIGSTOP)
    started = time.monotonic()
    cut = generate(engine, PROMPTS, LIMITS, Deadline.after(1))
    assert time.monotonic() - started < 4
    assert not any(len(each.ids) for each in cut)
    engine.process.config = replace(engine.process.config, patience_seconds=5)
    for found, same in zip(generate(engine, PROMPTS, LIMITS), expected, strict=True):
        assert_same(found, same, TOLERANCE)
    assert len(starts) == 1


def test_a_process_that_dies_in_the_middle_loses_nothing(engine: VLLMEngine) -> None:
    """Not the adapter either, nor the noise of samples; what was through before stays so."""
    base = lively_model(0)
    adapter = attach(base)
    draw(adapter, 1)
    engine.use(engine.put(saver(adapter)))
    decoding = Decoding(1.5, seed=1)
    limits = [100] * len(PROMPTS)
    expected = dict(engine.generate(PROMPTS, limits, NEVER, decoding=decoding))
    results = engine.generate(PROMPTS, limits, NEVER, decoding=decoding)
    found = dict([next(results)])
    os.kill(engine.process.process.pid, signal.SIGKILL)
    found.update(results)
    assert {i: each.ids.tolist() for i, each in found.items()} == {i: each.ids.tolist() for i, each in expected.items()}


@pytest.mark.parametrize("limit", [{"adapters_a_life": 1}, {"growth_gb": 1e-6}])
def test_a_life_ends_between_two_calls(engine: VLLMEngine, starts: list[int], limit: dict[str, Any]) -> None:
    """By the number of its adapters, or by the memory of the host that it has taken since it began."""
    base = lively_model(0)
    adapter = attach(base)
    draw(adapter, 1)
    engine.use(engine.put(saver(adapter)))
    expected = generate(engine, PROMPTS, LIMITS)
    engine.process.config = replace(engine.process.config, **limit)
    for found, same in zip(generate(engine, PROMPTS, LIMITS), expected, strict=True):
        assert_same(found, same, TOLERANCE)
    assert len(starts) == 1


def test_the_process_is_told_to_stay_offline_and_alone(engine: VLLMEngine) -> None:
    pid = engine.process.process.pid
    found = dict(each.split("=", 1) for each in Path(f"/proc/{pid}/environ").read_text().split("\0") if "=" in each)
    assert SWITCHES.items() <= found.items()


def test_a_model_that_vllm_cannot_load_is_refused_with_its_words(tmp_path: Path, engine: VLLMEngine) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama", "architectures": ["NoSuchNetwork"]}')
    broken = VLLMEngine(replace(engine.served, folder=tmp_path), QUICK)
    try:
        with pytest.raises(EngineError, match=r"^engine vllm: it could not be started: .*NoSuchNetwork"):
            generate(broken, PROMPTS, LIMITS)
    finally:
        broken.close()


def test_a_run_is_tuned_here_and_answered_there(tmp_path: Path, starts: list[int]) -> None:
    """The whole way, with a cut vocabulary, and vLLM hangs before its first answer.

    Answers are those of the tuned weights, as the engine that shares them gives.
    """
    model = tmp_path / "model"
    save_model(lively_model(0), model, "lora", {})
    optim, lora = OptimConfig(learning_rate=5e-3), LoraConfig(RANK, modules=EVERYWHERE)
    options = {"model": model, "precision": "fp32", "device": "cpu", "cut_vocabulary": True}
    config = SolveConfig("arc1:training", tmp_path, tune=TuneConfig(steps=3, optim=optim, lora=lora), **options)
    config = replace(config, vllm=replace(QUICK, patience_seconds=5))
    found = {name: answers(replace(config, engine=name)) for name in ("hf", "vllm")}
    assert found["hf"] == found["vllm"] and len(starts) == 2
    assert len({text for text, _ in found["hf"].values()}) > 3
    turns = replace(config, engine="vllm", vllm=replace(config.vllm, placement="turns"))
    assert answers(turns) == found["hf"]
    assert len(starts) == 2 + 3  # ended for each of two tasks, the hanging one with the first


def answers(config: SolveConfig) -> dict[object, tuple[str, str | None]]:
    """Text and reason of every prediction."""
    config = replace(config, generate=replace(config.generate, n_views=4))
    tasks = [copy_task(3), replace(copy_task(4), id="other")]
    method, kept = load_method(config), list[Prediction]()
    if isinstance(method.engine, VLLMEngine):
        generate(method.engine, [np.array([3])], [1])
        os.kill(method.engine.process.process.pid, signal.SIGSTOP)
    for task in tasks:
        tune_task(task, method, config, NEVER)
        answer_views([task], range(config.generate.n_views), method, config, NEVER, kept.append)
    if isinstance(method.engine, VLLMEngine):
        assert len([*method.engine.shelf.folder.iterdir()]) == 1  # that of the last task alone
        assert method.tuner is not None
        method.tuner.reset()
        assert [*method.engine.shelf.folder.iterdir()] == []
        method.engine.close()
    return {prediction.key: (prediction.text, prediction.reason) for prediction in kept}


def copy_task(n_train: int) -> Task:
    grids = [as_grid([[1, 2], [i, 3]]) for i in range(n_train)]
    return Task("copy", tuple(Pair(grid, grid) for grid in grids), (Pair(grids[0], None),))


def test_prompts_with_completions_are_answered_as_by_hf(tmp_path: Path) -> None:
    """A base and an adapter on it, texts and likelihoods."""
    base = write_text_model(tmp_path / "base")
    lines = [{"prompt": "2+2?", "completion": "4", "choices": ["4", "5"]}]
    data = write_set(tmp_path / "set.jsonl", lines)
    learn = ["train", "--start", str(base), "--out", str(tmp_path / "adapter"), "--data", f"prompts:{data}"]
    sizes = ["--tokens-per-batch", "64", "--bucket", "16", "--max-tokens", "32", "--precision", "fp32", "--steps", "5"]
    assert main([*learn, *sizes, "--hold-out", "0", "--weights", "lora", "--lora.rank", "8"]) == 0
    found = {}
    for engine, score in product(("hf", "vllm"), ("exact", "choice")):
        out = tmp_path / f"{engine}-{score}"
        ask = ["evaluate-prompts", str(base), str(tmp_path / "adapter"), "--base", str(base), "--data", str(data)]
        options = ["--score", score, "--max-new-tokens", "12", "--precision", "fp32", "--engine", engine]
        assert main([*ask, "--out", str(out), *options]) == 0
        lines = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
        found[engine, score] = [each for line in lines for each in line["predictions"]]
    for score in ("exact", "choice"):
        for mine, other in zip(found["hf", score], found["vllm", score], strict=True):
            assert mine["text"] == other["text"] and mine["ended"] == other["ended"]
            assert mine["log_prob"] == pytest.approx(other["log_prob"], abs=1e-3)
