"""Command `symbols`: it finds characters that are one token each, and checks ten of them for use as colours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import tyro

from arc_kaggle.config.options import Natural, Seed, check_ranges
from arc_kaggle.text.encoders import ARC24_SYMBOLS
from arc_kaggle.text.token_symbols import (
    N_SHOWN,
    Closure,
    SetVerdict,
    Symbol,
    _encoders,
    _longest_digit_run,
    _texts,
    _tokens_per_cell,
    check_set,
    find_candidates,
    load_vocabularies,
    one_token,
    parse_set,
    propose_set,
    split_symbol,
)


@dataclass(frozen=True, slots=True)
class SymbolsConfig:
    """List the characters that are one token in every given tokenizer, and check a set of ten for use as colours."""

    tokenizer: tyro.conf.UseAppendAction[tuple[Path, ...]]
    """A model folder or a tokenizer.json file; give the option again for each further one."""
    check: str = " ".join(ARC24_SYMBOLS)
    """Ten characters to check, with spaces between them."""
    limit: Natural = 20
    """Most candidates to list; isolated ones come first."""
    seed: Seed = 0
    """Seed of the random texts that are encoded."""

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True, slots=True)
class SymbolsReport:
    """All verdicts; tuples run over the tokenizers in the order given."""

    tokenizers: tuple[str, ...]
    candidates: tuple[Symbol, ...]
    limit: int
    members: str
    """The ten characters that were to be checked."""
    split: tuple[str, ...]
    """Of each of them that is not one token everywhere: where, and what was found."""
    checked: SetVerdict | None
    """None where some of them are not one token."""
    proposed: SetVerdict | None
    """A set that is closed in every tokenizer; None where there are no ten such characters."""
    longest_digit_runs: tuple[int, ...]
    """Most digits of a row that became one token; over 1, digits merge."""
    tokens_per_cell: dict[str, tuple[int | None, ...]]
    """By encoder spec: the tokens of every cell; None where cells differ or merge with what stands beside them."""

    @property
    def text(self) -> str:
        return format_report(self)


def run(config: SymbolsConfig) -> int:
    """Print the candidates and the verdicts."""
    print(symbols(config).text)
    return 0


def symbols(config: SymbolsConfig) -> SymbolsReport:
    """Work out every verdict. Raises ConfigError for paths and sets, PromptError for a closed vocabulary."""
    members, vocabularies = parse_set(config.check), load_vocabularies(config.tokenizer)
    split = tuple(fault for member in members if (fault := split_symbol(member, vocabularies)))
    candidates = find_candidates(vocabularies)
    verdict = partial(check_set, vocabularies=vocabularies, seed=config.seed)
    proposed = propose_set(candidates, vocabularies)
    runs = tuple(_longest_digit_run(vocabulary, config.seed) for vocabulary in vocabularies)
    encoders = list(_encoders(max(runs), [members] + ([_texts(proposed)] if proposed else [])))
    return SymbolsReport(
        tokenizers=tuple(vocabulary.name for vocabulary in vocabularies),
        candidates=candidates,
        limit=config.limit,
        members=members,
        split=split,
        checked=None if split else verdict(tuple(one_token(member, vocabularies) for member in members)),
        proposed=verdict(proposed) if proposed else None,
        longest_digit_runs=runs,
        tokens_per_cell={e.spec: tuple(_tokens_per_cell(e, v, config.seed) for v in vocabularies) for e in encoders},
    )


def format_report(report: SymbolsReport) -> str:
    """The report for a terminal."""
    n_isolated = sum(all(symbol.isolated) for symbol in report.candidates)
    listed = report.candidates[: report.limit]
    lines = [f"{len(report.candidates)} characters are one token in {' and '.join(report.tokenizers)};"]
    lines[0] += f" {n_isolated} are isolated (part of no other token). The first {len(listed)}:"
    lines += [*_symbol_lines(listed, report.tokenizers), ""]
    if report.checked:
        lines += [*_set_lines("Checked", report.checked, report.tokenizers), ""]
    else:
        lines += [f"Checked set {' '.join(report.members)}: no symbols for this tokenizer"]
        lines += [*(f"  {fault}" for fault in report.split), ""]
    if report.proposed:
        lines += [*_set_lines("Proposed", report.proposed, report.tokenizers), ""]
    else:
        lines += ["Proposed set: found no ten characters that are closed in every tokenizer", ""]
    return "\n".join([*lines, *_digit_lines(report)])


def _symbol_lines(listed: Iterable[Symbol], tokenizers: tuple[str, ...]) -> Iterator[str]:
    yield "  ".join(["  code  ", *(f"{'id ' + name:>12}  {'other tokens':>12}" for name in tokenizers), "symbol"])
    for symbol in listed:
        cells = zip(symbol.ids, symbol.n_containing, strict=True)
        columns = [f"{i:>12}  {n or 'isolated':>12}" for i, n in cells]
        yield "  ".join([f"  U+{ord(symbol.text):04X}", *columns, symbol.text])


def _set_lines(title: str, verdict: SetVerdict, tokenizers: tuple[str, ...]) -> Iterator[str]:
    yield f"{title} set {' '.join(_texts(verdict.symbols))}"
    yield from _symbol_lines(verdict.symbols, tokenizers)
    for k, (name, closure) in enumerate(zip(tokenizers, verdict.closures, strict=True)):
        isolated = " ".join(symbol.text for symbol in verdict.symbols if symbol.isolated[k])
        yield f"  {name}: isolated {isolated or 'none'}; {_closure_text(closure)}"


def _closure_text(closure: Closure) -> str:
    if closure.closed:
        return f"closed (no culprit in the vocabulary, {closure.n_texts} texts encoded)"
    tokens = " ".join(token for token, _ in closure.culprits[:N_SHOWN])
    texts = " ".join(repr(text[:N_SHOWN]) for text in closure.broken[:N_SHOWN])
    seen = f"{closure.n_broken} of {closure.n_texts} texts broken" + (f": those with {texts}" if texts else "")
    return f"NOT closed: merges with {', '.join(closure.merges_with)} by tokens {tokens or '(none found)'}; {seen}"


def _digit_lines(report: SymbolsReport) -> Iterator[str]:
    for k, (name, run) in enumerate(zip(report.tokenizers, report.longest_digit_runs, strict=True)):
        good = [spec for spec, counts in report.tokens_per_cell.items() if counts[k] and not spec.startswith("rows")]
        state = (
            f"digits merge, up to {run} in a token; fixed by"
            if run > 1
            else "digits do not merge; cells are constant with"
        )
        yield f"{name}: {state} {', '.join(good) or 'no encoder'}"
    yield "Tokens of every cell (- where cells differ or merge with what stands beside them):"
    yield "  ".join([f"  {'encoder':<36}", *(f"{name:>10}" for name in report.tokenizers)])
    for spec, counts in report.tokens_per_cell.items():
        yield "  ".join([f"  {spec:<36}", *(f"{count or '-':>10}" for count in counts)])
