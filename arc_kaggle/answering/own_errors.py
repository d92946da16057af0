"""The model's own errors: its wrong answers to train pairs, each held out in turn, before any fine-tuning."""

from __future__ import annotations

from dataclasses import replace

from arc_kaggle.answering.predict import Interpreter, predict
from arc_kaggle.answering.requests import make_requests
from arc_kaggle.config.answer import Decoding, GenerateConfig
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.tasks.augmentation import task_rng
from arc_kaggle.tasks.conversions import leave_one_out
from arc_kaggle.tasks.grid import Grid, grid_key
from arc_kaggle.tasks.task import Task

N_VIEWS = 2
"""Views under which each train pair is asked for."""


def own_errors(
    task: Task, interpreter: Interpreter, config: GenerateConfig, seed: int, deadline: Deadline
) -> dict[int, list[Grid]]:
    """Distinct wrong answers, in the task's own orientation and colours, by the position of the train pair.

    Each train pair is held out in turn; nothing of the test pairs is looked at. What has no grid is no answer.
    """
    greedy = replace(config, n_views=N_VIEWS, n_pilots=0, views_a_wave=0, stop_lead=0, p_min=0.0, decoding=Decoding())
    parts = list(leave_one_out(task))
    requests = [
        request
        for part in parts
        for request in make_requests(part, interpreter.notation, greedy, task_rng(part, seed, "errors"))
    ]
    places = {part.id: place for place, part in enumerate(parts)}
    right = {place: part.test[0].output for place, part in enumerate(parts)}
    found: dict[int, dict[tuple[int, bytes], Grid]] = {place: {} for place in right}
    for prediction in predict(requests, interpreter, greedy, deadline.earlier(config.max_seconds)):
        place = places[prediction.task_id]
        answer = right[place]
        if prediction.grid is not None and answer is not None and grid_key(prediction.grid) != grid_key(answer):
            found[place][grid_key(prediction.grid)] = prediction.grid
    return {place: list(grids.values()) for place, grids in found.items() if grids}
