"""Search for symbols: characters to write the ten colours with, so that a cell is always the same single token.

Two verdicts. *Isolated*: no other token of the vocabulary, decoded, contains the character. *Closed*, of a set of ten:
in every text of its members, newline, space and the digits of row numbers, each member is exactly its own token.

Decoded text alone cannot show that a set is closed. Byte-level BPE may hold a space and the first byte of `ñ` in one
token: the vocabulary then shows no token with both, and yet ` ñ` is two tokens and neither is `ñ`. So a set is closed
when no token is a culprit, and when real texts agree:

1. A *whole* culprit is a token whose decoded text is a member and at least one more character of the alphabet.
2. A *cutting* culprit spans two characters or more, holds only some of the bytes of a member at its start or its end,
   and is made by a merge no later than the merge that completes that member on its own. BPE applies the earliest
   merge first. Take the first merge in a text that spans characters. Without (1) it holds part of a member; that
   member still has earlier merges of its own to do, unless the token is a culprit. So without culprits every member
   is complete before anything spans, and then only (1) could.
3. Normalizers, regular expressions, added tokens and whole-word look-ups stand before BPE. They see a few neighbouring
   characters, so all texts of one to three characters of the alphabet are encoded, and long random ones.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise, product
from math import inf
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from arc_kaggle.errors import ConfigError, PromptError
from arc_kaggle.tasks.grid import MAX_SIDE, N_COLOURS
from arc_kaggle.text.encoders import (
    GridEncoder,
    GridWithSeparationEncoder,
    MinimalGridEncoder,
    RepeatNumberEncoder,
    ReplaceNumberEncoder,
    RowNumberEncoder,
)
from arc_kaggle.text.tokenizer_file import open_tokenizer, tokenizer_file

DIGITS = "0123456789"
NEIGHBOURS = {"newline": "\n", "space": " ", "digits": DIGITS}
"""What stands beside cells in a grid's text."""
N_RANDOM_TEXTS = 100
N_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Symbol:
    """A character that is one token everywhere: per tokenizer, its id and how many other tokens contain it."""

    text: str
    ids: tuple[int, ...]
    n_containing: tuple[int, ...]

    @property
    def isolated(self) -> tuple[bool, ...]:
        """Per tokenizer: part of no other token."""
        return tuple(n == 0 for n in self.n_containing)


@dataclass(frozen=True, slots=True)
class Closure:
    """Whether a set is closed in one tokenizer, and what speaks against it."""

    culprits: tuple[tuple[str, str], ...]
    """Tokens that span a member and something else, as the vocabulary spells them, with their neighbours inside."""
    broken: tuple[str, ...]
    """The shortest texts in which a member is not its own token: none contains another."""
    n_broken: int
    n_texts: int

    @property
    def closed(self) -> bool:
        return not self.culprits and not self.broken

    @property
    def merges_with(self) -> tuple[str, ...]:
        """Of `each other`, `newline`, `space`, `digits`: what members can merge with."""
        inside = [set(others) for _, others in self.culprits]
        inside += [set(text) & set("".join(NEIGHBOURS.values())) for text in self.broken]
        named = [name for name, texts in NEIGHBOURS.items() if any(set(texts) & others for others in inside)]
        return (*(["each other"] if set() in inside else []), *named)


@dataclass(frozen=True, slots=True)
class SetVerdict:
    """A set of ten, and per tokenizer whether it is closed."""

    symbols: tuple[Symbol, ...]
    closures: tuple[Closure, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Vocabulary:
    """A tokenizer, opened up: its tokens as decoded text and as it spells them, and the rank of every merge."""

    name: str
    tokenizer: Tokenizer
    texts: dict[int, str]
    spellings: dict[int, str]
    merges: dict[tuple[str, str], int]
    n_containing: Counter[str]

    def encode(self, text: str) -> list[int]:
        return self.encode_all([text])[0]

    def encode_all(self, texts: list[str]) -> list[list[int]]:
        return _encode_all(self.tokenizer, texts, self.name)


def _encode_all(tokenizer: Tokenizer, texts: list[str], name: str) -> list[list[int]]:
    """Token ids of texts. Raises PromptError where a closed vocabulary cannot write them."""
    try:
        return [encoding.ids for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]
    except Exception as error:  # the library has no class for a character that a vocabulary does not have
        raise PromptError(
            f"tokenizer {name}: {error}, expected one that takes any text; a closed vocabulary has no symbols to "
            "choose from, so keep the encoder that the model was trained with"
        ) from error


def parse_set(check: str) -> str:
    """The ten characters of a set written with spaces between them. Raises ConfigError."""
    found = check.split()
    hint = "give ten different characters with spaces between them, as in --check 'ñ ò ÷ û ą ć ď ę Ě Ğ'"
    if long := next((text for text in found if len(text) != 1), None):
        raise ConfigError(f"check: found {long!r} of {len(long)} characters, expected single characters; {hint}")
    if len(found) != N_COLOURS:
        raise ConfigError(f"check: found {len(found)} symbols, expected {N_COLOURS}, one for each colour; {hint}")
    if twice := next((text for text in found if found.count(text) > 1), None):
        raise ConfigError(f"check: found {twice!r} {found.count(twice)} times, expected different symbols; {hint}")
    return "".join(found)


def load_vocabularies(paths: Iterable[Path]) -> tuple[Vocabulary, ...]:
    """Open tokenizer.json files, or those of folders. Raises ConfigError."""
    files = [tokenizer_file(path) for path in paths]
    if not files:
        raise ConfigError("tokenizer: found none, expected one or more; add --tokenizer FOLDER")
    names = [file.parent.name for file in files]
    unique = len(set(names)) == len(names) and "" not in names
    return tuple(_load(file, name if unique else str(file)) for file, name in zip(files, names, strict=True))


def _load(file: Path, name: str) -> Vocabulary:
    tokenizer = open_tokenizer(file)
    spellings = {token_id: spelling for spelling, token_id in tokenizer.get_vocab(with_added_tokens=True).items()}
    texts = _decode_each(tokenizer, sorted(spellings), name)
    containing = Counter(character for token in texts.values() for character in set(token))
    return Vocabulary(name, tokenizer, texts, spellings, _merge_ranks(file.read_text(encoding="utf-8")), containing)


def _decode_each(tokenizer: Tokenizer, ids: list[int], name: str) -> dict[int, str]:
    # Behind a digit, because some decoders drop the space of a first token.
    (before,) = _encode_all(tokenizer, ["0"], name)
    start = tokenizer.decode(before, skip_special_tokens=False)
    texts = tokenizer.decode_batch([[*before, token_id] for token_id in ids], skip_special_tokens=False)
    return {token_id: text.removeprefix(start) for token_id, text in zip(ids, texts, strict=True)}


def _merge_ranks(tokenizer_json: str) -> dict[tuple[str, str], int]:
    merges = json.loads(tokenizer_json)["model"].get("merges") or []
    pairs = (tuple(merge.split(" ") if isinstance(merge, str) else merge) for merge in merges)
    return {pair: rank for rank, pair in enumerate(pairs)}


def one_token(character: str, vocabularies: Iterable[Vocabulary]) -> Symbol:
    """A character that is one token in every vocabulary. Raises PromptError for any other."""
    if fault := split_symbol(character, vocabularies):
        raise PromptError(f"symbol {fault}; choose another symbol")
    return _symbol(character, vocabularies)


def split_symbol(character: str, vocabularies: Iterable[Vocabulary]) -> str | None:
    """Where a character is not one token of its own, as a text; None where it is one in every vocabulary."""
    for vocabulary in vocabularies:
        if not _is_own_token(ids := vocabulary.encode(character), character, vocabulary):
            decoded = vocabulary.tokenizer.decode(ids)
            return (
                f"{character!r} in {vocabulary.name}: found {len(ids)} tokens that decode to {decoded!r}, expected one "
                "that decodes to it"
            )
    return None


def _is_own_token(ids: list[int], character: str, vocabulary: Vocabulary) -> bool:
    return len(ids) == 1 and vocabulary.texts[ids[0]] == character


def _symbol(character: str, vocabularies: Iterable[Vocabulary]) -> Symbol:
    found = [(v.encode(character)[0], v.n_containing[character] - 1) for v in vocabularies]
    return Symbol(character, tuple(i for i, _ in found), tuple(n for _, n in found))


def find_candidates(vocabularies: tuple[Vocabulary, ...]) -> tuple[Symbol, ...]:
    """Visible characters, no digits, that are one token in every vocabulary; the isolated first, then by code point."""
    common = set.intersection(*(_single_characters(vocabulary) for vocabulary in vocabularies))
    found = [_symbol(character, vocabularies) for character in common]
    return tuple(sorted(found, key=lambda symbol: (-sum(symbol.isolated), symbol.text)))


def _single_characters(vocabulary: Vocabulary) -> set[str]:
    visible = sorted({text for text in vocabulary.texts.values() if len(text) == 1 and _is_visible(text)})
    encoded = zip(visible, vocabulary.encode_all(visible), strict=True)
    return {character for character, ids in encoded if _is_own_token(ids, character, vocabulary)}


def _is_visible(character: str) -> bool:
    taken = f"{DIGITS}`\ufffd"  # row numbers, fences, and what half a character decodes to
    return character.isprintable() and unicodedata.category(character)[0] not in "ZMC" and character not in taken


def check_set(members: tuple[Symbol, ...], vocabularies: tuple[Vocabulary, ...], seed: int = 0) -> SetVerdict:
    """Per vocabulary, the culprits and the texts in which a member is not its own token (see the module's text)."""
    texts = list(_cover(_texts(members), np.random.default_rng(seed)))
    broken = (list(_broken(texts, _texts(members), vocabulary)) for vocabulary in vocabularies)
    culprits = (tuple(_culprits(_texts(members), vocabulary)) for vocabulary in vocabularies)
    closures = (Closure(c, _shortest(b), len(b), len(texts)) for c, b in zip(culprits, broken, strict=True))
    return SetVerdict(members, tuple(closures))


def _shortest(texts: list[str]) -> tuple[str, ...]:
    found: list[str] = []
    for text in sorted(texts, key=len):
        found += [] if any(part in text for part in found) else [text]
    return tuple(found)


def _texts(members: Iterable[Symbol]) -> str:
    return "".join(symbol.text for symbol in members)


def _alphabet(members: str) -> str:
    return "".join(dict.fromkeys(members + "".join(NEIGHBOURS.values())))


def _cover(members: str, rng: np.random.Generator) -> Iterator[str]:
    """All texts of one to three characters of the alphabet that hold a member, and long random ones."""
    alphabet = _alphabet(members)
    for length in (1, 2, 3):
        yield from ("".join(text) for text in product(alphabet, repeat=length) if set(text) & set(members))
    for _ in range(N_RANDOM_TEXTS):
        yield "".join(rng.choice(list(alphabet), size=MAX_SIDE * MAX_SIDE))


def _broken(texts: list[str], members: str, vocabulary: Vocabulary) -> Iterator[str]:
    own = {member: vocabulary.encode(member)[0] for member in members}
    member_ids = set(own.values())
    for text, ids in zip(texts, vocabulary.encode_all(texts), strict=True):
        if [i for i in ids if i in member_ids] != [own[character] for character in text if character in own]:
            yield text


def _culprits(members: str, vocabulary: Vocabulary) -> Iterator[tuple[str, str]]:
    """(token, neighbours in it) of the tokens that can span a member and another character of the alphabet."""
    whole = re.compile(f"[{re.escape(_alphabet(members))}]{{2,}}").fullmatch
    for token_id, text in vocabulary.texts.items():
        if whole(text) and not set(text).isdisjoint(members):
            yield vocabulary.spellings[token_id], "".join(sorted(set(text) - set(members)))
    yield from _cutting(members, vocabulary)


def _cutting(members: str, vocabulary: Vocabulary) -> Iterator[tuple[str, str]]:
    spelled = {c: vocabulary.spellings[ids[0]] for c in _alphabet(members) if len(ids := vocabulary.encode(c)) == 1}
    done = {member: _completed_at(spelled[member], vocabulary.merges) for member in members}
    tails = {spelled[m][i:] for m in members for i in range(1, len(spelled[m]))}
    heads = {spelled[m][:i] for m in members for i in range(1, len(spelled[m]))}
    pattern = re.compile(f"({_any(tails)})?({_any(spelled.values())})*?({_any(heads)})?")
    for token in vocabulary.spellings.values():
        match = pattern.fullmatch(token)
        if not match or not (match[1] or match[3]) or token in (match[1], match[3]):
            continue
        cut = [m for m in members if _is_cut(spelled[m], match[1], match[3])]
        if _made_at(token, vocabulary.merges) <= max(done[m] for m in cut):
            yield token, "".join(c for c in _alphabet(members) if c not in members and spelled.get(c, "?") in token)


def _any(texts: Iterable[str]) -> str:
    return "|".join(map(re.escape, sorted(texts, key=len, reverse=True))) or r"(?!)"


def _is_cut(spelling: str, tail: str | None, head: str | None) -> bool:
    ends = tail is not None and spelling != tail and spelling.endswith(tail)
    return ends or (head is not None and spelling != head and spelling.startswith(head))


def _completed_at(spelling: str, merges: dict[tuple[str, str], int]) -> float:
    """The rank of the last merge that makes a character of its bytes; infinite where merges do not make it."""
    pieces, last = list(spelling), -1.0
    while len(pieces) > 1:
        rank, i = min((float(merges.get(pair, inf)), i) for i, pair in enumerate(pairwise(pieces)))
        pieces[i : i + 2] = [pieces[i] + pieces[i + 1]]
        last = max(last, rank)
    return last


def _made_at(token: str, merges: dict[tuple[str, str], int]) -> float:
    """The rank of the first merge that makes a token; infinite where none does, -1 where the model has no merges."""
    ranks = [merges.get((token[:i], token[i:]), inf) for i in range(1, len(token))]
    return min(ranks, default=inf) if merges else -1


def propose_set(candidates: tuple[Symbol, ...], vocabularies: tuple[Vocabulary, ...]) -> tuple[Symbol, ...] | None:
    """The first ten candidates, taken greedily, that stay closed in every vocabulary."""
    chosen: tuple[Symbol, ...] = ()
    for symbol in _unbroken_alone(candidates, vocabularies):
        wider = (*chosen, symbol)
        if not any(culprit for v in vocabularies for culprit in _culprits(_texts(wider), v)):
            chosen = wider
        if len(chosen) == N_COLOURS:
            return chosen
    return None


def _unbroken_alone(candidates: tuple[Symbol, ...], vocabularies: tuple[Vocabulary, ...]) -> list[Symbol]:
    """Those that stay their own token beside themselves and every neighbour: quick, and it spares most proofs.

    Writing from right to left is left out, for its rows would be shown in reverse.
    """
    bad = {s.text for s in candidates if unicodedata.bidirectional(s.text) in ("R", "AL", "AN")}
    texts = {s.text: [f"{a}{s.text}{b}" for a, b in product(f"{s.text}\n 0", repeat=2)] for s in candidates}
    for vocabulary in vocabularies:
        bad |= {c for c, around in texts.items() if any(_broken(around, c, vocabulary))}
    return [symbol for symbol in candidates if symbol.text not in bad]


def _longest_digit_run(vocabulary: Vocabulary, seed: int) -> int:
    rng = np.random.default_rng(seed)
    rows = ["".join(rng.choice(list(DIGITS), size=MAX_SIDE)) for _ in range(N_RANDOM_TEXTS)]
    rows += ["".join(row) for length in (2, 3) for row in product(DIGITS, repeat=length)]
    return max(len(vocabulary.texts[token_id]) for ids in vocabulary.encode_all(rows) for token_id in ids)


def _encoders(digits_in_token: int, sets: list[str]) -> Iterator[GridEncoder]:
    """The encoders to try on every tokenizer: plain, and with row numbers."""
    plain: list[GridEncoder] = [MinimalGridEncoder(), GridWithSeparationEncoder()]
    plain += [RepeatNumberEncoder(digits_in_token)] if 1 < digits_in_token < 10 else []
    plain += [ReplaceNumberEncoder(MinimalGridEncoder(), members) for members in sets]
    yield from plain
    yield from (RowNumberEncoder(encoder) for encoder in plain)


def _tokens_per_cell(encoder: GridEncoder, vocabulary: Vocabulary, seed: int) -> int | None:
    """How many tokens every cell is, if its tokens are always its own: checked on random grids of every width."""
    rng = np.random.default_rng(seed)
    one_cell = (encoder.encode(np.array([[colour]], dtype=np.int8)) for colour in range(N_COLOURS))
    cells = [text.removeprefix("1 ") for text in one_cell]
    pieces = re.compile(f"^[0-9]+ |{_any(cells)}|.", re.MULTILINE | re.DOTALL)
    for width in range(1, MAX_SIDE + 1):
        grid = rng.integers(0, N_COLOURS, size=(int(rng.integers(1, MAX_SIDE + 1)), width)).astype(np.int8)
        text = encoder.encode(grid)
        found = pieces.findall(text)
        apart = [*dict.fromkeys(found)]
        ids = dict(zip(apart, vocabulary.encode_all(apart), strict=True))
        if vocabulary.encode(text) != [token_id for piece in found for token_id in ids[piece]]:
            return None
    lengths = {len(ids) for ids in vocabulary.encode_all(cells)}
    return lengths.pop() if len(lengths) == 1 else None
