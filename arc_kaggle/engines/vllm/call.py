"""One call of the engine on vLLM: the jobs of all its prompts, and what is asked of the process for them by now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, TypeVar

from arc_kaggle.engines.vllm.messages import Heard
from arc_kaggle.engines.vllm.process import ProcessLost, VLLMProcess
from arc_kaggle.engines.vllm.token_paths import TokenPath, TokenPaths
from arc_kaggle.errors import EngineError
from arc_kaggle.system.deadline import Deadline

T = TypeVar("T")

LISTEN_SECONDS = 0.5
"""Seconds between two looks at the clock while no message comes."""
MOST_LOSSES = 3
"""How many processes one call may lose before it fails."""


class Call(Generic[T]):
    """`numbers` gives every ask one that no other has, in whichever call."""

    def __init__(self, process: VLLMProcess, numbers: Iterator[int], jobs: Sequence[TokenPaths[T]]) -> None:
        self.process, self.numbers = process, numbers
        self.jobs = {job.position: job for job in jobs}
        """The jobs that are not finished, by position."""
        self.open: dict[int, tuple[TokenPaths[T], TokenPath]] = {}
        """Requests that the process has not finished, by number."""
        self.n_open = dict.fromkeys(self.jobs, 0)
        self.losses = 0

    def run(self, deadline: Deadline) -> Iterator[tuple[int, T]]:
        """Yield the result of every job as soon as it is known, or at the deadline."""
        try:
            yield from self._run(deadline)
        finally:
            self.process.drop(list(self.open))

    def _run(self, deadline: Deadline) -> Iterator[tuple[int, T]]:
        seconds_left = deadline.seconds_left
        self._begin(late=seconds_left <= 0)
        while self.jobs and seconds_left > 0:
            yield from self._through("")
            if self.jobs:
                self._listen(min(seconds_left, LISTEN_SECONDS))
                seconds_left = deadline.seconds_left
        yield from self._through("")
        self.n_open = dict.fromkeys(self.n_open, 0)
        yield from self._through("deadline")

    def _begin(self, late: bool) -> None:
        if not late and self.jobs and self.process.is_old:
            self.process.renew()
        self.process.wait()
        for job in self.jobs.values():
            paths = job.start()
            self.n_open[job.position] = len(paths)
            self._ask(job, () if late else paths)

    def _ask(self, job: TokenPaths[T], paths: Iterable[TokenPath]) -> None:
        new = {next(self.numbers): (job, path) for path in paths}
        self.open.update(new)
        self.process.ask([path.ask(number) for number, (_, path) in new.items()])

    def _listen(self, seconds: float) -> None:
        try:
            for heard in self.process.listen(seconds):
                if heard.number in self.open:  # else it came after it was dropped
                    self._take(*self.open[heard.number], heard)
        except ProcessLost as error:
            self.losses += 1
            if self.losses == MOST_LOSSES:
                raise EngineError(
                    f"engine vllm: it was lost {MOST_LOSSES} times in one call, at last it {error}"
                ) from None
            self.process.renew()
            self.process.ask([path.ask(number) for number, (_, path) in self.open.items()])

    def _take(self, job: TokenPaths[T], path: TokenPath, heard: Heard) -> None:
        new = list(job.take(path, heard))
        self.n_open[job.position] += len(new)
        self._ask(job, new)
        closed = [number for number, (_, each) in self.open.items() if each.closed] if path.closed else []
        for number in closed:
            del self.open[number]
        self.n_open[job.position] -= len(closed)
        self.process.drop([number for number in closed if number != heard.number or not heard.last])

    def _through(self, stopped: str) -> Iterator[tuple[int, T]]:
        for position in [position for position, n in self.n_open.items() if not n]:
            del self.n_open[position]
            yield position, self.jobs.pop(position).result(stopped)
