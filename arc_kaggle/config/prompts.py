"""The options of `arc-kaggle evaluate-prompts`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional

from arc_kaggle.config.engines import FOUR_BIT_SKIP
from arc_kaggle.config.options import ASIDE, Count, Natural, NotNegative, Positive, Seed, check_ranges
from arc_kaggle.config.tune import Precision
from arc_kaggle.errors import ConfigError

ScoreName = Literal["exact", "number", "choice", "code", "similarity"]
Combine = Literal["vote", "likeliest", "join"]


@dataclass(frozen=True, slots=True)
class PromptEvaluation:
    """Judge models and LoRA adapters on prompts with known completions: JSON-lines of {"prompt", "completion"} or of
    messages (docs/prompts.md).
    """

    models: Positional[tuple[Path, ...]]
    """Folders of models or LoRA adapters. Several are combined in a last column, but for the base of an adapter that is
    among them, which is there to compare with."""
    data: Path
    """The set, a .jsonl file."""
    out: Path
    """Folder for predictions.jsonl and summary.json. Where a run was stopped, the same command goes on behind the last
    model that had answered."""
    base: Path | None = None
    """Model folder that the adapters belong to; the one that their own configs name where it is not given."""
    score: ScoreName = "exact"
    """exact: the answer is the completion, but for white space around it. number: the number behind the last --marker
    is that of the completion. choice: of an item's choices the completion is the likeliest. code: the answer's code
    passes the item's tests in a sandbox. similarity: cosine of the sentence embeddings of answer and completion, to the
    third power."""
    chat: bool = False
    """Write prompts by the tokenizer's chat template; files of messages are written so anyway."""
    prefix: str = ""
    """Text in front of every prompt."""
    shots: Natural = 0
    """Examples in front of every prompt, with their completions."""
    shots_from: Path | None = None
    """The file that they are taken from, the first ones: not the set itself."""
    first: Natural = 0
    """Judge so many items from the beginning of the file; all where it is 0."""
    max_new_tokens: Count = 256
    """Most tokens of an answer, its end among them."""
    stop: str = ""
    """Text at which an answer is cut, if it has it; for models that go on after the answer."""
    extract: str = ""
    """Regular expression that finds the answer in the text: its last match, of one with groups the first group. An
    answer without a match is invalid."""
    marker: str = "####"
    """What stands before the number, for --score number. An answer without it is invalid."""
    per_token: bool = False
    """Divide the log-probability of a choice by its tokens, for --score choice."""
    predictions: Count = 1
    """Answers of each model to every prompt, which are combined into one."""
    temperature: NotNegative = 0.0
    """Temperature of sampling; 0 is greedy."""
    combine: Combine = "vote"
    """How several predictions, of one or of several models, become one answer. vote: the most frequent one, of equals
    the likelier one. likeliest: that of the highest mean log-probability of a token. join: all different ones, one
    after the other. With --score choice log-probabilities are always added up."""
    embeddings: Path | None = None
    """Folder of a sentence-transformers model, for --score similarity: pip install 'arc_kaggle[embeddings]'."""
    tests_seconds: Positive = 5.0
    """Seconds that the tests of one answer may take."""
    tests_memory_mb: Count = 512
    """MiB of memory that they may take."""
    engine: Literal["hf", "vllm"] = "hf"
    """What generates, as for `solve`."""
    precision: Precision = "auto"
    """Floating-point type that the model computes in, as for `solve`."""
    four_bit: bool = False
    """Keep the linear layers of the base model in 4 bits, as for `solve`."""
    four_bit_skip: tuple[str, ...] = FOUR_BIT_SKIP
    """Modules that are not quantised, as for `solve`."""
    device: str = "auto"
    """cpu, cuda, cuda:1, or auto for the first GPU where there is one."""
    tokens_per_batch: Annotated[Count, ASIDE] = 16384
    """KV cache slots of a batch, prompts and answers together."""
    seed: Seed = 0
    """Seed of sampling."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if problem := next(self._problems(), None):
            raise ConfigError(f"option {problem}")

    def _problems(self) -> Iterator[str]:
        """Options that do not go together."""
        if not self.models:
            yield "models: found none, expected one or more folders of models or adapters"
        if bool(self.shots) is not bool(self.shots_from):
            yield f"shots: found {self.shots} from {self.shots_from}, expected a number and a file, or neither"
        if self.shots_from and self.shots_from.resolve() == self.data.resolve():
            yield f"shots_from: found {self.shots_from}, which is judged, expected another file"
        if (self.score == "similarity") is not bool(self.embeddings):
            yield f"embeddings: found {self.embeddings} with score {self.score}, expected a folder for similarity alone"
        if problem := _problem_of(self.extract):
            yield f"extract: found {self.extract!r}, expected a regular expression ({problem})"
        if self.predictions > 1 and not self.temperature:
            yield f"predictions: found {self.predictions} at temperature 0, where all are the same, expected 1"
        if self.four_bit and self.engine == "vllm":
            yield "four_bit: found engine vllm, expected hf"


def _problem_of(expression: str) -> str | None:
    """Why a text is no regular expression."""
    try:
        re.compile(expression)
    except (re.error, OverflowError, RecursionError) as error:
        return str(error)
    return None
