"""Verdicts: the model is asked behind a proposed answer whether it is right (an LLM as judge of its own answers).

Verdicts have to be learnt: examples of them are made of a task's own train pairs, each left out of its prompt and
proposed again, as it is or spoiled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from arc_kaggle.config.options import Drop
from arc_kaggle.errors import PromptError
from arc_kaggle.tasks.augmentation import N_SYMMETRIES, Augmentation
from arc_kaggle.tasks.grid import N_COLOURS, Grid, same_grid
from arc_kaggle.tasks.task import Pair, Query, Task
from arc_kaggle.text.fit_prompt import fit_training
from arc_kaggle.text.notation import Notation
from arc_kaggle.text.prompt import query_prompt
from arc_kaggle.text.prompt_format import Prompt, PromptFormat, Span
from arc_kaggle.text.tokens import Example, TokenIds, Tokenizer, single_token, token_ids

MOST_CHANGED = 0.25
"""Largest share of a right answer's cells that get another colour where some do."""


@dataclass(frozen=True, slots=True)
class Verdicts:
    """How a prompt format asks for a verdict: a text behind an answer, and the texts of the two verdicts."""

    question: str
    right: str
    wrong: str

    def endings(self, tokenizer: Tokenizer) -> tuple[TokenIds, TokenIds]:
        """Ids of the question with each verdict behind it, right and wrong. Raises PromptError."""
        question = token_ids(self.question, tokenizer) if self.question else []
        verdicts = (single_token(text, tokenizer, "verdict") for text in (self.right, self.wrong))
        right, wrong = (np.array([*question, verdict], dtype=np.int64) for verdict in verdicts)
        return right, wrong


def verdicts_of(fmt: PromptFormat) -> Verdicts:
    """Raises PromptError for a format that asks for none."""
    if fmt.verify is None or fmt.right is None or fmt.wrong is None:
        raise PromptError(
            "prompt format: found no text that asks for a verdict, expected verify, right and wrong; name them in the "
            "model's arc_kaggle.json, choose a --prompt that has them (plain, chat, arc24, architects), or leave out "
            "--rescore.verify and --tune.verify-share"
        )
    return Verdicts(fmt.verify, fmt.right, fmt.wrong)


def check_verdicts(notation: Notation) -> None:
    """Raise PromptError for a format that asks for no verdict, or a tokenizer to which one is not one token."""
    verdicts = verdicts_of(notation.format)
    right, wrong = verdicts.endings(notation.tokenizer)
    if np.array_equal(right, wrong):
        raise PromptError(
            f"verdict: {verdicts.right!r} and {verdicts.wrong!r} are the same token {right[-1]}, expected two; choose "
            "others in the prompt format"
        )


def verdict_prompt(task: Task, proposed: Grid, is_right: bool, notation: Notation) -> Prompt:
    """All train pairs of a view, for the last of them a proposed output, and the verdict on it: that alone is trained.

    Its tokens are those that scoring puts behind a query's prompt: every span is tokenized by itself there too.
    """
    verdicts, (*shown, asked) = verdicts_of(notation.format), task.train
    query = Query(Task(task.id, tuple(shown), (asked,)), 0)
    verdict = Span(verdicts.right if is_right else verdicts.wrong, True)
    proposal = (Span(notation.completion(proposed)), Span(verdicts.question))
    return Prompt((*query_prompt(query, notation).spans, *proposal, verdict))


def verdict_example(
    view: Task, notation: Notation, max_tokens: int, drop: Drop, rng: np.random.Generator
) -> Example | None:
    """An example of a verdict on the last train pair of a view, by even chance on a spoiled one; None where none fits.

    Train pairs are left out as for answers, and what is last is then another pair.
    """
    is_right, seed = bool(rng.random() < 0.5), int(rng.integers(2**63))

    def propose(task: Task, notation: Notation) -> Prompt:
        answer = known_output(task.train[-1])
        grid = answer if is_right else spoiled(task, np.random.default_rng(seed))
        return verdict_prompt(task, grid, is_right, notation)

    fitted = fit_training(view, notation, max_tokens, drop, propose)
    return fitted.example if fitted.fits else None


def known_output(pair: Pair) -> Grid:
    assert pair.output is not None, "train pairs have outputs"
    return pair.output


def spoiled(task: Task, rng: np.random.Generator) -> Grid:
    """A wrong output for the last train pair of a task, spoiled in a way that chance chooses among those that do."""
    answer = known_output(task.train[-1])
    ways = [_WAYS[i] for i in rng.permutation(len(_WAYS))]
    return next(grid for way in ways if not same_grid(grid := way(task.train, rng), answer))


def _another_output(train: Sequence[Pair], rng: np.random.Generator) -> Grid:
    return known_output(train[int(rng.integers(len(train) - 1))])


def _input(train: Sequence[Pair], rng: np.random.Generator) -> Grid:
    return train[-1].input


def _changed(train: Sequence[Pair], rng: np.random.Generator) -> Grid:
    """Some cells of the answer in another colour of the task's: this one never gives the answer itself."""
    answer = known_output(train[-1]).copy()
    colours = np.unique(np.concatenate([grid.ravel() for pair in train for grid in (pair.input, known_output(pair))]))
    colours = colours if len(colours) > 1 else np.arange(N_COLOURS)
    n_cells = int(rng.integers(1, max(1, int(MOST_CHANGED * answer.size)) + 1))
    cells = rng.choice(answer.size, n_cells, replace=False)
    steps = rng.integers(1, len(colours), size=n_cells)
    places = (np.searchsorted(colours, answer.flat[cells]) + steps) % len(colours)
    answer.flat[cells] = colours[places]
    return answer


def _shifted(train: Sequence[Pair], rng: np.random.Generator) -> Grid:
    return np.roll(known_output(train[-1]), int(rng.choice([-2, -1, 1, 2])), axis=int(rng.integers(2)))


def _turned(train: Sequence[Pair], rng: np.random.Generator) -> Grid:
    return Augmentation(int(rng.integers(1, N_SYMMETRIES))).apply(known_output(train[-1]))


_WAYS: tuple[Callable[[Sequence[Pair], np.random.Generator], Grid], ...] = (
    _another_output,
    _input,
    _changed,
    _shifted,
    _turned,
)
