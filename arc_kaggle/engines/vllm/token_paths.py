"""The jobs of one prompt on vLLM: completion, search or score, request by request along paths of tokens. No torch here.

vLLM knows requests alone. An answer is one of them, or one a sample; a search opens another one wherever something else
than the likeliest token leaves the prefix over the threshold, and a beam one for every token. All begin with what was
computed before, which vLLM has in its cache of prefixes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import floor
from typing import Protocol, TypeVar

import numpy as np

from arc_kaggle.config.answer import Decoding, Search
from arc_kaggle.engines.base import Completion, Found, Nlls
from arc_kaggle.engines.vllm.messages import Adapter, Ask, Heard
from arc_kaggle.text.tokens import TokenIds

T_co = TypeVar("T_co", covariant=True)


@dataclass(slots=True, eq=False)
class TokenPath:
    """A continuation of a prompt: the prefix that it was opened with, and the tokens that the engine has added."""

    prompt: TokenIds
    limit: int
    """Most tokens, the prefix included."""
    ids: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    n_likely: int = 0
    temperature: float = 0.0
    seed: int = 0
    forced: TokenIds | None = None
    adapter: Adapter | None = None
    closed: bool = False
    """Whether no more tokens of this path are needed."""

    def ask(self, number: int) -> Ask:
        """The request for the rest of this path; a sample is requested as a whole, because its noise begins anew."""
        if self.temperature:
            self.ids, self.log_probs = [], []
        ids = np.concatenate([self.prompt, np.array(self.ids, dtype=np.int64)])
        forced = None if self.forced is None else self.forced[len(self.ids) :]
        left = self.limit - len(self.ids)
        return Ask(number, ids, left, self.n_likely, self.temperature, self.seed, forced, self.adapter)

    def fork(self, token: int, log_prob: float, limit: int) -> TokenPath:
        """A new path that takes another token at the end of this one."""
        ids, log_probs = [*self.ids, token], [*self.log_probs, log_prob]
        return TokenPath(self.prompt, limit, ids, log_probs, self.n_likely, adapter=self.adapter)

    def take(self, heard: Heard) -> None:
        self.ids.append(heard.token)
        self.log_probs.append(heard.log_prob)

    @property
    def nll(self) -> float:
        return -sum(self.log_probs)

    def completion(self, end_id: int) -> Completion:
        ended = bool(self.ids) and self.ids[-1] == end_id
        return Completion(np.array(self.ids, dtype=np.int64), np.array(self.log_probs, dtype=np.float32), ended)


class TokenPaths(Protocol[T_co]):
    """All paths of one prompt, and what has been learnt from them."""

    @property
    def position(self) -> int: ...

    def start(self) -> Sequence[TokenPath]:
        """The first requests; none where everything is known without them."""
        ...

    def take(self, path: TokenPath, heard: Heard) -> Iterable[TokenPath]:
        """Take one more token of an open path. Returns the requests that follow from it; most jobs have none."""
        ...

    def result(self, stopped: str) -> T_co:
        """The result so far; `stopped` says why it is not complete."""
        ...


@dataclass(slots=True, eq=False)
class Answering:
    """Greedy decoding, or several samples of which the likeliest that ended is the answer."""

    position: int
    prompt: TokenIds
    limit: int
    end_id: int
    decoding: Decoding
    adapter: Adapter | None
    paths: list[TokenPath] = field(default_factory=list)

    def start(self) -> Sequence[TokenPath]:
        self.paths = [self._path(number) for number in range(self.decoding.best_of)]
        return self.paths if self.limit else []

    def _path(self, number: int) -> TokenPath:
        digest = hashlib.sha256(self.prompt.astype("<i8").tobytes() + f"{self.decoding.seed}/{number}".encode())
        seed, temperature = int.from_bytes(digest.digest()[:7], "little"), self.decoding.temperature
        return TokenPath(self.prompt, self.limit, temperature=temperature, seed=seed, adapter=self.adapter)

    def take(self, path: TokenPath, heard: Heard) -> Iterable[TokenPath]:
        path.take(heard)
        path.closed = heard.last
        return ()

    def result(self, stopped: str) -> Completion:
        return best([path.completion(self.end_id) for path in self.paths])


@dataclass(slots=True, eq=False)
class BeamSearch:
    """Beam search: the likeliest prefixes, token by token. A completion that has ended keeps its place in the beam."""

    position: int
    prompt: TokenIds
    limit: int
    end_id: int
    n_beams: int
    n_vocabulary: int
    adapter: Adapter | None
    open: list[TokenPath] = field(default_factory=list)
    grown: list[TokenPath] = field(default_factory=list)
    done: list[Completion] = field(default_factory=list)

    def start(self) -> Sequence[TokenPath]:
        n_likely = min(self.n_beams, self.n_vocabulary)
        root = TokenPath(self.prompt, min(1, self.limit), n_likely=n_likely, adapter=self.adapter)
        self.open = [root]
        return self.open if self.limit else []

    def take(self, path: TokenPath, heard: Heard) -> Iterable[TokenPath]:
        path.closed = True
        for token, log_prob in heard.likeliest:
            self._add(path.fork(token, log_prob, len(path.ids) + 2))
        self.open = [each for each in self.open if not each.closed]
        if self.open:
            return ()
        likeliest = sorted([-each.nll for each in self.grown] + [each.log_prob for each in self.done], reverse=True)
        least = likeliest[: self.n_beams][-1]
        self.done = [each for each in self.done if each.log_prob >= least]
        self.open, self.grown = [each for each in self.grown if -each.nll >= least], []
        return self.open

    def _add(self, path: TokenPath) -> None:
        if path.ids[-1] == self.end_id or len(path.ids) == self.limit:
            self.done.append(path.completion(self.end_id))
        else:
            self.grown.append(path)

    def result(self, stopped: str) -> Completion:
        live = [path.completion(self.end_id) for path in (*self.open, *self.grown)]
        return best(self.done + live)


def best(completions: Sequence[Completion]) -> Completion:
    """The likeliest completion that ended, or else the likeliest of all."""
    return max(completions, key=lambda each: (each.ended, each.log_prob))


@dataclass(slots=True, eq=False)
class Searching:
    """Tree search for every completion whose probability is over the threshold.

    A path follows the likeliest tokens. At most 1 / p_min tokens can leave a prefix over the threshold at any place, so
    the likeliest so many are all there are to look at, however large the vocabulary is.
    """

    position: int
    prompt: TokenIds
    limit: int
    end_id: int
    search: Search
    n_vocabulary: int
    adapter: Adapter | None
    done: list[Completion] = field(default_factory=list)
    nodes: int = 0
    cut: int = 0
    stopped: str = ""
    live: list[TokenPath] = field(default_factory=list)

    def start(self) -> Sequence[TokenPath]:
        n_likely = min(self.n_vocabulary, floor(1 / self.search.p_min) + 1)
        self.cut = int(self.limit == 0)
        self.live = [TokenPath(self.prompt, self.limit, n_likely=n_likely, adapter=self.adapter)] if self.limit else []
        return self.live

    def take(self, path: TokenPath, heard: Heard) -> Iterable[TokenPath]:
        """Open a path for every token that keeps the prefix over the threshold, and go on with the likeliest one."""
        if self.nodes >= self.search.max_nodes:
            self.stopped = "nodes"
            self._close(*self.live)
            return ()
        self.nodes += 1
        forks = [
            path.fork(token, log_prob, self.limit)
            for token, log_prob in dict(heard.likeliest).items()
            if path.nll - log_prob < self.search.max_nll
        ]
        path.take(heard)
        grown = [fork for fork in forks if self._grows(fork)]
        others = [fork for fork in grown if fork.ids[-1] != heard.token]
        if len(others) == len(grown):
            self._close(path)
        self.live += others
        return others

    def _grows(self, path: TokenPath) -> bool:
        """Whether a prefix over the threshold may still grow; a prefix at the token limit is counted."""
        if ended := path.ids[-1] == self.end_id:
            self.done.append(path.completion(self.end_id))
        elif len(path.ids) == self.limit:
            self.cut += 1
        return not ended and len(path.ids) < self.limit

    def _close(self, *paths: TokenPath) -> None:
        for path in paths:
            path.closed = True
        self.live = [path for path in self.live if not path.closed]

    def result(self, stopped: str) -> Found:
        ended = sorted(self.done, key=lambda each: -each.log_prob)
        return Found(tuple(ended), self.nodes, self.cut, stopped or self.stopped)


@dataclass(slots=True, eq=False)
class PathScoring:
    """Scores of candidates: each one is forced, and the log-probabilities of its tokens are summed."""

    position: int
    prompt: TokenIds
    candidates: Sequence[TokenIds]
    adapter: Adapter | None
    paths: list[TokenPath] = field(default_factory=list)

    def start(self) -> Sequence[TokenPath]:
        self.paths = [TokenPath(self.prompt, len(ids), forced=ids, adapter=self.adapter) for ids in self.candidates]
        return [path for path in self.paths if path.limit]

    def take(self, path: TokenPath, heard: Heard) -> Iterable[TokenPath]:
        path.take(heard)
        path.closed = heard.last
        return ()

    def result(self, stopped: str) -> Nlls:
        """The scores so far; a candidate that is not scored to its end has NaN."""
        return np.array([path.nll if len(path.ids) == path.limit else np.nan for path in self.paths])
