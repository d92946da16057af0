"""`arc-kaggle fit`: which tasks fit a number of tokens, before anything is trained; and what an encoder costs."""

from __future__ import annotations

from collections.abc import Iterator

from arc_kaggle.tasks.grid import Grid
from arc_kaggle.tasks.task import Query, Task
from arc_kaggle.text.encoders import GridEncoder
from arc_kaggle.text.prompt import Prompt, PromptFormat, with_answer
from arc_kaggle.text.tokens import Tokenizer


def leave_one_out(task: Task) -> Iterator[Query]:
    """Every train pair as a query to the others."""
    for i in range(len(task.train) if len(task.train) > 1 else 0):
        others = (*task.train[:i], *task.train[i + 1 :])
        yield Query(Task(task.id, others, (task.train[i],)), 0)


def count(prompt: Prompt, tokenizer: Tokenizer) -> int:
    """Tokens of a prompt, span by span as in `tokenize`."""
    return sum(len(tokenizer.encode(span.text, add_special_tokens=False)) for span in prompt.spans)


def answer_tokens(answer: Grid, encoder: GridEncoder, fmt: PromptFormat, tokenizer: Tokenizer) -> int:
    """Tokens of an answer and its end."""
    return count(with_answer(Prompt(()), answer, encoder, fmt), tokenizer)
