"""Cost model of jobs: seconds = a + b x tokens for each stage, from a prior that every measured job corrects."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import sqrt

from arc_kaggle.run.planning.jobs import Stage, TaskSize

SAFETY = 2.0
"""An upper estimate lies this many standard deviations over the mean."""
CLIP = 2.0
"""An error counts for at most this many spreads, so that one slow task changes little."""
PRIOR_WEIGHT = 0.25
"""The weight of the prior, counted in measurements, for the fixed and for the proportional part each."""
UNMEASURED = 0.2
"""The share of its prior that must fit as long as no job of a stage is measured, so that a prior that is too high keeps
no run from starting. The time cap of the job holds all the same."""
KTOKEN_SECONDS = 0.06
"""Seconds that the machine of the priors takes for the prefill of a thousand tokens."""


@dataclass(frozen=True, slots=True)
class Line:
    """A linear cost: seconds = fixed + seconds_per_ktoken x tokens / 1000, with both parameters over 0."""

    fixed_seconds: float
    seconds_per_ktoken: float


@dataclass(frozen=True, slots=True)
class CostConfig:
    """What a job costs before anything is measured: an 8B model on one H100, 64 steps of fine-tuning and the greedy
    answers of the published gain curve (5.5 s a view); split into parts by estimate.
    """

    quick: Line = field(default_factory=lambda: Line(0.5, 1.9))
    tune: Line = field(default_factory=lambda: Line(3.0, 16.0))
    answer: Line = field(default_factory=lambda: Line(1.0, 1.9))
    score: Line = field(default_factory=lambda: Line(0.5, 0.6))
    answer_weight: float = 8.0
    """How many tokens of prefill cost as much as one decode step."""

    def line(self, stage: Stage) -> Line:
        line: Line = getattr(self, stage)
        return line

    def tokens(self, stage: Stage, size: TaskSize, n_views: int) -> float:
        """The cost of a stage in tokens of prefill. Fine-tuning has no views: its steps are part of its line."""
        if stage == "tune":
            return size.prompt_tokens + size.answer_tokens
        return n_views * size.n_queries * (size.prompt_tokens + self.answer_weight * size.answer_tokens)


class RunningLine:
    """A linear cost that is learnt online. The first measurement scales the prior, for machines differ by orders of
    magnitude; after that it is Bayesian regression towards this line on relative errors, each of them clipped.
    """

    def __init__(self, prior: Line) -> None:
        self.prior = prior
        self.spread = 1.0  # typical error as a share of the estimate
        self.n = 0
        self._begin(1.0)

    def _begin(self, factor: float) -> None:
        self.fixed, self.slope = self.prior.fixed_seconds, self.prior.seconds_per_ktoken / 1000
        self._scale(factor)

    def fit_machine(self, factor: float) -> None:
        """Scale the prior by the speed of this machine against that of the prior, unless jobs are measured already."""
        if not self.n:
            self._begin(factor)

    def against_prior(self, tokens: float) -> float:
        """The estimate for so many tokens, divided by that of the prior."""
        return self.mean(tokens) / (self.prior.fixed_seconds + self.prior.seconds_per_ktoken / 1000 * tokens)

    def mean(self, tokens: float, n_jobs: int = 1) -> float:
        """Seconds that `n_jobs` jobs of so many tokens in all are expected to take."""
        return max(n_jobs * self.fixed + self.slope * tokens, 1e-3)

    def upper(self, tokens: float) -> float:
        """An upper estimate of the seconds of a job, which grows tighter with every measurement."""
        if not self.n:
            return UNMEASURED * self.mean(tokens)
        (aa, ab, bb), mean = self._precision, self.mean(tokens)
        doubt = (bb - 2 * ab * tokens + aa * tokens**2) / ((aa * bb - ab**2) * mean**2)
        return mean * (1 + SAFETY * self.spread * sqrt(1 + doubt))

    def _scale(self, factor: float) -> None:
        self.fixed, self.slope = factor * self.fixed, factor * self.slope
        self._precision = [PRIOR_WEIGHT / self.fixed**2, 0.0, PRIOR_WEIGHT / self.slope**2]  # of (fixed, slope)
        self._evidence = [PRIOR_WEIGHT / self.fixed, PRIOR_WEIGHT / self.slope]

    def learn(self, tokens: float, seconds: float) -> None:
        """Update the estimate by a measured job."""
        if not self.n:
            self._scale(max(seconds, 1e-3) / self.mean(tokens))
        expected = self.mean(tokens)
        error = max(-1.0, min(seconds / expected - 1, CLIP * self.spread))
        one, per_token, found = 1 / expected, tokens / expected, 1 + error
        aa, ab, bb = self._precision
        self._precision = [aa + one * one, ab + one * per_token, bb + per_token * per_token]
        self._evidence = [self._evidence[0] + one * found, self._evidence[1] + per_token * found]
        if self.n:  # 1.25 mean errors are a standard deviation
            self.spread += (1.25 * abs(error) - self.spread) / (self.n + 1)
        self.n += 1
        self._solve()

    def _solve(self) -> None:
        (aa, ab, bb), (a, b) = self._precision, self._evidence
        self.fixed, self.slope = ((bb * a - ab * b) / (aa * bb - ab**2), (aa * b - ab * a) / (aa * bb - ab**2))
        if self.slope < 0:  # a line that falls: nothing but the fixed part, and the other way round
            self.fixed, self.slope = a / aa, 0.0
        elif self.fixed < 0:
            self.fixed, self.slope = 0.0, b / bb


class Costs:
    """The cost estimates of all stages, and how much slower each task was than its size predicts."""

    def __init__(self, config: CostConfig) -> None:
        self.config = config
        self.lines: dict[Stage, RunningLine] = {
            stage: RunningLine(config.line(stage)) for stage in ("quick", "tune", "answer", "score")
        }
        self._slowness: dict[str, float] = {}

    def mean(self, stage: Stage, size: TaskSize, n_views: int = 1) -> float:
        return self.lines[stage].mean(self.config.tokens(stage, size, n_views)) * self.slowness(size)

    def upper(self, stage: Stage, size: TaskSize, n_views: int = 1) -> float:
        return self.lines[stage].upper(self.config.tokens(stage, size, n_views)) * self.slowness(size)

    def reserve(self, stage: Stage, size: TaskSize, n_views: int) -> float:
        """Seconds to reserve for a job that must follow another one: the whole upper estimate, measured or not."""
        return max(self.upper(stage, size, n_views), self.mean(stage, size, n_views))

    def slowness(self, size: TaskSize) -> float:
        """The time of the jobs of a task, as a multiple of what its size predicts."""
        return self._slowness.get(size.task_id, 1.0)

    def probed(self, ktoken_seconds: float) -> None:
        """Scale the priors by the seconds that this machine takes for the prefill of a thousand tokens."""
        self._fit_others(min(max(ktoken_seconds / KTOKEN_SECONDS, 1e-3), 1e3))

    def _fit_others(self, factor: float) -> None:
        for line in self.lines.values():
            line.fit_machine(factor)

    def learn(self, stage: Stage, size: TaskSize, n_views: int, seconds: float) -> None:
        """Take in a measured job: half of its error, in logarithms and at most a factor of 2, stays with its task."""
        tokens = self.config.tokens(stage, size, n_views)
        line, slowness = self.lines[stage], self.slowness(size)
        ratio = max(seconds, 1e-3) / (line.mean(tokens) * slowness)
        line.learn(tokens, seconds)
        self._fit_others(line.against_prior(tokens))
        if line.n > 3:  # before that the error is the line's
            self._slowness[size.task_id] = slowness * max(0.5, min(sqrt(ratio), 2.0))
