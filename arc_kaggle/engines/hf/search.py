"""The decode loop: tree search with speculative decoding over the KV cache slots of a batch.

Every decode step feeds each open branch together with its draft tokens, under tree attention, and keeps as many of them
as the policy accepts. A greedy step of a row whose prompt ends in `P` and whose draft is `a b c d`; seven tokens before
`P` were prefilled into slots 0 to 6:

    token fed            P  a  b  c  d     five tokens, one forward
    KV cache slot        7  8  9 10 11
    row of the reading   0  1  2  3  4     `BranchReading.first_row` + position in the branch
    likeliest follower   a  b  x  d  e

`a` and `b` are accepted. The model wants `x` behind `b`, so that `c d` are rejected: the branch is now `P a b x` with
slots 7 8 9, and slots 10 and 11 are free again. Three tokens came of one forward. The next draft is `d e`, which the
model said behind `c` and `d`: it had seen one wrong token, but most often goes on alike. Under a threshold both `x` and
`c` may be accepted; then two branches share slots 7 8 9, and each attends to its own path alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from arc_kaggle.engines.drafts import NO_DRAFT, Draft
from arc_kaggle.engines.hf.batching import PassCosts
from arc_kaggle.engines.hf.cache import Slots
from arc_kaggle.engines.hf.forward import Forward, SlotRange
from arc_kaggle.engines.hf.policy import BranchReading, Follower, Policy, Reading
from arc_kaggle.engines.tree import NOTHING, Branch, Feed, Row, fitting_width, plan
from arc_kaggle.system.deadline import Deadline


@dataclass(slots=True, eq=False)
class TreeSearch:
    """The rows of one batch, from their roots to the end. A greedy answer or a sample is a tree of one branch."""

    forward: Forward
    policy: Policy
    rows: list[Row]
    costs: PassCosts
    max_width: int
    """Most tokens of a row in one forward."""

    def run(self, deadline: Deadline, bucket: int) -> Iterator[Row]:
        """Yield every row as soon as nothing of it is open; at the deadline a row is yielded as it stands."""
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
        """Take one decode step: feed branches and drafts, accept what holds, free the slots of what does not."""
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
        """Accept the draft as far as it holds. The reading's row `at` belongs to the first token that was fed."""
        row, branch, trunk = feed.row, feed.branch, feed.branch.fed(slots)
        if trunk.n_unfed > 0:  # there were not enough slots for all of a prefix that is computed again
            row.open.append(trunk)
            return
        drafted, said = trunk.ids[len(branch.ids) :].tolist(), BranchReading(reading, at - len(branch.slots))
        nexts = [*drafted, None][: int(min(row.max_nodes - row.nodes, len(drafted) + 1))]
        right, others = self._follow(branch, nexts, said)
        trunk.log_probs = np.concatenate([branch.log_probs, right])
        row.nodes += min(len(right) + 1, len(nexts))
        row.guesses.record(len(right), wrong=len(right) < len(drafted))
        for other in others:
            self._branch_off(row, trunk, other, said)
        if len(right) == len(nexts):  # nothing follows the last but None, unless it is a node too many
            row.stop("nodes")

    def _follow(
        self, branch: Branch, nexts: Sequence[int | None], said: BranchReading
    ) -> tuple[list[float], list[Follower]]:
        """(log-probabilities of the next ids that are accepted, the other tokens that may follow the branch)."""
        right, others, nll = list[float](), list[Follower](), branch.nll
        for n_ids, token in enumerate(nexts, len(branch.ids)):
            followed = None
            for follower, log_prob in said.followers(n_ids):
                if nll - log_prob >= self.policy.max_nll:
                    continue
                if follower == token:
                    followed = log_prob
                else:
                    others.append(Follower(n_ids, follower, log_prob))
            if followed is None:
                break
            right.append(followed)
            nll -= followed
        return right, others

    def _branch_off(self, row: Row, trunk: Branch, follower: Follower, said: BranchReading) -> None:
        """Open a branch for a token that may follow the first ids; its draft is what the model said further along."""
        child = trunk.child(follower.n_ids, follower.token, follower.log_prob)
        if row.add(child, self.forward.model.end_id):
            predicted = said.predicted(follower.n_ids, len(trunk.ids)).then(trunk.draft)
            child.draft = self._draft(row, child, predicted)

    def _draft(self, row: Row, branch: Branch, predicted: Draft) -> Draft:
        if not self.policy.takes_drafts:
            return NO_DRAFT
        draft = row.guesses.draft(branch.ids[1:], predicted)
        return draft.until(self.forward.model.end_id, row.limit - 1 - branch.length)

    def _make_room(self) -> None:
        """Compact the KV cache where a row wants more slots than are free.

        Where a row has none at all, its least likely branch gives up its slots and is computed again later.
        """
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
