"""What can be said of vLLM and Unsloth without them: requests, adapters on disk, refusals. The rest: tests/backends."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from importlib.util import find_spec
from math import exp, log
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from models import TickingClock, assert_same, generate, lively_model, random_prompts

from arc_kaggle.config.answer import Decoding, GenerateConfig, Search
from arc_kaggle.config.engines import ENGINES, TUNERS, EngineName, TunerName, VLLMConfig
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.config.tune import LoraConfig, TuneConfig
from arc_kaggle.engines.choice import max_rank
from arc_kaggle.engines.hf.engine import HFEngine
from arc_kaggle.engines.vllm.adapters import PREFIX, Shelf
from arc_kaggle.engines.vllm.call import MOST_LOSSES, Call
from arc_kaggle.engines.vllm.messages import Ask, Heard, Served
from arc_kaggle.engines.vllm.process import ProcessLost, VLLMProcess
from arc_kaggle.engines.vllm.token_paths import Answering, BeamSearch, PathScoring, Searching, TokenPaths
from arc_kaggle.errors import ArcKaggleError, ConfigError, EngineError, ModelError
from arc_kaggle.models.loading import LoadedModel, save_model
from arc_kaggle.run.worker.engine_setup import InTurns, OnHF, PublishingTuner, own_gpu
from arc_kaggle.run.worker.main import load_method
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.system.threads import SPIN_COUNT, WAITS
from arc_kaggle.text.tokens import Example, TokenIds
from arc_kaggle.tuning.tunable_weights import LoraAdapter
from arc_kaggle.tuning.tuner import InProcessTuner
from arc_kaggle.tuning.unsloth import SWITCHES, import_unsloth

PROMPTS = random_prompts([5, 20, 1, 40], seed=3)
LIMITS = [12, 8, 12, 0]
NEVER = Deadline.never()


class PlainProcess:
    """Answers asks as vLLM does, token by token, by the full forward of a model; lost as often as it is told."""

    is_old = False

    def __init__(self, model: LoadedModel, losses: int = 0) -> None:
        self.engine, self.end_id, self.losses = HFEngine(model), model.end_id, losses
        self.n_vocabulary = len(model.tokenizer)
        self.asks: dict[int, Ask] = {}
        self.n_asked = self.n_dropped = 0

    def wait(self) -> None: ...

    def ask(self, asks: list[Ask]) -> None:
        self.asks.update({ask.number: ask for ask in asks})
        self.n_asked += len(asks)

    def drop(self, numbers: list[int]) -> None:
        self.n_dropped += len(numbers)
        for number in numbers:
            self.asks.pop(number, None)

    def renew(self) -> None:
        self.asks = {}

    def listen(self, seconds: float) -> list[Heard]:
        if self.losses:
            self.losses -= 1
            raise ProcessLost("died by signal 9")
        return [self._step(ask) for ask in list(self.asks.values())]

    def _step(self, ask: Ask) -> Heard:
        tokens = [np.array([i]) for i in range(self.n_vocabulary)]
        ((_, nlls),) = self.engine.score([ask.ids], [tokens], NEVER)
        order = np.argsort(nlls)
        token = int(order[0] if ask.forced is None else ask.forced[0])
        likeliest = tuple((int(i), -float(nlls[i])) for i in order[: ask.n_likely])
        forced = None if ask.forced is None else ask.forced[1:]
        last = ask.limit == 1 or (forced is None and token == self.end_id)
        rest = replace(ask, ids=np.append(ask.ids, token), limit=ask.limit - 1, forced=forced)
        del self.asks[ask.number]
        if not last:
            self.asks[ask.number] = rest
        return Heard(ask.number, token, -float(nlls[token]), likeliest, last)


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return lively_model(0)


def run(process: PlainProcess, jobs: list[Any], deadline: Deadline = NEVER) -> list[Any]:
    found = list(Call(process, iter(range(10**6)), jobs).run(deadline))  # type: ignore[arg-type]
    assert sorted(position for position, _ in found) == list(range(len(jobs)))
    return [each for _, each in sorted(found, key=lambda item: item[0])]


def jobs(make: Callable[[int, TokenIds, int], TokenPaths[Any]]) -> list[TokenPaths[Any]]:
    return [make(i, prompt, limit) for i, (prompt, limit) in enumerate(zip(PROMPTS, LIMITS, strict=True))]


def test_answers_by_requests_are_those_of_hugging_face(model: LoadedModel) -> None:
    process = PlainProcess(model)
    found = run(process, jobs(lambda i, prompt, limit: Answering(i, prompt, limit, model.end_id, Decoding(), None)))
    for one, other in zip(found, generate(HFEngine(model), PROMPTS, LIMITS), strict=True):
        assert_same(one, other, 1e-4)


@pytest.mark.parametrize("n_beams", [3, 40])
def test_beams_by_requests_are_those_of_hugging_face(model: LoadedModel, n_beams: int) -> None:
    process, vocabulary = PlainProcess(model), len(model.tokenizer)
    beams = jobs(lambda i, prompt, limit: BeamSearch(i, prompt, min(limit, 4), model.end_id, n_beams, vocabulary, None))
    expected = dict(
        HFEngine(model).generate(PROMPTS, [min(n, 4) for n in LIMITS], NEVER, decoding=Decoding(beams=n_beams))
    )
    for position, found in enumerate(run(process, beams)):
        assert_same(found, expected[position], 1e-4)


@pytest.mark.parametrize("p_min", [0.2, 0.01])
def test_a_search_by_requests_is_that_of_hugging_face(model: LoadedModel, p_min: float) -> None:
    """Lost once on the way. Nothing is asked for that is not over the threshold."""
    process, search = PlainProcess(model, losses=1), Search(p_min)
    limits = [min(limit, 6) for limit in LIMITS]
    expected = dict(HFEngine(model).search(PROMPTS, limits, NEVER, search))
    found = run(process, searches(model, search))
    for position, one in enumerate(found):
        other = expected[position]
        assert (one.nodes, one.cut, one.stopped) == (other.nodes, other.cut, other.stopped)
        for mine, theirs in zip(one.completions, other.completions, strict=True):
            assert_same(mine, theirs, 1e-4)
    assert process.asks == {}
    assert process.n_asked <= 1 + sum(each.nodes for each in found)


def searches(model: LoadedModel, search: Search) -> list[TokenPaths[Any]]:
    end, vocabulary = model.end_id, len(model.tokenizer)
    return jobs(lambda i, prompt, limit: Searching(i, prompt, min(limit, 6), end, search, vocabulary, None))


def test_a_search_asks_for_no_more_tokens_than_can_be_over_the_threshold(model: LoadedModel) -> None:
    (path,) = Searching(0, PROMPTS[0], 5, model.end_id, Search(p_min=0.3), 150_000, None).start()
    assert path.n_likely == 4


def test_a_search_stops_at_its_nodes_and_gives_its_requests_up(model: LoadedModel) -> None:
    process = PlainProcess(model)
    found = run(process, searches(model, Search(0.01, max_nodes=3)))
    assert [(each.stopped, each.nodes) for each in found] == [("nodes", 3)] * 3 + [("", 0)]
    assert process.asks == {}


def test_scores_by_requests_are_those_of_hugging_face(model: LoadedModel) -> None:
    candidates = [[prompt[:4], prompt[:0], np.array([model.end_id, 5])] for prompt in PROMPTS]
    scoring = [PathScoring(i, prompt, candidates[i], None) for i, prompt in enumerate(PROMPTS)]
    expected = dict(HFEngine(model).score(PROMPTS, candidates, NEVER))
    for position, found in enumerate(run(PlainProcess(model), scoring)):
        np.testing.assert_allclose(found, expected[position], atol=1e-4)


def test_at_the_deadline_what_is_there_is_given_and_the_rest_taken_back(model: LoadedModel) -> None:
    process = PlainProcess(model)
    deadline = Deadline.after(4, TickingClock())
    found = run(
        process, jobs(lambda i, prompt, limit: Answering(i, prompt, limit, model.end_id, Decoding(), None)), deadline
    )
    whole = generate(HFEngine(model), PROMPTS, LIMITS)
    for cut, full in zip(found, whole, strict=True):
        assert cut.ids.tolist() == full.ids[: len(cut.ids)].tolist()
    assert 0 < sum(len(each.ids) for each in found) < sum(len(each.ids) for each in whole)
    assert process.asks == {}


def test_a_process_that_is_lost_again_and_again_is_an_error(model: LoadedModel) -> None:
    process = PlainProcess(model, losses=MOST_LOSSES)
    with pytest.raises(EngineError, match=r"lost 3 times in one call, at last it died by signal 9$"):
        run(process, searches(model, Search(0.5)))


def test_the_threshold_is_that_of_the_whole_prefix(model: LoadedModel) -> None:
    found = run(PlainProcess(model), searches(model, Search(0.05)))
    nlls = [-each.log_prob for row in found for each in row.completions]
    assert nlls
    assert max(nlls) < -log(0.05)
    assert exp(-min(nlls)) > 0.05


def adapter_of(model: LoadedModel, rank: int = 4) -> LoraAdapter:
    return LoraAdapter(model, LoraConfig(rank))


def saver(adapter: LoraAdapter) -> Callable[[Path], None]:
    def save(folder: Path) -> None:
        folder.mkdir()
        adapter.save(folder)

    return save


def test_no_two_adapters_share_a_name_a_number_or_a_path(tmp_path: Path) -> None:
    shelf, save = Shelf(8, tmp_path), saver(adapter_of(lively_model(0)))
    made = []
    for _ in range(3):
        made.append(shelf.put("task", save))
        assert made[-1].folder.is_dir()
        shelf.drop(made[-1].name)
        assert not made[-1].folder.exists()
    assert all(len({getattr(each, name) for each in made}) == 3 for name in ("name", "number", "folder"))
    assert all(each.number > 0 for each in made)  # vLLM takes no other


def test_what_cannot_be_loaded_leaves_nothing_behind(tmp_path: Path) -> None:
    shelf = Shelf(8, tmp_path)
    with pytest.raises(ModelError, match="found rank 16, expected 8 or less: raise max_lora_rank to 16"):
        shelf.put("task", saver(adapter_of(lively_model(0), rank=16)))
    assert [*shelf.folder.iterdir()] == []
    assert shelf.known == {}


def test_a_shelf_goes_with_its_owner_and_sweeps_what_the_killed_left(tmp_path: Path) -> None:
    dead = tmp_path / f"{PREFIX}{2**30}-left"
    other = tmp_path / f"{PREFIX}{os.getppid()}-used"
    for folder in (dead, other):
        folder.mkdir()
    shelf = Shelf(8, tmp_path)
    assert not dead.exists()
    assert other.is_dir()
    folder = shelf.folder
    assert folder.is_dir()
    del shelf
    assert not folder.exists()


def test_another_tuners_weights_reach_the_engine_that_answers(tmp_path: Path) -> None:
    """As adapters: tuned, loaded, and back to the base."""
    config = TuneConfig(steps=2, lora=LoraConfig(4))
    tuned_here, answering = lively_model(0), lively_model(0)
    inner = InProcessTuner(tuned_here, config)
    tuner = PublishingTuner(inner, OnHF(LoraAdapter(answering, config.lora)))
    base = generate(HFEngine(answering), PROMPTS, LIMITS)
    inner.weights.reset(5)
    for parameter in inner.weights.parameters:  # type: ignore[attr-defined]
        parameter.data.add_(0.1)
    tuner.save(tmp_path / "one")
    tuner.load(tmp_path / "one")
    changed = generate(HFEngine(answering), PROMPTS, LIMITS)
    assert [each.ids.tolist() for each in changed] != [each.ids.tolist() for each in base]
    for one, other in zip(changed, generate(HFEngine(tuned_here), PROMPTS, LIMITS), strict=True):
        assert_same(one, other, 1e-4)
    tuner.reset()
    for one, other in zip(generate(HFEngine(answering), PROMPTS, LIMITS), base, strict=True):
        assert_same(one, other, 1e-6)


class Process:
    """Says when it was there."""

    def __init__(self) -> None:
        self.alive, self.lives = True, 1

    def close(self) -> None:
        self.alive = False

    def start(self) -> None:
        self.alive, self.lives = True, self.lives + 1


@pytest.mark.parametrize("fails", [False, True])
def test_in_turns_vllm_is_gone_while_the_model_is_tuned_and_there_again_after(fails: bool) -> None:
    """Also where fine-tuning raises what nobody expected. Nothing else ends it."""
    process, there = Process(), list[bool]()

    def examples() -> Iterator[Example]:
        while True:
            there.append(process.alive)
            if fails:
                raise ValueError("spoiled")
            yield Example(np.array([1, 2, 3, 4]), np.array([-100, 2, 3, 4]))

    tuner = InProcessTuner(lively_model(0), TuneConfig(steps=2, lora=LoraConfig(4)))
    turns = InTurns(tuner, SimpleNamespace(process=process), torch.device("cpu"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="spoiled") if fails else nullcontext():
        assert turns.tune(examples(), 0, NEVER).text == "tuned"
    turns.reset()
    assert there and not any(there)
    assert process.alive and process.lives == 2


@pytest.mark.parametrize(
    ("device", "placement", "number"),
    [("cpu", "apart", None), ("cuda", None, 0), ("cuda", "turns", 0), ("cuda:3", "together", 3), ("cuda", "apart", 1)],
)
def test_vllm_has_the_gpu_that_the_plan_gives_it(
    tmp_path: Path, device: str, placement: Any, number: int | None
) -> None:
    config = SolveConfig("", tmp_path, vllm=VLLMConfig(placement=placement))
    assert own_gpu(torch.device(device), config) == number


def test_every_engine_and_tuner_has_its_capabilities() -> None:
    assert set(ENGINES) == set(get_args(EngineName))
    assert set(TUNERS) == set(get_args(TunerName))
    assert all(ENGINES["hf"] >= can - {"micro steps"} for can in (*ENGINES.values(), *TUNERS.values()))


@pytest.mark.parametrize(
    ("options", "refusal"),
    [
        ({"engine": "vllm", "recipe": "box"}, "found vllm, which lacks all weights; choose .* or --recipe lora"),
        ({"engine": "vllm", "recipe": "lora", "four_bit": True}, "found vllm, which lacks 4 bits; choose --engine hf"),
        (
            {"tuner": "unsloth", "recipe": "box"},
            "option tuner: found unsloth, which lacks all weights; choose --tuner peft",
        ),
        ({"tuner": "unsloth", "recipe": "lora", "cut_vocabulary": True}, "found unsloth, which lacks cut vocabulary"),
        (
            {"engine": "fake", "recipe": "lora", "generate": GenerateConfig(decoding=Decoding(beams=2))},
            "found fake, which lacks beams; choose --engine hf or vllm",
        ),
    ],
)
def test_what_is_lacking_is_refused_by_name_before_anything_is_loaded(
    tmp_path: Path, options: dict[str, Any], refusal: str
) -> None:
    with pytest.raises(EngineError, match=refusal):
        SolveConfig("arc1:training", tmp_path, model=tmp_path / "any", **options)


def test_too_high_a_rank_is_refused_before_the_run(tmp_path: Path) -> None:
    def config(rank: int) -> SolveConfig:
        tune = TuneConfig(lora=LoraConfig(rank))
        return SolveConfig("arc1:training", tmp_path, model=tmp_path / "any", engine="vllm", tune=tune)

    assert [max_rank(config(rank)) for rank in (1, 2, 32, 300)] == [1, 8, 32, 320]
    with pytest.raises(ConfigError, match=r"option tune.lora.rank: found 513, expected 512 or less"):
        max_rank(config(513))


@pytest.mark.parametrize(("option", "extra"), [("engine", "vllm"), ("tuner", "unsloth")])
@pytest.mark.skipif(bool(find_spec("vllm") or find_spec("unsloth")), reason="one of them is installed")
def test_a_missing_package_names_its_extra(tmp_path: Path, option: str, extra: str) -> None:
    save_model(lively_model(0), tmp_path / "model", "lora", {})
    config = SolveConfig("arc1:training", tmp_path, model=tmp_path / "model", device="cpu", **{option: extra})  # type: ignore[arg-type]
    with pytest.raises(EngineError, match=rf"option {option}: found {extra}, .*pip install 'arc_kaggle\[{extra}\]'"):
        load_method(config)


@pytest.mark.skipif(bool(find_spec("unsloth")), reason="it is installed")
def test_a_missing_accelerator_names_the_extra_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions without a CPU build raise this as they are imported."""
    (tmp_path / "unsloth").mkdir()
    (tmp_path / "unsloth" / "__init__.py").write_text(
        "raise NotImplementedError('Unsloth cannot find any accelerator')"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in SWITCHES:  # are put back
        monkeypatch.setenv(name, "")
    with pytest.raises(
        EngineError, match=r"unsloth cannot start: .*any accelerator; pip install 'arc_kaggle\[unsloth\]'"
    ):
        import_unsloth()
    assert {name: os.environ[name] for name in SWITCHES} == SWITCHES


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_process_is_told_how_threads_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether vLLM is there or not: that is found out later."""
    for name in WAITS:
        monkeypatch.delenv(name, raising=False)
    started = VLLMProcess(Served(tmp_path, "float32", 2, 16, 64), VLLMConfig(), {})
    try:
        found = Path(f"/proc/{started.process.pid}/environ").read_text().split("\0")
    finally:
        started.close()
    assert f"GOMP_SPINCOUNT={SPIN_COUNT}" in found


@pytest.mark.parametrize("name", ["cache_gb", "max_rows", "patience_seconds", "growth_gb"])
def test_options_without_sense_are_refused(name: str) -> None:
    with pytest.raises(ArcKaggleError, match=rf"^option vllm.{name}: found 0, expected"):
        VLLMConfig(**{name: 0})
