"""The price of a second: the expected gain of the last views, if all tasks had as many as there is time for."""

from __future__ import annotations

from collections import defaultdict

from arc_kaggle.run.planning.costs import Costs
from arc_kaggle.run.planning.gain import PRIOR, UNSCORED, found
from arc_kaggle.run.planning.jobs import TaskSize
from arc_kaggle.run.planning.plan_config import PlanConfig

VIEWS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""The numbers of views among which the price is searched."""
NO_ANSWER = -1


class Backlog:
    """Counts tasks and their tokens by the number of their views, so that a second is priced without a look at each."""

    def __init__(self, costs: Costs, config: PlanConfig) -> None:
        self.costs, self.config = costs, config
        self._n: dict[int, int] = defaultdict(int)
        self._tokens: dict[int, float] = defaultdict(float)
        self._prompt_tokens = 0.0

    def count(self, size: TaskSize, views: int, n: int) -> None:
        """Count one task more (n = 1) or less (n = -1) among those with so many views, or with NO_ANSWER."""
        self._n[views] += n
        self._tokens[views] += n * self.costs.config.tokens("answer", size, 1)
        if views == NO_ANSWER:
            self._prompt_tokens += n * self.costs.config.tokens("tune", size, 1)

    def price(self, seconds: float) -> float:
        """The gain in solved tasks for each second of a worker, if all workers together have `seconds` left."""
        most, n_tasks = self.config.most_views, sum(self._n.values())
        if not n_tasks or self._seconds(most) <= seconds:
            return 0.0
        n = max((n for n in VIEWS if n < most and self._seconds(n) <= seconds), default=1)
        more = min(2 * n, most) - n
        more_seconds = self.costs.lines["answer"].mean(more * sum(self._tokens.values()), n_tasks)
        return UNSCORED * n_tasks * (found(PRIOR, n + more) - found(PRIOR, n)) / more_seconds

    def _seconds(self, n_views: int) -> float:
        """Seconds that one worker would need until all tasks have so many views, and their scores."""
        lines, below = self.costs.lines, [views for views in self._n if views < n_views]
        n_tasks = sum(self._n[views] for views in below)
        seconds = lines["answer"].mean(sum((n_views - max(v, 0)) * self._tokens[v] for v in below), n_tasks)
        if self.config.tune:
            seconds += lines["tune"].mean(self._prompt_tokens, self._n[NO_ANSWER])
        if self.config.score_views:
            scored = min(n_views, self.config.score_views)
            seconds += lines["score"].mean(scored * sum(self._tokens[v] for v in below), n_tasks)
        return seconds
