"""The engine on a Hugging Face causal LM or a GridLM: completions, searches and likelihoods, many prompts at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any

import numpy as np

from arc_kaggle.config.answer import GREEDY, Decoding, Search
from arc_kaggle.config.engines import HFConfig
from arc_kaggle.engines.base import Completion, Drafts, Found, Nlls, check_prompts
from arc_kaggle.engines.drafts import Guesses
from arc_kaggle.engines.hf.batching import batches, check_attention, costs_of, max_width, n_slots_within
from arc_kaggle.engines.hf.cache import SlotCache
from arc_kaggle.engines.hf.forward import Forward, compiled
from arc_kaggle.engines.hf.places import Places
from arc_kaggle.engines.hf.policy import Beams, Greedy, Policy, Sampling, Threshold
from arc_kaggle.engines.hf.scoring import ScoredRow, TrieScoring, build_tries
from arc_kaggle.engines.hf.search import TreeSearch
from arc_kaggle.engines.tree import Row
from arc_kaggle.errors import EngineError
from arc_kaggle.models.grid_network import GridNetwork
from arc_kaggle.models.loading import LoadedModel
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.system.integers import round_up
from arc_kaggle.text.tokens import TokenIds


@dataclass(frozen=True, slots=True)
class HFEngine:
    """Prompts of like length share a batch; each row decodes its own tree.

    `tokens_per_batch` bounds the KV cache slots of a batch, prompts and answers together, `max_bytes` their memory;
    `bucket` is the step of prompt lengths: few lengths, few compiled kernels. For adapters by name the
    network is a peft model that has them.
    """

    model: LoadedModel
    tokens_per_batch: int = 65536
    bucket: int = 16
    max_bytes: float = inf
    config: HFConfig = field(default_factory=HFConfig)
    compiled: Callable[..., Any] | None = field(init=False, default=None)
    """The network with compiled steps, where the config says so."""

    def __post_init__(self) -> None:
        if self.config.compile:
            object.__setattr__(self, "compiled", compiled(self.model))

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
        policy: Policy = Beams(decoding.beams) if decoding.beams > 1 else Greedy()
        policy = Sampling(decoding) if decoding.temperature else policy
        for row in self._run(make_rows(prompts, max_new_tokens, drafts), policy, deadline, adapters):
            yield row.position, max(row.done, key=lambda each: (each.ended, each.log_prob))

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
        rows = make_rows(prompts, max_new_tokens, drafts, search.max_nodes)
        for row in self._run(rows, Threshold(search.max_nll), deadline, adapters, search.max_seconds):
            ended = sorted((each for each in row.done if each.ended), key=lambda each: -each.log_prob)
            n_cut = sum(not each.ended and len(each.ids) >= row.limit for each in row.done)
            yield row.position, Found(tuple(ended), row.nodes, n_cut, row.stopped)

    def score(
        self,
        prompts: Sequence[TokenIds],
        candidates: Sequence[Sequence[TokenIds]],
        deadline: Deadline,
        *,
        adapters: Sequence[str] | None = None,
    ) -> Iterator[tuple[int, Nlls]]:
        check_prompts(prompts)
        costs = costs_of(self.model.network)
        rows = []
        for i, (prompt, own) in enumerate(zip(prompts, candidates, strict=True)):
            tries = build_tries(int(prompt[-1]), own, min(costs.tree, self._room(prompt)))
            rows.append(ScoredRow(i, prompt, tries, np.zeros(len(own))))
        trees = [row.n_tokens for row in rows]
        for numbers in self._batches(rows, trees, adapters):
            batch = [rows[number] for number in numbers]
            forward = self._forward(batch, max(trees[number] for number in numbers), adapters)
            most = len(batch) * max_width(self.model.network, len(batch), costs)
            scoring = TrieScoring(forward, batch, costs, most)
            for row in scoring.run(deadline, self.bucket):
                yield row.position, row.nlls

    def _run(
        self,
        rows: Sequence[Row],
        policy: Policy,
        deadline: Deadline,
        adapters: Sequence[str] | None,
        max_seconds: float = inf,
    ) -> Iterator[Row]:
        trees, costs = [row.limit * policy.n_paths for row in rows], costs_of(self.model.network)
        for numbers in self._batches(rows, trees, adapters):
            batch = [rows[number] for number in numbers]
            for row in batch:
                row.start(policy.n_chains, self.model.end_id)
            tree = max(trees[number] for number in numbers)
            if len(batch) == 1:  # less than it might like, where that is more than there is; enough to go on with
                tree = max(batch[0].limit, min(tree, self._room(batch[0].prompt)))
            forward = self._forward(batch, tree, adapters)
            search = TreeSearch(forward, policy, batch, costs, max_width(self.model.network, len(batch), costs))
            yield from search.run(deadline.earlier(max_seconds), self.bucket)

    def _batches(
        self, rows: Sequence[Row] | Sequence[ScoredRow], trees: Sequence[int], adapters: Sequence[str] | None
    ) -> Iterator[list[int]]:
        """The numbers of the rows of each batch; `trees` are the slots that each row wants behind its prompt."""
        if not rows:
            return
        _check_adapters(adapters, len(rows), self.model.network)
        check_attention(self.model.network, max(row.n_longest for row in rows))
        prompts = [round_up(len(row.prompt), self.bucket) for row in rows]
        yield from batches(prompts, trees, self._n_slots)

    def _forward(self, rows: Sequence[Row] | Sequence[ScoredRow], tree: int, adapters: Sequence[str] | None) -> Forward:
        """A forward pass with KV cache slots for a tree of so many tokens behind every prompt."""
        network: Any = self.model.network
        n_slots = max(round_up(len(row.prompt), self.bucket) for row in rows) + tree
        n_layers = network.config.get_text_config().num_hidden_layers
        places = Places.for_network(network, len(rows), n_slots + 1)
        lengths, stock = [len(row.prompt) - 1 for row in rows], not isinstance(self.model.network, GridNetwork)
        memory = SlotCache(n_layers, lengths, n_slots, self.model.autocast, places, stock)
        names = None if adapters is None else [adapters[row.position] for row in rows]
        return Forward(self.model, memory, names, self.compiled)

    @property
    def _n_slots(self) -> int:
        """Most KV cache slots of a batch."""
        network: Any = self.model.network
        return n_slots_within(network, self.model.autocast or network.dtype, self.tokens_per_batch, self.max_bytes)

    def _room(self, prompt: TokenIds) -> int:
        """Slots behind a prompt that has all of a batch's to itself."""
        return self._n_slots - round_up(len(prompt), self.bucket)


def make_rows(
    prompts: Sequence[TokenIds], limits: Sequence[int], drafts: Drafts | None, max_nodes: float = inf
) -> list[Row]:
    """One for each prompt, nothing of it open yet. Raises EngineError for an empty prompt."""
    check_prompts(prompts)
    given: Drafts = [()] * len(prompts) if drafts is None else drafts
    return [
        Row(i, prompt, limit, Guesses(guesses, prompt), max_nodes)
        for i, (prompt, limit, guesses) in enumerate(zip(prompts, limits, given, strict=True))
    ]


def _check_adapters(adapters: Sequence[str] | None, n_prompts: int, network: Any) -> None:
    """Raise EngineError where a prompt has no adapter, or one that the network does not have."""
    if adapters is None:
        return
    if len(adapters) != n_prompts:
        raise EngineError(f"adapters: found {len(adapters)} names for {n_prompts} prompts, expected one for each")
    known = {*getattr(network, "peft_config", {}), "__base__"}
    if unknown := set(adapters) - known:
        raise EngineError(f"adapters: found {sorted(unknown)}, expected names that the network has: {sorted(known)}")
