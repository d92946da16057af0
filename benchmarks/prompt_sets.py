"""Makes up sets of prompts with completions, all from templates of its own, and writes them as JSON-lines.

    python benchmarks/prompt_sets.py OUT [--seed 0]

    rewrite-train.jsonl, rewrite-test.jsonl    a text and its rewritten form -> the instruction that was followed
    words-train.jsonl, words-test.jsonl        arithmetic word problems -> a worked answer that ends in #### NUMBER
    code-train.jsonl, code-test.jsonl          what a function should do -> the function; with tests
    choices-test.jsonl                         the same word problems, with four numbers to choose from

No text and no problem is in a training set and in a test set, whatever the seed: a digest decides on which side it is
(`is_tested`). Test items of the rewrites word each instruction otherwise, too; the words of their texts are those of
the training items. Every function has several tests, which no constant and no argument handed back passes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

Rng = np.random.Generator
Line = dict[str, Any]
T = TypeVar("T")

NAMES = ["Ada", "Ben", "Chloe", "Dmitri", "Elif", "Femi", "Greta", "Hiro", "Ines", "Jonas"]
THINGS = ["apples", "stamps", "marbles", "pencils", "shells", "books", "coins", "cards"]
SUBJECTS = ["the baker", "my neighbour", "an old sailor", "the teacher", "a young painter", "the gardener"]
VERBS = ["found a key", "lost the map", "opened the window", "planted a tree", "read the letter", "fixed the clock"]
PLACES = ["in the market", "behind the house", "near the river", "on the hill", "at the station", "by the lake"]
TIMES = ["in the morning", "late at night", "last summer", "before lunch", "after the storm", "on Sunday"]


def pick(rng: Rng, values: list[str]) -> str:
    return values[int(rng.integers(len(values)))]


def is_tested(text: str) -> bool:
    """Whether a text is for test sets, as a quarter of all are, or else for training sets.

    The digest is not that by which `--hold-out` chooses, else it would hold out none of what is left.
    """
    return hashlib.sha256(f"tested? {text}".encode()).digest()[0] < 64


def apart(draw: Callable[[], tuple[str, T]], n: int, test: bool) -> Iterator[tuple[str, T]]:
    """`n` different texts of one side, each with what is drawn with it."""
    seen: set[str] = set()
    while len(seen) < n:
        text, more = draw()
        if is_tested(text) is test and text not in seen:
            seen.add(text)
            yield text, more


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
    for number, (text, _) in enumerate(apart(lambda: (sentence(rng), None), n, test)):
        kind = list(REWRITES)[number % len(REWRITES)]
        change, seen, unseen = REWRITES[kind]
        asked = f"Original text:\n{text}\n\nRewritten text:\n{change(text)}\n\nWhat was the instruction?"
        yield {"id": f"{kind}-{number}", "prompt": asked, "completion": unseen if test else pick(rng, seen)}


def word_problem(rng: Rng) -> tuple[str, tuple[str, int]]:
    """A question with its worked answer and its number."""
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
    question, worked, result = kinds[int(rng.integers(len(kinds)))]()
    return question, (worked, result)


def word_problems(rng: Rng, n: int, test: bool) -> Iterator[Line]:
    for number, (question, (worked, result)) in enumerate(apart(lambda: word_problem(rng), n, test)):
        yield {"id": f"words-{number}", "prompt": question, "completion": f"{worked}\n#### {result}"}


def choices(rng: Rng, n: int) -> Iterator[Line]:
    for number, (question, (_, result)) in enumerate(apart(lambda: word_problem(rng), n, test=True)):
        others = [str(result + d) for d in rng.choice([-10, -3, -2, -1, 1, 2, 3, 10], 3, replace=False).tolist()]
        shown = [str(each) for each in rng.permutation([str(result), *others])]
        yield {"id": f"choice-{number}", "prompt": question, "completion": str(result), "choices": shown}


LISTS = ("[5, 6, 7]", "[3, 1, 2]", "[4, 4, 9, 1]")
REPEATED = ("[2, 1, 2]", "[3, 1, 3, 2]", "[]")
FUNCTIONS: list[tuple[str, str, str, tuple[str, ...]]] = [
    ("returns the sum of a and b", "a, b", "a + b", ("2, 3", "-4, 9", "10, 0")),
    ("returns the product of a and b", "a, b", "a * b", ("4, 5", "-2, 7", "3, 0")),
    ("returns the larger of a and b", "a, b", "max(a, b)", ("4, 9", "9, 4", "-3, -8")),
    ("returns the smaller of a and b", "a, b", "min(a, b)", ("4, 9", "9, 4", "-3, -8")),
    ("returns the square of n", "n", "n * n", ("7", "-3", "0")),
    ("returns n doubled", "n", "2 * n", ("8", "-3", "0")),
    ("returns whether n is even", "n", "n % 2 == 0", ("6", "7", "0", "-3")),
    ("returns whether n is odd", "n", "n % 2 == 1", ("6", "7", "0", "-3")),
    ("returns the length of the text s", "s", "len(s)", ("'hello'", "''", "'a bc'")),
    ("returns the text s reversed", "s", "s[::-1]", ("'hello'", "''", "'a bc'")),
    ("returns the text s in upper case", "s", "s.upper()", ("'Hello'", "'a Bc'", "'XY'")),
    ("returns the text s in lower case", "s", "s.lower()", ("'Hello'", "'a Bc'", "'xy'")),
    ("returns the first item of the list xs", "xs", "xs[0]", LISTS),
    ("returns the last item of the list xs", "xs", "xs[-1]", LISTS),
    ("returns the sum of the list xs", "xs", "sum(xs)", LISTS),
    ("returns the list xs sorted", "xs", "sorted(xs)", LISTS),
    ("returns the list xs reversed", "xs", "xs[::-1]", LISTS),
    ("returns how many items the list xs has", "xs", "len(xs)", (*LISTS, "[]")),
    ("returns the largest item of the list xs", "xs", "max(xs)", LISTS),
    ("returns the mean of the list xs", "xs", "sum(xs) / len(xs)", LISTS),
    ("returns whether x is in the list xs", "x, xs", "x in xs", ("2, [3, 1, 2]", "2, [2, 1, 2]", "5, [3, 1, 2]")),
    ("returns how often x is in the list xs", "x, xs", "xs.count(x)", ("2, [2, 1, 2]", "5, [2, 1, 2]", "1, [2, 1, 2]")),
    ("returns the absolute value of n", "n", "abs(n)", ("-4", "3", "0")),
    ("returns the words of the text s as a list", "s", "s.split()", ("'a bc d'", "'hello'", "''")),
    ("returns how many words the text s has", "s", "len(s.split())", ("'a bc d'", "'hello'", "''")),
    ("returns whether the text s reads the same backwards", "s", "s == s[::-1]", ("'anna'", "'hello'", "'level'")),
    ("returns the texts of the list xs joined by commas", "xs", "','.join(xs)", ("['a', 'b']", "['x']", "[]")),
    ("returns the list xs without its duplicates, in order", "xs", "list(dict.fromkeys(xs))", REPEATED),
    ("returns the even numbers of the list xs", "xs", "[x for x in xs if x % 2 == 0]", LISTS),
    ("returns the squares of the list xs", "xs", "[x * x for x in xs]", ("[1, 2, 4]", "[-3, 5]", "[]")),
    ("returns the sum of the digits of n", "n", "sum(int(d) for d in str(n))", ("352", "7", "90")),
    ("returns the numbers from 1 to n as a list", "n", "list(range(1, n + 1))", ("4", "1", "0")),
]
"""(what it does, its arguments, its body, the arguments of each test)"""


def functions(part: int) -> Iterator[Line]:
    """Every second function, from `part` on; each is asked for several results."""
    for number, (what, given, body, cases) in list(enumerate(FUNCTIONS))[part::2]:
        code = f"def f({given}):\n    return {body}\n"
        results = [eval(f"(lambda {given}: {body})({arguments})") for arguments in cases]
        yield {
            "id": f"code-{number}",
            "prompt": f"Write a Python function f({given}) that {what}. Answer with the code alone.",
            "completion": f"```python\n{code}```",
            "tests": "\n".join(f"assert f({case}) == {found!r}" for case, found in zip(cases, results, strict=True)),
        }


def write(path: Path, lines: Iterator[Line]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def write_sets(out: Path, seed: int = 0) -> None:
    """All of them, into one folder."""
    train, test = np.random.default_rng([seed, 0]), np.random.default_rng([seed, 1])
    out.mkdir(parents=True, exist_ok=True)
    write(out / "rewrite-train.jsonl", rewrites(train, 60, test=False))
    write(out / "rewrite-test.jsonl", rewrites(test, 20, test=True))
    write(out / "words-train.jsonl", word_problems(train, 100, test=False))
    write(out / "words-test.jsonl", word_problems(test, 40, test=True))
    write(out / "choices-test.jsonl", choices(test, 40))
    write(out / "code-train.jsonl", functions(0))
    write(out / "code-test.jsonl", functions(1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    write_sets(given.out, given.seed)


if __name__ == "__main__":
    main()
