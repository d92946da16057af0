"""Verdicts on real tokenizers, and on small byte-level BPE tokenizers trained here that hold every case."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from arc_kaggle.commands.symbols import SymbolsConfig, SymbolsReport, symbols
from arc_kaggle.config.model import BOX_FOLDER
from arc_kaggle.errors import ConfigError, PromptError
from arc_kaggle.text.token_symbols import Closure, check_set, load_vocabularies, one_token, parse_set

LETTERS = "a b c d e f g h i j"
WITH_N_TILDE = "ñ b c d e f g h i j"
# As in Qwen and Llama, with the length of a run of digits left open.
PATTERN = r"[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Train a byte-level BPE tokenizer on a corpus; returns its folder."""

    def train(*corpus: str, name: str = "small", digits: str = "", n_merges: int = 40, seen: str = "") -> Path:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.normalizer = normalizers.NFC()
        split = pre_tokenizers.Split(Regex(PATTERN.format(digits=digits)), "isolated")
        bytes_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, bytes_level])
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=256 + n_merges, initial_alphabet=alphabet, show_progress=False)
        tokenizer.train_from_iterator(corpus, trainer)
        if seen:
            tokenizer.add_tokens([seen])
        folder = tmp_path / name
        folder.mkdir()
        tokenizer.save(str(folder / "tokenizer.json"))
        return folder

    return train


def report_of(*folders: Path, check: str = LETTERS) -> SymbolsReport:
    return symbols(SymbolsConfig(tokenizer=folders, check=check))


def closure_of(folder: Path, check: str = LETTERS) -> Closure:
    vocabulary = load_vocabularies([folder])[0]
    members = tuple(one_token(member, [vocabulary]) for member in parse_set(check))
    return check_set(members, (vocabulary,)).closures[0]


# Small tokenizers


def test_a_set_that_nothing_merges_is_closed_and_isolated(make: Make) -> None:
    report = report_of(make("xyz " * 9))
    assert report.checked.closures[0].closed and report.checked.closures[0].merges_with == ()
    assert all(symbol.isolated == (True,) for symbol in report.checked.symbols)
    assert "small: isolated a b c d e f g h i j; closed" in report.text


def test_part_of_another_token_is_not_isolated_and_yet_closed(make: Make) -> None:
    report = report_of(make("xax " * 9))
    assert [symbol.text for symbol in report.checked.symbols if not symbol.isolated[0]] == ["a"]
    assert report.checked.symbols[0].n_containing[0] >= 1
    assert report.checked.closures[0].closed


def test_two_members_in_a_token_are_not_closed(make: Make) -> None:
    closure = closure_of(make("ab " * 9, n_merges=1))
    assert closure.culprits == (("ab", ""),)
    assert closure.broken == ("ab",)
    assert closure.merges_with == ("each other",)


def test_a_member_and_a_newline_in_a_token_are_not_closed(make: Make) -> None:
    closure = closure_of(make(";\n;\n;\n", n_merges=1), check="; b c d e f g h i j")
    assert closure.culprits == ((";Ċ", "\n"),)
    assert closure.broken == (";\n",)
    assert closure.merges_with == ("newline",)


def test_a_space_that_takes_the_first_byte_of_a_member_is_not_closed(make: Make) -> None:
    """The case that decoded text hides: no token shows both the space and the member."""
    folder = make(*["à á â ã ä è é ê"] * 50, *["ñ"] * 120, n_merges=2)
    vocabulary = load_vocabularies([folder])[0]
    assert not [text for text in vocabulary.texts.values() if "ñ" in text and text != "ñ"]
    report = report_of(folder, check=WITH_N_TILDE)
    assert report.checked.symbols[0].isolated == (True,)
    assert report.checked.closures[0].culprits == (("ĠÃ", " "),)
    assert report.checked.closures[0].broken == (" ñ",)
    assert report.checked.closures[0].merges_with == ("space",)
    assert "NOT closed: merges with space by tokens ĠÃ;" in report.text


def test_the_same_token_is_harmless_when_the_member_is_merged_first(make: Make) -> None:
    folder = make(*["à á â ã ä è é ê"] * 50, *["ñ"] * 600, n_merges=2)
    vocabulary = load_vocabularies([folder])[0]
    assert "ĠÃ" in vocabulary.spellings.values()
    assert vocabulary.merges[("Ã", "±")] < vocabulary.merges[("Ġ", "Ã")]
    assert closure_of(folder, check=WITH_N_TILDE).closed


def test_an_added_token_counts(make: Make) -> None:
    closure = closure_of(make("xyz", seen="a 1"))
    assert closure.culprits == (("a 1", " 1"),)
    assert closure.merges_with == ("space", "digits")


def random_corpus(rng: np.random.Generator, mixed: bool) -> list[str]:
    """Each member alone, more or less often, among texts that put a space before bytes that members begin with."""
    alone = [member for member in "ñòąć" for _ in range(int(rng.integers(100, 900)))]
    spaced = [" ".join(rng.choice(list("àáâãäèéĉċčđĕ"), size=8)) for _ in range(60)]
    return alone + spaced + ["".join(rng.choice(list("ñòąć \n01;"), size=12)) for _ in range(60 * mixed)]


def test_closed_is_never_contradicted_by_other_random_texts(make: Make) -> None:
    """The proof, against texts that the command does not encode, on tokenizers with random merges."""
    check, verdicts = "ñòąć;uvwxy", []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        folder = make(*random_corpus(rng, mixed=seed % 4 == 0), name=f"random{seed}", n_merges=6)
        vocabulary = load_vocabularies([folder])[0]
        own = {member: vocabulary.encode(member)[0] for member in check}
        verdict = check_set(tuple(one_token(member, [vocabulary]) for member in check), (vocabulary,)).closures[0]
        verdicts.append(verdict.closed)
        assert verdict.closed or verdict.culprits, "real texts found what the proof did not"
        texts = ["".join(rng.choice(list("ñòąć; \n019"), size=length)) for length in (4, 5, 8, 60) * 50]
        for text, ids in zip(texts, vocabulary.encode_all(texts), strict=True):
            kept = [i for i in ids if i in own.values()] == [own[c] for c in text if c in own]
            assert kept or not verdict.closed, (seed, text)
    assert set(verdicts) == {True, False}


def test_digits_that_do_not_merge(make: Make) -> None:
    report = report_of(make("10 20 100 000 999"))
    assert report.longest_digit_runs == (1,)
    assert report.tokens_per_cell["minimal"] == report.tokens_per_cell["rows+minimal"] == (1,)
    assert "small: digits do not merge" in report.text


def test_digits_that_merge_and_the_encoders_that_fix_it(make: Make) -> None:
    runs = [f"{number:03}" for number in range(1000)]
    report = report_of(make(*runs, digits="{1,3}", n_merges=1100))
    assert report.longest_digit_runs == (3,)
    counts = report.tokens_per_cell
    assert counts["minimal"] == counts["rows+minimal"] == (None,)
    assert counts["repeat(3)"] == counts["separated('|')"] == counts["replace('abcdefghij')+minimal"] == (1,)
    assert "small: digits merge, up to 3 in a token; fixed by separated('|'), repeat(3)" in report.text


def test_repetition_is_no_fix_where_runs_are_merged_without_a_limit(make: Make) -> None:
    report = report_of(make(*["00", "0000", "000000"] * 9, digits="+", n_merges=6))
    assert report.longest_digit_runs[0] > 1
    assert {count for spec, count in report.tokens_per_cell.items() if "repeat" in spec} <= {(None,)}


def test_candidates_are_common_to_all_tokenizers(make: Make) -> None:
    spanish, polish = make("ññññ òòòò", name="spanish"), make("ąąąą òòòò", name="polish")
    report = report_of(spanish, polish)
    found = {symbol.text for symbol in report.candidates}
    assert report.tokenizers == ("spanish", "polish")
    assert "ò" in found and not found & {"ñ", "ą", "5", " ", "\n", "`", "\ufffd"}
    assert all(len(symbol.ids) == len(symbol.n_containing) == 2 for symbol in report.candidates)


def test_the_isolated_come_first_and_the_limit_cuts_the_list(make: Make) -> None:
    folder = make("!! !! !! !!")
    report = symbols(SymbolsConfig(tokenizer=(folder,), check=LETTERS, limit=3))
    assert [symbol.text for symbol in report.candidates[:3]] == ['"', "#", "$"]
    assert report.candidates[-1].text == "!"
    assert "The first 3:" in report.text


def test_the_proposed_set_is_closed(make: Make) -> None:
    report = report_of(make("!! ab ab #$ #$ %&"))
    assert report.proposed is not None
    assert len(report.proposed.symbols) == 10 and report.proposed.closures[0].closed


def test_no_set_is_proposed_where_everything_merges(make: Make) -> None:
    visible = [chr(code) for code in range(33, 127)]
    tokenizer_folder = make("x")
    tokenizer = Tokenizer.from_file(str(tokenizer_folder / "tokenizer.json"))
    tokenizer.add_tokens([f"{character}\n" for character in visible])
    tokenizer.save(str(tokenizer_folder / "tokenizer.json"))
    report = report_of(tokenizer_folder)
    assert report.proposed is None
    assert "found no ten characters that are closed in every tokenizer" in report.text


def test_equal_names_are_told_apart_and_a_file_is_as_good_as_its_folder(make: Make) -> None:
    folder = make("xyz")
    report = report_of(folder, folder / "tokenizer.json")
    assert report.tokenizers == (str(folder / "tokenizer.json"),) * 2
    assert report.checked.closures[0] == report.checked.closures[1]


# Errors


def test_a_folder_without_tokenizer_json(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tokenizer.json: found no such file, expected a tokenizer.json or a folder"):
        report_of(tmp_path)


def test_a_file_that_is_no_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"expected the tokenizer\.json of a model"):
        report_of(tmp_path)


def test_no_tokenizer() -> None:
    with pytest.raises(ConfigError, match="tokenizer: found none, expected one or more"):
        report_of()


@pytest.mark.parametrize(
    ("check", "message"),
    [
        ("a a b c d e f g h i", "found 'a' 2 times, expected different symbols"),
        ("ab c d e f g h i j k", "found 'ab' of 2 characters, expected single characters"),
        ("a b c", "found 3 symbols, expected 10"),
        ("", "found 0 symbols, expected 10"),
    ],
)
def test_a_set_that_is_no_set_of_ten(check: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^check: {message}.*; give ten different characters"):
        parse_set(check)


def test_a_symbol_that_is_not_one_token_is_reported_beside_the_candidates(make: Make) -> None:
    report = report_of(make("xyz"), check=WITH_N_TILDE)
    assert report.checked is None and report.candidates
    assert "Checked set ñ b c d e f g h i j: no symbols for this tokenizer" in report.text
    assert "'ñ' in small: found 2 tokens that decode to 'ñ', expected one that decodes to it" in report.text


def test_a_closed_vocabulary_has_no_symbols() -> None:
    with pytest.raises(PromptError, match=r"^tokenizer box: WordLevel error: .*, expected one that takes any text; "):
        report_of(BOX_FOLDER)


def test_neither_torch_nor_transformers_is_imported() -> None:
    code = "import sys, arc_kaggle.text.token_symbols; sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Real tokenizers


@pytest.fixture(scope="module")
def real(real_tokenizers: Path) -> SymbolsReport:
    return symbols(SymbolsConfig(tokenizer=(real_tokenizers / "qwen2_5", real_tokenizers / "llama3_2")))


def test_real_ids_and_isolation(real: SymbolsReport) -> None:
    found = {symbol.text: symbol for symbol in real.checked.symbols}
    assert " ".join(found) == "ñ ò ÷ û ą ć ď ę Ě Ğ"
    assert [symbol.ids[0] for symbol in found.values()] == [
        *(5653, 22190, 144422, 29772, 5861),
        *(7730, 145468, 5156, 146623, 125823),
    ]
    assert [symbol.ids[1] for symbol in found.values()] == [
        *(5771, 22980, 123052, 30872, 5985),
        *(7886, 102093, 5267, 108195, 103531),
    ]
    assert [text for text, symbol in found.items() if symbol.isolated[0]] == ["÷", "ď", "Ě"]
    assert [text for text, symbol in found.items() if symbol.isolated[1]] == ["÷", "Ě"]


def test_real_ten_are_closed_but_for_a_space_before_them(real: SymbolsReport) -> None:
    for closure in real.checked.closures:
        assert not closure.closed and closure.merges_with == ("space",)
        assert sorted(closure.culprits) == [("ĠÃ", " "), ("ĠÄ", " ")]
        assert closure.broken == (" ñ", " ò", " ÷", " û", " ď", " Ě", " Ğ")


def test_real_digits_and_encoders(real: SymbolsReport) -> None:
    assert real.longest_digit_runs == (1, 3)
    counts, ten = real.tokens_per_cell, "replace('ñò÷ûąćďęĚĞ')+minimal"
    assert counts["minimal"] == counts["rows+minimal"] == (1, None)
    assert counts["repeat(3)"] == counts["rows+repeat(3)"] == (3, 1)
    assert counts["separated('|')"] == counts[ten] == (1, 1)
    assert counts[f"rows+{ten}"] == (None, None)  # the space of a row number takes a byte of the first cell


def test_real_proposal(real: SymbolsReport) -> None:
    assert len(real.candidates) > 3000
    assert real.proposed is not None and all(closure.closed for closure in real.proposed.closures)
    assert all(all(symbol.isolated) for symbol in real.proposed.symbols)
    members = "".join(symbol.text for symbol in real.proposed.symbols)
    assert real.tokens_per_cell[f"rows+replace({members!r})+minimal"] == (1, 1)
