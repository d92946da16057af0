"""The search: branches go through the network with their drafts, and whatever may follow them becomes a branch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from arc_kaggle.engines.drafts import NO_DRAFT, Draft
from arc_kaggle.engines.hf.batching import PassCosts
from arc_kaggle.engines.hf.cache import Slots
from arc_kaggle.engines.hf.forward import Forward, SlotRange
from arc_kaggle.engines.hf.policy import Policy, Reading
from arc_kaggle.engines.tree import NOTHING, Branch, Feed, Row, fitting_width, plan
from arc_kaggle.system.deadline import Deadline


@dataclass(slots=True, eq=False)
class TreeSearch:
    """The rows of one batch, from their roots to the end. Greedy answers and samples are trees of one branch each."""

    forward: Forward
    policy: Policy
    rows: list[Row]
    costs: PassCosts
    max_width: int
    """Most tokens a row in one forward."""

    def run(self, deadline: Deadline, bucket: int) -> Iterator[Row]:
        """Yield every row as soon as it is through; at the deadline as it stands."""
        for row in self.rows:
            for root in row.open:
                root.draft = self._draft(row, root, NO_DRAFT)
        waiting, filled = list(self.rows), False
        while True:
            if deadline.passed:
                for row in waiting:
                    if row.open:
                        row.stop("deadline")
            yield from (row for row in waiting if not row.open)
            waiting = [row for row in waiting if row.open]
            if not waiting:
                return
            if not filled:
                prompts = [row.prompt if row.open else row.prompt[:1] for row in self.rows]
                self.forward.prefill(prompts, bucket, self.costs.most, deadline)
                filled = True
            elif 2 * len(waiting) <= len(
                self.rows
            ):  # rows that are through ride along until they are half of the batch
                self.forward.keep([number for number, row in enumerate(self.rows) if row.open])
                self.rows = list(waiting)
            if not deadline.passed:
                self.step()

    def step(self) -> None:
        """One forward, and what follows from it."""
        self._make_room()
        memory = self.forward.memory
        feeds = plan(self.rows, memory.room, self.costs.step, self.max_width)
        spans = [
            SlotRange(feed.number, feed.ids, memory.reserve(feed.number, feed.n_tokens), feed.branch.slots)
            for feed in feeds
        ]
        n_tokens = np.bincount([feed.number for feed in feeds], [feed.n_tokens for feed in feeds])
        reading = self.policy.read(self.forward.feed(spans, fitting_width(int(n_tokens.max()))), feeds)
        at = 0
        for feed, span in zip(feeds, spans, strict=True):
            if not feed.row.stopped:
                feed.row.open.remove(feed.branch)
                self._walk(feed, span.slots, reading, at)
            at += feed.n_tokens
        for number, row in enumerate(self.rows):
            self.policy.prune(row)
            memory.release(number, [branch.slots for branch in row.live])

    def _walk(self, feed: Feed, slots: Slots, reading: Reading, at: int) -> None:
        """Follow the draft as far as it holds. What was read after the first token that was fed lies at `at`."""
        row, branch, trunk = feed.row, feed.branch, feed.branch.fed(slots)
        if trunk.n_unfed > 0:  # there was no room for all of a prefix that is fed again
            row.open.append(trunk)
            return
        drafted, base = trunk.ids[len(branch.ids) :].tolist(), at - len(branch.slots)
        nexts = [*drafted, None][: int(min(row.max_nodes - row.nodes, len(drafted) + 1))]
        right, others = self._follow(branch, nexts, reading, base)
        trunk.log_probs = np.concatenate([branch.log_probs, right])
        row.nodes += min(len(right) + 1, len(nexts))
        row.guesses.record(len(right), wrong=len(right) < len(drafted))
        for n_ids, token, log_prob in others:
            self._branch_off(row, trunk, n_ids, token, log_prob, reading, base)
        if len(right) == len(nexts):  # nothing follows the last but None, unless it is a node too many
            row.stop("nodes")

    def _follow(
        self, branch: Branch, nexts: Sequence[int | None], reading: Reading, base: int
    ) -> tuple[list[float], list[tuple[int, int, float]]]:
        """Log-probabilities of the next ids that hold, and what else may follow: after how many ids, id, log-prob.

        What was read after id i lies at `base` + i.
        """
        right, others, nll = list[float](), list[tuple[int, int, float]](), branch.nll
        for n_ids, token in enumerate(nexts, len(branch.ids)):
            followed = None
            for follower, log_prob in reading.followers(base + n_ids - 1):
                if nll - log_prob >= self.policy.max_nll:
                    continue
                if follower == token:
                    followed = log_prob
                else:
                    others.append((n_ids, follower, log_prob))
            if followed is None:
                break
            right.append(followed)
            nll -= followed
        return right, others

    def _branch_off(
        self, row: Row, trunk: Branch, n_ids: int, token: int, log_prob: float, reading: Reading, base: int
    ) -> None:
        """Open a branch for a token that may follow the first ids.

        Its draft is what the model said further along the trunk: it has seen one wrong token, but it has seen.
        """
        child = trunk.child(n_ids, token, log_prob)
        if row.add(child, self.forward.model.end_id):
            ahead = slice(base + n_ids, base + len(trunk.ids))
            predicted = Draft(reading.best[ahead], reading.best_log_probs[ahead]).then(trunk.draft)
            child.draft = self._draft(row, child, predicted)

    def _draft(self, row: Row, branch: Branch, predicted: Draft) -> Draft:
        if not self.policy.takes_drafts:
            return NO_DRAFT
        draft = row.guesses.draft(branch.ids[1:], predicted)
        return draft.until(self.forward.model.end_id, row.limit - 1 - branch.length)

    def _make_room(self) -> None:
        """Compact the cache where a row would like more slots than are free; where none is, forget some branches."""
        memory = self.forward.memory
        if any(free < min(row.n_wanted, self.max_width) for free, row in zip(memory.room, self.rows, strict=True)):
            self._compact()
        for number, row in enumerate(self.rows):
            while row.open and not memory.room[number]:
                max((branch for branch in row.live if len(branch.slots)), key=lambda branch: branch.nll).slots = NOTHING
                self._compact()

    def _compact(self) -> None:
        moved = self.forward.memory.compact([[branch.slots for branch in row.live] for row in self.rows])
        for row, new in zip(self.rows, moved, strict=True):
            for branch in row.live:
                branch.slots = new[branch.slots]
