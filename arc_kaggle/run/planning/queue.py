"""A queue of tasks by a key, smallest first. An entry that was removed or replaced stays until it would come first."""

from __future__ import annotations

import heapq

Key = tuple[float, ...]


class Queue:
    """A priority queue that holds each task at most once. Calls take amortized logarithmic time."""

    def __init__(self) -> None:
        self._heap: list[tuple[Key, str, int]] = []
        self._serials: dict[str, int] = {}
        self._n_pushed = 0

    def push(self, task_id: str, key: Key) -> None:
        """Add a task, or replace its key."""
        self._n_pushed += 1
        self._serials[task_id] = self._n_pushed
        heapq.heappush(self._heap, (key, task_id, self._n_pushed))

    def remove(self, task_id: str) -> None:
        self._serials.pop(task_id, None)
        self._drop(2)  # as they come, so that no single call has to drop them all

    def pop(self) -> str | None:
        """Remove and return the first task; None if the queue is empty."""
        task_id = self.first
        if task_id is not None:
            self.remove(task_id)
        return task_id

    @property
    def first(self) -> str | None:
        """The first task; None if the queue is empty."""
        self._drop(len(self._heap))
        return self._heap[0][1] if self._heap else None

    def _drop(self, most: int) -> None:
        """Drop up to so many outdated entries from the front."""
        while most and self._heap and self._serials.get(self._heap[0][1]) != self._heap[0][2]:
            heapq.heappop(self._heap)
            most -= 1
