"""Choices: the model is shown two answers to a test input and asked which of them is right (a pairwise judge)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from arc_kaggle.config.options import Drop
from arc_kaggle.tasks.grid import Grid, grid_key
from arc_kaggle.tasks.task import Query, Task
from arc_kaggle.text.fit_prompt import fit_training
from arc_kaggle.text.notation import Notation
from arc_kaggle.text.prompt import query_prompt
from arc_kaggle.text.prompt_format import Prompt, Span
from arc_kaggle.text.tokens import Example, TokenIds
from arc_kaggle.text.verdicts import known_output, spoiled, verdicts_of


def between_choices(notation: Notation) -> tuple[str, ...]:
    """The texts behind the first answer and behind the second one; empty where the format asks for no verdict."""
    fmt = notation.format
    if fmt.verify is None:
        return ()
    against = fmt.verify if fmt.against is None else fmt.against
    return against + notation.given, fmt.verify if fmt.choose is None else fmt.choose


def choice_endings(first: TokenIds, second: TokenIds, notation: Notation) -> tuple[TokenIds, TokenIds]:
    """Ids of a first answer and a second one, as `completion_ids` makes them, and of the two choices behind them.

    Behind one the choice is the first answer, behind the other the second. Raises PromptError.
    """
    verdicts_of(notation.format)
    against, choose = (np.array(notation.ids(text), dtype=np.int64) for text in between_choices(notation))
    verdicts = (ids[-1:] for ids in verdicts_of(notation.format).endings(notation.tokenizer))
    one, other = (np.concatenate([first, against, second, choose, verdict]) for verdict in verdicts)
    return one, other


def choice_prompt(task: Task, answers: tuple[Grid, Grid], is_first: bool, notation: Notation) -> Prompt:
    """All train pairs of a view, for the last of them two proposed outputs, and the choice: that alone is trained.

    Its tokens are those that scoring puts behind a query's prompt: every span is tokenized by itself there too.
    """
    verdicts, (*shown, asked) = verdicts_of(notation.format), task.train
    query = Query(Task(task.id, tuple(shown), (asked,)), 0)
    (first, second), (against, choose) = map(notation.completion, answers), between_choices(notation)
    choice = Span(verdicts.right if is_first else verdicts.wrong, True)
    return Prompt((*query_prompt(query, notation).spans, *map(Span, (first, against, second, choose)), choice))


def choice_example(
    view: Task,
    notation: Notation,
    max_tokens: int,
    drop: Drop,
    rng: np.random.Generator,
    errors: Mapping[int, Sequence[Grid]],
) -> Example | None:
    """An example of a choice on the last train pair of a view, the right one first by even chance; None if none fits.

    `errors` holds wrong answers of the model by the place of the train pair in the view. Where there is none to the
    pair that is asked, its output is spoiled. Train pairs are left out as for answers.
    """
    is_first, seed = bool(rng.random() < 0.5), int(rng.integers(2**63))
    own = {grid_key(view.train[place].input): grids for place, grids in errors.items() if grids}

    def propose(task: Task, notation: Notation) -> Prompt:
        right, inner = known_output(task.train[-1]), np.random.default_rng(seed)
        grids = own.get(grid_key(task.train[-1].input), ())
        wrong = grids[int(inner.integers(len(grids)))] if grids else spoiled(task, inner)
        return choice_prompt(task, (right, wrong) if is_first else (wrong, right), is_first, notation)

    fitted = fit_training(view, notation, max_tokens, drop, propose)
    return fitted.example if fitted.fits else None


def pairings(n: int, view: int) -> Iterator[tuple[int, int]]:
    """Every pair of `n` candidates once, in an order that changes from view to view: places decide nothing over all."""
    for i in range(n):
        for j in range(i + 1, n):
            yield (i, j) if (i + j + view) % 2 else (j, i)
