"""Early stopping is judged on a finished run: which views `--generate.stop-lead` would have saved, at which cost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from arc_kaggle.answering.candidates import Prediction
from arc_kaggle.answering.metrics import PredictionsByTask, Score, ScoresByTask, first_and_second
from arc_kaggle.answering.predict import FoundByQuery, settled_queries, waves
from arc_kaggle.config.answer import GenerateConfig, Selection
from arc_kaggle.tasks.task import Task

STOP_LEADS = (2, 3, 4, 6, 8)
WAVES = (1, 2, 4, 8)
"""Views a wave."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """What a run would have come to that stops at a lead, looked at after every wave."""

    stop_lead: int
    """0 for all views."""
    views_a_wave: int
    """0 for all at once."""
    asked: float
    """Share of the views that are asked, over all queries, 0..1; the rest of the time of inference is saved."""
    top_1: Score
    """Queries whose answer is ranked first."""
    top_2: Score


def stopping_table(
    predictions: PredictionsByTask, scores: ScoresByTask, tasks: Sequence[Task], by: Selection = "votes"
) -> list[Stopped]:
    """All views first, then every lead under every size of waves, as if all views of a task were one job."""
    known = {task.id: [p for p in predictions.get(task.id, ()) if p.reason != "settled"] for task in tasks}
    n_views = _n_views(known)

    def stopped(stop_lead: int, views_a_wave: int) -> Stopped:
        config = GenerateConfig(stop_lead=stop_lead, views_a_wave=views_a_wave)
        asked = {task_id: list(asked_for(found, config)) for task_id, found in known.items()}
        share = _n_views(asked) / n_views if n_views else 1.0
        return Stopped(stop_lead, views_a_wave, share, *first_and_second(by, asked, scores, tasks))

    return [stopped(0, 0), *(stopped(lead, wave) for lead in STOP_LEADS for wave in WAVES)]


def asked_for(predictions: Sequence[Prediction], config: GenerateConfig) -> Iterator[Prediction]:
    """Of the predictions of a task those that come before its queries are settled."""
    found: FoundByQuery = defaultdict(list)
    settled: set[tuple[str, int]] = set()
    for views, _ in waves(sorted({prediction.view for prediction in predictions}), config):
        for prediction in predictions:
            key = prediction.task_id, prediction.query
            if prediction.view in views and key not in settled:
                found[key].append(prediction)
                yield prediction
        settled = settled_queries(found, config)


def _n_views(predictions: Mapping[str, Sequence[Prediction]]) -> int:
    """Views that queries were answered under, counted query by query."""
    return len({prediction.key[:3] for found in predictions.values() for prediction in found})
