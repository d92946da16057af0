"""Judges models on a set of prompts: they answer one after the other, answers are scored, and a summary is written."""

from __future__ import annotations

import gc
import time
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np

from arc_kaggle.config.answer import Decoding
from arc_kaggle.config.engines import VLLMConfig
from arc_kaggle.config.json import config_to_json
from arc_kaggle.config.prompts import PromptEvaluation
from arc_kaggle.config.tune import LoraConfig
from arc_kaggle.engines.base import Engine
from arc_kaggle.engines.hf.engine import HFEngine
from arc_kaggle.engines.vllm import Served, VLLMEngine
from arc_kaggle.errors import ConfigError
from arc_kaggle.evaluation.model_folders import ModelFolder, find_model_folders
from arc_kaggle.evaluation.prompts.answered import KEPT, Answered, KeptAnswers
from arc_kaggle.evaluation.prompts.answers import TextAnswer, TextPrediction, combined
from arc_kaggle.evaluation.prompts.scores import Points, Score, check_items, make_score, value_of
from arc_kaggle.evaluation.statistics import Paired, mean_difference, wilson
from arc_kaggle.models.loading import DTYPES, load_text_model, load_tokenizer, pick_device, pick_precision
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.system.files import strict_json, write_atomically, write_json
from arc_kaggle.system.paths import remove_below
from arc_kaggle.tasks.prompt_sets import PromptItem, read_prompt_set
from arc_kaggle.text.asking import Asking
from arc_kaggle.text.tokens import token_limit
from arc_kaggle.tuning.tunable_weights import LoraAdapter

TOGETHER = "combined"
"""The column of several models together."""


@dataclass(frozen=True, slots=True, eq=False)
class PromptColumn:
    """The answers of one model, or of several combined, with their points."""

    name: str
    answers: tuple[TextAnswer, ...]
    points: Points
    seconds: float


def judge(config: PromptEvaluation) -> dict[str, Any]:
    """Ask all models, write predictions.jsonl and summary.json, return the summary. Raises ArcKaggleErrors.

    What a model has answered is kept at once: the same command goes on behind the last model.
    """
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    items = read_prompt_set(config.data)
    items = items[: config.first or len(items)]
    check_items(items, config)
    score = make_score(config)
    models = find_model_folders(config.models, config.base)
    _check_out(config.out)
    answered = {model.name: _answered(model, items, config) for model in models}
    voters = voters_of(models)
    if len(voters) > 1:
        answered[TOGETHER] = _together([answered[name] for name in voters])
    columns = [_column(name, each, items, config, score) for name, each in answered.items()]
    summary = summary_of(columns, config)
    _write(columns, items, summary, config.out)
    return summary


def voters_of(models: Sequence[ModelFolder]) -> list[str]:
    """The models that are combined: all but those that an adapter among them is on, which is compared with them."""
    bases = {model.base.resolve() for model in models if model.base}
    return [model.name for model in models if model.folder.resolve() not in bases]


def _check_out(out: Path) -> None:
    """Raise ConfigError, before any model is asked, for a folder that cannot be written."""
    try:
        (out / KEPT).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"out {out}: cannot be written to ({error.strerror}); name another folder") from error


def _answered(model: ModelFolder, items: Sequence[PromptItem], config: PromptEvaluation) -> Answered:
    """What a model answers, which is kept, or was kept by a run that was stopped."""
    kept = KeptAnswers.of(model, config)
    if answered := kept.read():
        return answered
    begun = time.monotonic()
    answered = Answered(ask(model, items, config), time.monotonic() - begun)
    model.check_unchanged()
    kept.write(answered)
    return answered


def _together(voters: Sequence[Answered]) -> Answered:
    """The predictions of several models, as if one had made them."""
    by_item = zip(*(each.predictions for each in voters), strict=True)
    return Answered(tuple(tuple(chain(*rows)) for rows in by_item), sum(each.seconds for each in voters))


def _column(
    name: str, answered: Answered, items: Sequence[PromptItem], config: PromptEvaluation, score: Score
) -> PromptColumn:
    begun = time.monotonic()
    answers = tuple(_answer(item, found, config) for item, found in zip(items, answered.predictions, strict=True))
    points = score(items, [answer.value for answer in answers])
    return PromptColumn(name, answers, points, answered.seconds + time.monotonic() - begun)


def _write(columns: Sequence[PromptColumn], items: Sequence[PromptItem], summary: dict[str, Any], out: Path) -> None:
    """Both files, each as a whole. A summary stands beside its own predictions alone, so that it is written last."""
    lines = (strict_json(line) + "\n" for column in columns for line in _lines(column, items))
    (out / "summary.json").unlink(missing_ok=True)
    write_atomically(out / "predictions.jsonl", "".join(lines))
    write_json(out / "summary.json", summary)
    remove_below(out, out / KEPT)


def ask(
    model: ModelFolder, items: Sequence[PromptItem], config: PromptEvaluation
) -> tuple[tuple[TextPrediction, ...], ...]:
    """One model's predictions for all items."""
    shots = read_prompt_set(config.shots_from)[: config.shots] if config.shots_from else ()
    asking = Asking(load_tokenizer(model.base or model.folder), config.chat, config.prefix, shots)
    engine = make_text_engine(model, asking.end_id(items[0]), _longest(items, asking, config), config)
    try:
        if config.score == "choice":
            found = _choices(engine, model.name, items, asking)
        else:
            found = _texts(engine, model.name, items, asking, config)
    finally:
        if isinstance(engine, VLLMEngine):
            engine.close()
    del engine
    gc.collect()
    return tuple(map(tuple, found))


def _longest(items: Sequence[PromptItem], asking: Asking, config: PromptEvaluation) -> int:
    """Tokens of the longest prompt and an answer. Raises ConfigError where the model was not made for so many."""
    longest = max(len(asking.ids(item)) for item in items) + config.max_new_tokens
    if longest > (limit := token_limit(asking.tokenizer)):
        raise ConfigError(
            f"data {config.data}: found a prompt that has {longest} tokens with its answer, expected at most the "
            f"tokenizer's model_max_length {limit}; lower --shots or --max-new-tokens, or leave it out"
        )
    return longest


def make_text_engine(model: ModelFolder, end_id: int, longest: int, config: PromptEvaluation) -> Engine:
    """What answers for a model, whose answers end with `end_id`; an adapter is on its base."""
    folder, adapter = (model.base, model.folder) if model.base else (model.folder, None)
    if config.engine == "vllm":
        return _vllm(folder, adapter, end_id, longest, config)
    quantised = config.four_bit, config.four_bit_skip
    loaded = load_text_model(folder, config.precision, config.device, *quantised)
    if adapter:
        LoraAdapter(loaded, LoraConfig(), adapter)
        loaded.network.eval()
    return HFEngine(replace(loaded, autocast=None, end_id=end_id), config.tokens_per_batch)


def _vllm(folder: Path, adapter: Path | None, end_id: int, longest: int, config: PromptEvaluation) -> VLLMEngine:
    from transformers import AutoConfig

    from arc_kaggle.config.adapter import lora_of
    from arc_kaggle.config.engines import VLLM_RANKS, check_engine
    from arc_kaggle.config.model import has_grid_positions

    check_engine("vllm", ["grid positions"] if has_grid_positions(folder) else [])
    shape = AutoConfig.from_pretrained(folder, local_files_only=True).get_text_config()
    rank = next(each for each in VLLM_RANKS if each >= lora_of(adapter).rank) if adapter else 0
    dtype = str(DTYPES[pick_precision(pick_device(config.device), config.precision)]).removeprefix("torch.")
    longest = min(longest, shape.max_position_embeddings)
    engine = VLLMEngine(Served(folder, dtype, end_id, shape.vocab_size, longest, rank), VLLMConfig())
    if adapter:
        engine.use(engine.put(partial(copytree, adapter, dirs_exist_ok=True)))
    return engine


def _texts(
    engine: Engine, name: str, items: Sequence[PromptItem], asking: Asking, config: PromptEvaluation
) -> list[list[TextPrediction]]:
    """For every item as many predictions as are asked for."""
    prompts = [asking.ids(item) for item in items]
    limits = [config.max_new_tokens] * len(prompts)
    found: list[list[TextPrediction]] = [[] for _ in items]
    for number in range(config.predictions):
        decoding = Decoding(config.temperature, seed=config.seed + number)
        for i, completion in engine.generate(prompts, limits, Deadline.never(), decoding=decoding):
            ids = completion.ids[:-1] if completion.ended else completion.ids
            text = str(asking.tokenizer.decode(ids.tolist()))
            n_tokens = len(completion.ids)
            found[i].append(TextPrediction(name, text, n_tokens, completion.ended, completion.log_prob))
    return found


def _choices(engine: Engine, name: str, items: Sequence[PromptItem], asking: Asking) -> list[list[TextPrediction]]:
    """For every item one prediction a choice, with its likelihood."""
    candidates = [[asking.answer_ids(item, choice) for choice in item.choices] for item in items]
    found: list[list[TextPrediction]] = [[] for _ in items]
    for i, nlls in engine.score([asking.ids(item) for item in items], candidates, Deadline.never()):
        for choice, ids, nll in zip(items[i].choices, candidates[i], nlls, strict=True):
            found[i].append(TextPrediction(name, choice, len(ids), True, -float(nll)))
    return found


def _answer(item: PromptItem, predictions: Sequence[TextPrediction], config: PromptEvaluation) -> TextAnswer:
    if config.score == "choice":
        totals = {choice: 0.0 for choice in item.choices}
        for each in predictions:
            totals[each.text] += each.mean_log_prob if config.per_token else each.log_prob
        return TextAnswer(item.id, tuple(predictions), max(totals, key=totals.__getitem__).strip())
    values = [(value, each) for each in predictions if (value := value_of(item.given + each.text, config)) is not None]
    if config.score in ("exact", "similarity"):  # what is given is no part of the completion
        values = [(value.removeprefix(item.given.strip()).strip(), each) for value, each in values]
    return TextAnswer(item.id, tuple(predictions), combined(config.combine, values))


def _lines(column: PromptColumn, items: Sequence[PromptItem]) -> Iterator[dict[str, Any]]:
    for item, answer, points in zip(items, column.answers, column.points, strict=True):
        yield {
            "model": column.name,
            "id": item.id,
            "value": answer.value,
            "points": points,
            "invalid": answer.value is None,
            "cut_off": answer.cut_off,
            "completion": item.completion,
            "predictions": [asdict(each) for each in answer.predictions],
        }


def summary_of(columns: Sequence[PromptColumn], config: PromptEvaluation) -> dict[str, Any]:
    """What other tools read: `results` by model with a metric, its standard error and its 95% interval, and counts."""
    first = columns[0]
    return {
        "data": config.data.name,
        "metric": config.score,
        "n": len(first.answers),
        "results": {column.name: _result(column, config.score) for column in columns},
        "compared_with_first": {column.name: _compared(column, first) for column in columns[1:]},
        "settings": config_to_json(config),
    }


def _result(column: PromptColumn, metric: str) -> dict[str, Any]:
    points = np.array(column.points)
    n = len(points)
    error = float(points.std(ddof=1) / np.sqrt(n)) if n > 1 else 0.0
    around = points.mean() - 1.96 * error, points.mean() + 1.96 * error
    interval = wilson(int(points.sum()), n) if _is_binary(column) else around
    return {
        metric: float(points.mean()),
        f"{metric}_stderr": error,
        "interval_95": [float(bound) for bound in interval],
        "invalid": sum(answer.value is None for answer in column.answers),
        "cut_off": sum(answer.cut_off for answer in column.answers),
        "tokens": sum(prediction.n_tokens for answer in column.answers for prediction in answer.predictions),
        "seconds": round(column.seconds, 1),
    }


def _is_binary(column: PromptColumn) -> bool:
    return {*column.points} <= {0.0, 1.0}


def _compared(column: PromptColumn, first: PromptColumn) -> dict[str, Any]:
    """Exact McNemar test of what is right or wrong; else the paired bootstrap of the mean difference."""
    if _is_binary(column) and _is_binary(first):
        pairs = list(zip(column.points, first.points, strict=True))
        counts = [sum(1 for mine, other in pairs if (mine, other) == case) for case in ((1, 1), (1, 0), (0, 1))]
        return Paired(len(pairs), *counts).to_json()
    mine: dict[Hashable, float] = {**dict(enumerate(column.points))}
    return asdict(mean_difference(mine, {**dict(enumerate(first.points))}, np.random.default_rng(0)))


def summary_text(summary: dict[str, Any]) -> str:
    """The summary as a table."""
    metric = summary["metric"]
    rows = [f"{summary['data']}: {summary['n']} items"]
    rows.append(f"{'model':<32}{metric:>12}  {'95%':<16}{'invalid':>8}{'cut off':>8}")
    for name, found in summary["results"].items():
        interval = "..".join(f"{bound:.3f}" for bound in found["interval_95"])
        rows.append(f"{name:<32}{found[metric]:>12.3f}  {interval:<16}{found['invalid']:>8}{found['cut_off']:>8}")
    return "\n".join(rows)
