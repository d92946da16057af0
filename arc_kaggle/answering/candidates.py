"""Evidence: predictions and scores, one a line in durable files, and the candidates that they support."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import exp, inf
from pathlib import Path
from types import NoneType
from typing import Any

from arc_kaggle.errors import ArcKaggleError, SubmissionError
from arc_kaggle.system.files import value_of
from arc_kaggle.system.inputs import read_input_file
from arc_kaggle.system.paths import safe_name
from arc_kaggle.tasks.augmentation import Augmentation
from arc_kaggle.tasks.grid import Grid, as_grid, grid_key, grid_lists

Attempts = tuple[Grid, Grid]
"""The two grids that are submitted for one query."""

_KINDS = {
    "task_id": str,
    "query": int,
    "view": int,
    "text": str,
    "log_prob": float,
    "n_tokens": int,
    "rank": int,
    "extracted": bool,
}


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """The result of one view of a query: a grid in the task's own orientation and colours, or why there is none."""

    task_id: str
    query: int
    """Position of the test input in its task."""
    view: int
    """Position of the view among those of the task."""
    augmentation: Augmentation
    text: str
    """The completion as the model wrote it, seen through the view."""
    grid: Grid | None
    reason: str | None
    """Why there is no grid; None where there is one."""
    log_prob: float
    """Log-probability of the completion in nats."""
    n_tokens: int
    rank: int = 0
    """Place among the completions of its query and view, the likeliest first; only a search gives more than one."""
    extracted: bool = False
    """Whether the grid was found among other words, where the prompt format allows that."""

    @property
    def outcome(self) -> str:
        """The outcome as it is counted: the reason why there is no grid, `extracted`, or `answered`."""
        return self.reason or ("extracted" if self.extracted else "answered")

    @property
    def key(self) -> tuple[str, int, int, int]:
        return self.task_id, self.query, self.view, self.rank

    @property
    def probability(self) -> float:
        """Of the completion under its view, 0..1."""
        return exp(self.log_prob)

    def to_json(self) -> dict[str, Any]:
        names = ("task_id", "query", "view", "text", "reason", "n_tokens", "rank")
        plain = {name: getattr(self, name) for name in names} | ({"extracted": True} if self.extracted else {})
        grid = None if self.grid is None else grid_lists(self.grid)
        return {**plain, "log_prob": self.log_prob, "grid": grid, "augmentation": self.augmentation.to_json()}

    @classmethod
    def from_json(cls, value: dict[str, Any], where: str) -> Prediction:
        value = {"rank": 0, "extracted": False, **value}  # which older files do not say
        value["log_prob"] = -inf if value["log_prob"] is None else value["log_prob"]  # JSON has no such number
        grid = None if value["grid"] is None else as_grid(value["grid"], where)
        for name, kind in {**_KINDS, "reason": str if grid is None else NoneType}.items():
            if type(value[name]) is not kind:
                raise SubmissionError(f"{name}: found {value[name]!r:.40}, expected {kind.__name__}")
        return cls(**{**value, "grid": grid, "augmentation": Augmentation.from_json(value["augmentation"])})


@dataclass(frozen=True, slots=True, eq=False)
class CandidateScore:
    """How likely one view makes one candidate: the NLL in nats of its answer, end included; and what it says of it."""

    task_id: str
    query: int
    view: int
    grid: Grid
    """The candidate, in the task's own orientation and colours."""
    nll: float
    verdict: float | None = None
    """log P(right) - log P(wrong) in nats, where the model was asked."""
    duels: tuple[tuple[Grid, float], ...] = ()
    """Other candidates, each with log P(this one is right) - log P(the other one is) in nats, where the model compared
    the two. A comparison stands with one of them alone."""

    def to_json(self) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in ("task_id", "query", "view", "nll")}
        plain |= {} if self.verdict is None else {"verdict": self.verdict}
        plain |= {"duels": [[grid_lists(grid), margin] for grid, margin in self.duels]} if self.duels else {}
        return {**plain, "grid": grid_lists(self.grid)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any], where: str) -> CandidateScore:
        value = {**value, "nll": inf if value["nll"] is None else value["nll"]}  # JSON has no such number
        if value.get("verdict", 0.0) is None:
            del value["verdict"]
        kinds = {"task_id": str, "query": int, "view": int, "nll": float}
        for name, kind in (kinds | ({"verdict": float} if "verdict" in value else {})).items():
            if type(value[name]) is not kind:
                raise SubmissionError(f"{where}: {name}: found {value[name]!r:.40}, expected {kind.__name__}")
        if any(type(margin) is not float for _, margin in value.get("duels", ())):
            raise SubmissionError(f"{where}: duels: found {value['duels']!r:.40}, expected grids and numbers")
        duels = tuple((as_grid(grid, where), margin) for grid, margin in value.get("duels", ()))
        return cls(**{**value, "grid": as_grid(value["grid"], where), "duels": duels})


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """One distinct grid for one query, with the predictions that produced it."""

    grid: Grid
    predictions: tuple[Prediction, ...]
    nlls: Mapping[int, float] = field(default_factory=dict)
    """NLL in nats by view, of the views that every candidate of the query was scored under; empty where none was."""
    verdicts: Mapping[int, float] = field(default_factory=dict)
    """log P(right) - log P(wrong) in nats by view, of those same views; empty where the model was not asked."""
    duels: tuple[tuple[Grid, float], ...] = ()
    """Other candidates that it was compared with, once for each comparison, with log P(this one) - log P(the other)."""

    @property
    def votes(self) -> int:
        """Views that produced it."""
        return len({prediction.view for prediction in self.predictions})

    @property
    def mean_log_prob(self) -> float:
        """Log-probability per token in nats, mean over predictions."""
        return sum(p.log_prob / max(1, p.n_tokens) for p in self.predictions) / len(self.predictions)

    @property
    def mean_nll(self) -> float:
        """Mean over the scored views; infinite for a candidate that was not scored."""
        return sum(self.nlls.values()) / len(self.nlls) if self.nlls else inf

    @property
    def mean_verdict(self) -> float:
        """Mean over the scored views; minus infinity for a candidate that the model was not asked about."""
        return sum(self.verdicts.values()) / len(self.verdicts) if self.verdicts else -inf


def group_candidates(predictions: Iterable[Prediction], scores: Iterable[CandidateScore] = ()) -> list[Candidate]:
    """The distinct grids among the predictions of one query; predictions without a grid count for nothing."""
    groups: dict[tuple[int, bytes], list[Prediction]] = {}
    for prediction in predictions:
        if prediction.grid is not None:
            groups.setdefault(grid_key(prediction.grid), []).append(prediction)
    nlls: dict[tuple[int, bytes], dict[int, float]] = {}
    verdicts: dict[tuple[int, bytes], dict[int, float]] = {}
    duels: dict[tuple[int, bytes], dict[tuple[int, tuple[int, bytes]], tuple[Grid, float]]] = {}
    for score in scores:
        for other, margin in score.duels:  # of one view the later counts, as for likelihoods
            duels.setdefault(grid_key(score.grid), {})[score.view, grid_key(other)] = other, margin
        nlls.setdefault(grid_key(score.grid), {})[score.view] = score.nll
        if score.verdict is not None:
            verdicts.setdefault(grid_key(score.grid), {})[score.view] = score.verdict
    return [
        Candidate(grid, tuple(group), nlls.get(key, {}), verdicts.get(key, {}), tuple(duels.get(key, {}).values()))
        for key, group in groups.items()
        if (grid := group[0].grid) is not None
    ]


def read_predictions(path: Path) -> list[Prediction]:
    """The predictions of a task's file; where a query and view come twice the later one counts.

    A torn last line, left by a writer that was killed, is passed over. Raises SubmissionError for any other fault.
    """
    lines = read_input_file(path).split(b"\n")
    kept: dict[tuple[str, int, int, int], Prediction] = {}
    for number, line in enumerate(lines[:-1], start=1):  # what follows the last newline is empty or torn
        where = f"{path.name}, line {number}"
        try:
            prediction = Prediction.from_json(value_of(line), where)
        except (ValueError, KeyError, TypeError, RecursionError, ArcKaggleError) as error:
            raise SubmissionError(f"{where}: {error!r}, expected a prediction as `solve` writes it") from error
        kept[prediction.key] = prediction
    return list(kept.values())


def read_prediction_folder(folder: Path) -> dict[str, list[Prediction]]:
    """All predictions below a folder, by task id. Raises SubmissionError for a file that lies under another name."""
    return dict(task for path in sorted(folder.glob("*.jsonl")) if (task := _named(path, read_predictions(path))))


def _named(path: Path, found: list[Prediction]) -> tuple[str, list[Prediction]] | None:
    """The id of the task that a file is about, and what the file holds; None where it holds nothing."""
    for prediction in found:
        if path.stem not in (safe_name(prediction.task_id), prediction.task_id):  # the latter by earlier versions
            raise SubmissionError(
                f"{path.name}: found a prediction for task {prediction.task_id}, expected it in "
                f"{safe_name(prediction.task_id)}.jsonl"
            )
    return (found[0].task_id, found) if found else None
