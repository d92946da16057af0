"""Makes up sets of prompts with completions, all from templates of its own, and writes them as JSON-lines.

    python benchmarks/prompt_sets.py OUT [--seed 0]

    rewrite-train.jsonl, rewrite-test.jsonl    a text and its rewritten form -> the instruction that was followed
    words-train.jsonl, words-test.jsonl        arithmetic word problems -> a worked answer that ends in #### NUMBER
    code-train.jsonl, code-test.jsonl          what a function should do -> the function; with tests
    choices-test.jsonl                         the same word problems, with four numbers to choose from

Test items of the rewrites use other texts and other wordings of each instruction than training items, so that nothing
of a test item was seen in training but the kind of rewriting. Numbers and names of word problems are drawn anew.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

Rng = np.random.Generator
Line = dict[str, Any]

NAMES = ["Ada", "Ben", "Chloe", "Dmitri", "Elif", "Femi", "Greta", "Hiro", "Ines", "Jonas"]
THINGS = ["apples", "stamps", "marbles", "pencils", "shells", "books", "coins", "cards"]
SUBJECTS = ["the baker", "my neighbour", "an old sailor", "the teacher", "a young painter", "the gardener"]
VERBS = ["found a key", "lost the map", "opened the window", "planted a tree", "read the letter", "fixed the clock"]
PLACES = ["in the market", "behind the house", "near the river", "on the hill", "at the station", "by the lake"]
TIMES = ["in the morning", "late at night", "last summer", "before lunch", "after the storm", "on Sunday"]


def pick(rng: Rng, values: list[str]) -> str:
    return values[int(rng.integers(len(values)))]


def sentence(rng: Rng) -> str:
    text = f"{pick(rng, SUBJECTS)} {pick(rng, VERBS)} {pick(rng, PLACES)} {pick(rng, TIMES)}."
    return text[0].upper() + text[1:]


PIRATE = {"my": "me", "the": "th'", "The": "Th'", "found": "plundered", "house": "ship", "river": "sea", "old": "salty"}

REWRITES: dict[str, tuple[Callable[[str], str], list[str], str]] = {
    "shout": (
        lambda text: text.upper(),
        ["Write the text in capital letters.", "Rewrite this text in all capitals."],
        "Convert the text to uppercase letters.",
    ),
    "small": (
        lambda text: text.lower(),
        ["Write the text in small letters only.", "Rewrite this text without any capitals."],
        "Convert the text to lowercase letters.",
    ),
    "list": (
        lambda text: "\n".join(f"- {part.strip()}" for part in text.split(".") if part.strip()),
        ["Turn the text into a list of points.", "Rewrite this text as a bulleted list."],
        "Present the text as bullet points.",
    ),
    "question": (
        lambda text: " ".join(
            f"Did you know that {p.strip()[0].lower() + p.strip()[1:]}?" for p in text.split(".") if p.strip()
        ),
        ["Turn every sentence into a question.", "Rewrite this text as questions."],
        "Change the sentences into questions.",
    ),
    "pirate": (
        lambda text: "Arr! " + " ".join(PIRATE.get(word, word) for word in text.split()),
        ["Tell the text like a pirate.", "Rewrite this text as a pirate would say it."],
        "Make the text sound like a pirate.",
    ),
    "letter": (
        lambda text: f"Dear friend,\n{text}\nYours, {NAMES[len(text) % len(NAMES)]}",
        ["Turn the text into a letter to a friend.", "Rewrite this text as a letter."],
        "Make the text a letter to a friend.",
    ),
    "excited": (
        lambda text: "Wow! " + text.replace(".", "!!!"),
        ["Make the text sound excited.", "Rewrite this text with great enthusiasm."],
        "Give the text an excited tone.",
    ),
    "doubt": (
        lambda text: " ".join(f"Perhaps {p.strip()[0].lower() + p.strip()[1:]}." for p in text.split(".") if p.strip()),
        ["Make every sentence sound unsure.", "Rewrite this text with doubt."],
        "Make the sentences sound uncertain.",
    ),
    "news": (
        lambda text: f"BREAKING NEWS: {text} More at ten.",
        ["Turn the text into a news report.", "Rewrite this text as breaking news."],
        "Make the text a news report.",
    ),
    "tale": (
        lambda text: f"Once upon a time, {text[0].lower() + text[1:]} And they lived happily ever after.",
        ["Tell the text as a fairy tale.", "Rewrite this text like a fairy tale."],
        "Make the text a fairy tale.",
    ),
}


def rewrites(rng: Rng, n: int, test: bool) -> Iterator[Line]:
    for number in range(n):
        kind = list(REWRITES)[number % len(REWRITES)]
        change, seen, unseen = REWRITES[kind]
        text = sentence(rng)
        asked = f"Original text:\n{text}\n\nRewritten text:\n{change(text)}\n\nWhat was the instruction?"
        yield {"id": f"{kind}-{number}", "prompt": asked, "completion": unseen if test else pick(rng, seen)}


def word_problem(rng: Rng) -> tuple[str, str, int]:
    """(question, worked answer, number)."""
    name, other = rng.choice(NAMES, 2, replace=False)
    thing, a, b, c = pick(rng, THINGS), *map(int, rng.integers(2, 20, size=3))
    kinds: list[Callable[[], tuple[str, str, int]]] = [
        lambda: (
            f"{name} has {a} {thing} and gets {b} more from {other}. How many {thing} does {name} have?",
            f"{a} + {b} = {a + b}",
            a + b,
        ),
        lambda: (
            f"{name} has {a + b} {thing} and gives {b} to {other}. How many {thing} are left?",
            f"{a + b} - {b} = {a}",
            a,
        ),
        lambda: (
            f"{name} buys {a} boxes with {b} {thing} each. How many {thing} are that?",
            f"{a} * {b} = {a * b}",
            a * b,
        ),
        lambda: (
            f"{name} has {a} {thing}. {other} has {b} more than {name}. How many {thing} do they have together?",
            f"{a} + {b} = {a + b}, {a} + {a + b} = {a + a + b}",
            a + a + b,
        ),
        lambda: (
            f"{name} buys {a} bags with {b} {thing} each and loses {c % b} of them. How many {thing} are left?",
            f"{a} * {b} = {a * b}, {a * b} - {c % b} = {a * b - c % b}",
            a * b - c % b,
        ),
    ]
    return kinds[int(rng.integers(len(kinds)))]()


def word_problems(rng: Rng, n: int) -> Iterator[Line]:
    for number in range(n):
        question, worked, result = word_problem(rng)
        yield {"id": f"words-{number}", "prompt": question, "completion": f"{worked}\n#### {result}"}


def choices(rng: Rng, n: int) -> Iterator[Line]:
    for number in range(n):
        question, _, result = word_problem(rng)
        others = [str(result + d) for d in rng.choice([-10, -3, -2, -1, 1, 2, 3, 10], 3, replace=False).tolist()]
        shown = [str(each) for each in rng.permutation([str(result), *others])]
        yield {"id": f"choice-{number}", "prompt": question, "completion": str(result), "choices": shown}


FUNCTIONS: list[tuple[str, str, str, str]] = [
    ("returns the sum of a and b", "a, b", "a + b", "2, 3"),
    ("returns the product of a and b", "a, b", "a * b", "4, 5"),
    ("returns the larger of a and b", "a, b", "max(a, b)", "4, 9"),
    ("returns the smaller of a and b", "a, b", "min(a, b)", "4, 9"),
    ("returns the square of n", "n", "n * n", "7"),
    ("returns n doubled", "n", "2 * n", "8"),
    ("returns whether n is even", "n", "n % 2 == 0", "6"),
    ("returns whether n is odd", "n", "n % 2 == 1", "7"),
    ("returns the length of the text s", "s", "len(s)", "'hello'"),
    ("returns the text s reversed", "s", "s[::-1]", "'hello'"),
    ("returns the text s in upper case", "s", "s.upper()", "'Hello'"),
    ("returns the text s in lower case", "s", "s.lower()", "'Hello'"),
    ("returns the first item of the list xs", "xs", "xs[0]", "[5, 6, 7]"),
    ("returns the last item of the list xs", "xs", "xs[-1]", "[5, 6, 7]"),
    ("returns the sum of the list xs", "xs", "sum(xs)", "[5, 6, 7]"),
    ("returns the list xs sorted", "xs", "sorted(xs)", "[3, 1, 2]"),
    ("returns the list xs reversed", "xs", "xs[::-1]", "[3, 1, 2]"),
    ("returns how many items the list xs has", "xs", "len(xs)", "[3, 1, 2]"),
    ("returns the largest item of the list xs", "xs", "max(xs)", "[3, 1, 2]"),
    ("returns the mean of the list xs", "xs", "sum(xs) / len(xs)", "[3, 1, 2]"),
    ("returns whether x is in the list xs", "x, xs", "x in xs", "2, [3, 1, 2]"),
    ("returns how often x is in the list xs", "x, xs", "xs.count(x)", "2, [2, 1, 2]"),
    ("returns the absolute value of n", "n", "abs(n)", "-4"),
    ("returns the words of the text s as a list", "s", "s.split()", "'a bc d'"),
    ("returns how many words the text s has", "s", "len(s.split())", "'a bc d'"),
    ("returns whether the text s reads the same backwards", "s", "s == s[::-1]", "'anna'"),
    ("returns the texts of the list xs joined by commas", "xs", "','.join(xs)", "['a', 'b']"),
    ("returns the list xs without its duplicates, in order", "xs", "list(dict.fromkeys(xs))", "[2, 1, 2]"),
    ("returns the even numbers of the list xs", "xs", "[x for x in xs if x % 2 == 0]", "[1, 2, 4]"),
    ("returns the squares of the list xs", "xs", "[x * x for x in xs]", "[1, 2, 4]"),
    ("returns the sum of the digits of n", "n", "sum(int(d) for d in str(n))", "352"),
    ("returns the numbers from 1 to n as a list", "n", "list(range(1, n + 1))", "4"),
]


def functions(part: int) -> Iterator[Line]:
    """Every second function, from `part` on."""
    for number, (what, given, body, arguments) in list(enumerate(FUNCTIONS))[part::2]:
        code = f"def f({given}):\n    return {body}\n"
        yield {
            "id": f"code-{number}",
            "prompt": f"Write a Python function f({given}) that {what}. Answer with the code alone.",
            "completion": f"```python\n{code}```",
            "tests": f"assert f({arguments}) == {eval(f'(lambda {given}: {body})({arguments})')!r}",
        }


def write(path: Path, lines: Iterator[Line]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def main() -> None:
    out = Path(sys.argv[1])
    seed = int(sys.argv[sys.argv.index("--seed") + 1]) if "--seed" in sys.argv else 0
    train, test = np.random.default_rng([seed, 0]), np.random.default_rng([seed, 1])
    out.mkdir(parents=True, exist_ok=True)
    write(out / "rewrite-train.jsonl", rewrites(train, 60, test=False))
    write(out / "rewrite-test.jsonl", rewrites(test, 20, test=True))
    write(out / "words-train.jsonl", word_problems(train, 100))
    write(out / "words-test.jsonl", word_problems(test, 40))
    write(out / "choices-test.jsonl", choices(test, 40))
    write(out / "code-train.jsonl", functions(0))
    write(out / "code-test.jsonl", functions(1))


if __name__ == "__main__":
    main()
