"""The engine on vLLM: the contract of the other engines, request by request, in a process that can be given up.

At a deadline every call ends with what it has. A process that dies or hangs is started anew and asked for the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import TypeVar

from arc_kaggle.config.answer import GREEDY, Decoding, Search
from arc_kaggle.config.engines import VLLMConfig
from arc_kaggle.engines.base import Completion, Drafts, Found, Nlls, check_prompts
from arc_kaggle.engines.vllm.adapters import Shelf
from arc_kaggle.engines.vllm.call import Call
from arc_kaggle.engines.vllm.messages import Adapter, Served
from arc_kaggle.engines.vllm.process import VLLMProcess
from arc_kaggle.engines.vllm.token_paths import Answering, BeamSearch, PathScoring, Searching, TokenPaths
from arc_kaggle.errors import EngineError
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.text.tokens import TokenIds

T = TypeVar("T")


class VLLMEngine:
    """Loads a model folder in a process of its own, which begins at once.

    A prompt that names no adapter is answered with the one in use, which is the base model at first. Draft tokens are
    ignored. Only one call may run at a time.
    """

    def __init__(self, served: Served, config: VLLMConfig, environment: Mapping[str, str] | None = None) -> None:
        self.served = served
        self.process = VLLMProcess(served, config, environment or {})
        self.shelf = Shelf(served.max_rank)
        self.in_use: str | None = None
        self.numbers = count()
        self.calling = False

    def generate(
        self,
        prompts: Sequence[TokenIds],
        max_new_tokens: Sequence[int],
        deadline: Deadline,
        *,
        drafts: Drafts | None = None,
        decoding: Decoding = GREEDY,
        adapters: Sequence[str] | None = None,
    ) -> Iterator[tuple[int, Completion]]:
        end, jobs = self.served.end_id, list[TokenPaths[Completion]]()
        for i, prompt, limit, adapter in self._rows(prompts, max_new_tokens, drafts, adapters):
            if decoding.beams > 1:
                jobs.append(BeamSearch(i, prompt, limit, end, decoding.beams, self.served.n_vocabulary, adapter))
            else:
                jobs.append(Answering(i, prompt, limit, end, decoding, adapter))
        yield from self._run(jobs, deadline)

    def search(
        self,
        prompts: Sequence[TokenIds],
        max_new_tokens: Sequence[int],
        deadline: Deadline,
        search: Search,
        *,
        drafts: Drafts | None = None,
        adapters: Sequence[str] | None = None,
    ) -> Iterator[tuple[int, Found]]:
        jobs = [
            Searching(i, prompt, limit, self.served.end_id, search, self.served.n_vocabulary, adapter)
            for i, prompt, limit, adapter in self._rows(prompts, max_new_tokens, drafts, adapters)
        ]
        yield from self._run(jobs, deadline.earlier(search.max_seconds))

    def score(
        self,
        prompts: Sequence[TokenIds],
        candidates: Sequence[Sequence[TokenIds]],
        deadline: Deadline,
        *,
        adapters: Sequence[str] | None = None,
    ) -> Iterator[tuple[int, Nlls]]:
        longest = [max(map(len, own), default=0) for own in candidates]
        rows = self._rows(prompts, longest, None, adapters)
        jobs = [PathScoring(i, prompt, candidates[i], adapter) for i, prompt, _, adapter in rows]
        yield from self._run(jobs, deadline)

    def put(self, write: Callable[[Path], None]) -> str:
        """Register an adapter that `write` saves in peft's format, and return its name. Raises ModelError."""
        return self.shelf.put("task", write).name

    def drop(self, name: str) -> None:
        """Forget an adapter, here and in vLLM."""
        self.process.forget(self.shelf.drop(name).number)
        self.in_use = None if self.in_use == name else self.in_use

    def use(self, name: str | None) -> None:
        """Set the adapter for prompts that name none; None stands for the base model."""
        self.in_use = name

    def close(self) -> None:
        """End the process."""
        self.process.close()

    def _rows(
        self,
        prompts: Sequence[TokenIds],
        limits: Sequence[int],
        drafts: Drafts | None,
        adapters: Sequence[str] | None,
    ) -> Iterator[tuple[int, TokenIds, int, Adapter | None]]:
        """Position, prompt, token limit and adapter of every request. Raises EngineError before any of them is sent."""
        check_prompts(prompts)
        given = zip(prompts, limits, drafts or prompts, strict=True)
        chosen = self._adapters(adapters, len(prompts))
        for i, (prompt, limit, _) in enumerate(given):
            if len(prompt) + limit > self.served.max_tokens:
                raise EngineError(
                    f"prompt {i} of {len(prompts)}: found {len(prompt)} tokens and up to {limit} of an answer, "
                    f"expected {self.served.max_tokens} together or fewer; lower --generate.max-prompt-tokens"
                )
            yield i, prompt, limit, chosen[i]

    def _adapters(self, names: Sequence[str] | None, n_prompts: int) -> list[Adapter | None]:
        if names is None:
            names = [self.in_use or "__base__"] * n_prompts
        if len(names) != n_prompts:
            raise EngineError(f"adapters: found {len(names)} names for {n_prompts} prompts, expected one for each")
        known = {"__base__": None, **self.shelf.known}
        if unknown := set(names) - set(known):
            raise EngineError(
                f"adapters: found {sorted(unknown)}, expected names of adapters put here: {sorted(known)}"
            )
        return [known[name] for name in names]

    def _run(self, jobs: Sequence[TokenPaths[T]], deadline: Deadline) -> Iterator[tuple[int, T]]:
        if self.calling:
            raise EngineError("engine vllm: found a call within a call, expected one at a time; take all results first")
        self.calling = True
        try:
            yield from Call(self.process, self.numbers, jobs).run(deadline)
        finally:
            self.calling = False
