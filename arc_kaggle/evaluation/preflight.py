"""The order of preflight's checks: those without the model come first, then those with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from arc_kaggle.config.preflight import PreflightConfig
from arc_kaggle.errors import PromptError
from arc_kaggle.evaluation.findings import Finding
from arc_kaggle.evaluation.model_checks import (
    check_cells_of,
    check_engine,
    check_fp16,
    check_memory,
    check_nll,
    check_stop,
    check_time,
    check_weights,
    left_out,
)
from arc_kaggle.models.loading import LoadedModel, load_asked, pick_device
from arc_kaggle.models.measured import available_bytes, project_memory
from arc_kaggle.models.prompt_comparison import other_ways
from arc_kaggle.models.vocabulary_cut import cut_vocabulary
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.tasks.dataset import Tasks, load_tasks
from arc_kaggle.tuning.tunable_weights import LoraAdapter

REFUSED = "the tokenizer does not take the prompt"


@dataclass(frozen=True, slots=True)
class Preflight:
    """All checks of a config, in order. Those that come after `until` are left out, and said to be."""

    config: PreflightConfig
    until: Deadline
    step: Callable[[str], None]
    """Is told what comes next."""

    def findings(self) -> Iterator[Finding]:
        """Each as soon as it is known. Raises ModelError, ConfigError, TaskError for what cannot be loaded."""
        config = self.config
        tasks = load_tasks(config.tasks, f"shortest:{config.n_tasks}")
        device = pick_device(config.device)
        available = available_bytes(device)
        yield check_engine(config.run)
        weights = check_weights(config, device, available)
        if not weights.ok:
            yield weights
            yield from not_run(("cells", "stop", "nll", "fp16", "time"), "the weights do not fit")
            return
        self.step("loading the model")
        try:
            model = load_asked(config)
        except PromptError as error:
            advice = "give another --prompt or --encoder"
            yield Finding.of("cells", False, str(error), "a tokenizer that takes the prompt", advice)
            yield from not_run(("stop", "nll", "fp16", "memory", "time"), REFUSED)
            return
        yield check_cells_of(model)
        adapter = self._attach(model)
        yield from self._prompts(model, tasks)
        if config.cut_vocabulary:  # other prompts are made of other tokens, and were asked before
            if adapter:
                adapter.detach()
            model = cut_vocabulary(model, config.generate.fallback_encoder)
            self._attach(model)
        yield from self._run(model, tasks, available)

    def _attach(self, model: LoadedModel) -> LoraAdapter | None:
        """The pretrained adapter of the run, on the model from now on; None where there is none. Raises ModelError."""
        config = self.config
        return LoraAdapter(model, config.tune.lora, config.adapter) if config.adapter else None

    def _prompts(self, model: LoadedModel, tasks: Tasks) -> Iterator[Finding]:
        """The model's own prompt against others."""
        self.step("comparing prompts")
        others, refusing = other_ways(model, self.config.model)
        yield from check_nll(model, tasks, others, self.until)
        yield from not_run(refusing, REFUSED)

    def _run(self, model: LoadedModel, tasks: Tasks, available: int) -> Iterator[Finding]:
        """What a run would do with the model. One in 4 bits is not asked for fp16 where it computes in bf16."""
        config, until = self.config, self.until
        self.step(f"asking for the answers of {len(tasks)} tasks")
        yield check_stop(model, tasks, config, until)
        if not config.four_bit or model.network.dtype == torch.float16:
            self.step("computing in fp16")
            yield left_out("fp16") if until.passed else check_fp16(model, tasks)
        yield check_memory(project_memory(model, config.generate, config.tune), available, config)
        self.step("measuring the speed")
        yield left_out("time") if until.passed else check_time(model, config.tune, config)


def not_run(names: tuple[str, ...], why: str) -> Iterator[Finding]:
    """One finding for checks that could not be made, if there are any."""
    if names:
        yield Finding(", ".join(names), "not run", why)
