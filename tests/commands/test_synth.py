"""`arc-kaggle synth`: files that the trainer reads, the same for the same seed, and a picture to look at."""

from __future__ import annotations

from pathlib import Path

import pytest

from arc_kaggle.cli import main
from arc_kaggle.commands import synth as rulebook
from arc_kaggle.commands.synth import SynthConfig, synth
from arc_kaggle.errors import ConfigError
from arc_kaggle.tasks.dataset import load_rules, load_tasks
from arc_kaggle.tasks.grid import same_grid

FEW = {"n_rules": 6, "n_pairs": 3, "against": ()}


@pytest.mark.parametrize("name", ["rules.jsonl", "rules.jsonl.xz"])
def test_a_pair_file_is_read_back(tmp_path: Path, name: str) -> None:
    written = synth(SynthConfig(tmp_path / "below" / name, **FEW))
    rules = list(load_rules(written.path))
    assert [len(pairs) for _, pairs in rules] == [3] * 6
    assert len({rule for rule, _ in rules}) == 6
    assert (written.n_rules, written.n_pairs, written.chains.total()) == (6, 18, 6)
    assert [path.name for path in (tmp_path / "below").iterdir()] == [name]


def test_kaggles_format_holds_the_same_pairs(tmp_path: Path) -> None:
    synth(SynthConfig(tmp_path / "rules.jsonl", **FEW))
    synth(SynthConfig(tmp_path / "rules.json", **FEW))
    tasks = load_tasks(tmp_path / "rules.json")
    for (rule, pairs), task in zip(load_rules(tmp_path / "rules.jsonl"), tasks, strict=True):
        assert task.id == rule
        assert (len(task.train), len(task.test)) == (2, 1)
        for one, two in zip(pairs, (*task.train, *task.test), strict=True):
            assert one.output is not None and two.output is not None
            assert same_grid(one.input, two.input) and same_grid(one.output, two.output)


def test_equal_seeds_write_equal_files_and_more_rules_go_on_from_them(tmp_path: Path) -> None:
    sizes = {"a": (6, 0), "b": (6, 0), "more": (9, 0), "other": (6, 1)}
    for name, (n_rules, seed) in sizes.items():
        synth(SynthConfig(tmp_path / f"{name}.jsonl", n_rules, n_pairs=3, seed=seed, against=()))
    a, b, more, other = ((tmp_path / f"{name}.jsonl").read_text() for name in sizes)
    assert a == b
    assert more.startswith(a) and len(more) > len(a)
    assert not set(other.splitlines()) & set(a.splitlines())


def test_families_and_chains_are_taken_in_turn(tmp_path: Path) -> None:
    chosen = ("gravity", "crop_largest+upscale")
    written = synth(SynthConfig(tmp_path / "rules.jsonl", families=chosen, **FEW))
    assert written.chains == {("gravity",): 3, ("crop_largest", "upscale"): 3}
    assert "3 families, 1 of them alone and 1 chains" in written.text


def test_pairs_of_an_evaluation_set_are_left_out(tmp_path: Path) -> None:
    synth(SynthConfig(tmp_path / "known.json", **FEW))
    written = synth(SynthConfig(tmp_path / "rules.jsonl", **{**FEW, "against": (str(tmp_path / "known.json"),)}))
    assert written.refused["a pair is in an evaluation set"] == 6
    assert not {rule for rule, _ in load_rules(written.path)} & {t.id for t in load_tasks(tmp_path / "known.json")}
    assert "\n        6 a pair is in an evaluation set\n" in f"{written.text}\n"


def test_rules_that_their_verifiers_reject_are_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verdicts = iter([True, False, False, *[True] * 6])
    monkeypatch.setattr(rulebook, "is_verified", lambda rule: next(verdicts))
    written = synth(SynthConfig(tmp_path / "rules.jsonl", **FEW))
    assert written.refused["the verifier finds another output"] == 2
    assert len(list(load_rules(written.path))) == 6


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_the_sheet_shows_the_first_rules(tmp_path: Path, suffix: str) -> None:
    sheet = tmp_path / f"sheet{suffix}"
    synth(SynthConfig(tmp_path / "rules.jsonl", sheet=sheet, sheet_rules=4, **FEW))
    if suffix == ".png":
        assert sheet.read_bytes().startswith(b"\x89PNG")
    else:
        text = sheet.read_text()
        names = [rule.split("/")[1].split("+")[0] for rule, _ in load_rules(tmp_path / "rules.jsonl")]
        assert "the first 4 of 6 rules" in text
        assert all(f">{name}" in text for name in names[:4])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_rules": 0}, "option n_rules: found 0, expected 1 or more"),
        ({"n_pairs": 1}, "option n_pairs: found 1, expected 2 or more"),
        ({"seed": -1}, "option seed: found -1, expected 0 or more"),
        ({"difficulty": 1.5}, r"option difficulty: found 1\.5, expected a share, 0\.\.1"),
        ({"families": ("gravty",)}, r"no family 'gravty' \(did you mean 'gravity'\?\); expected one of flip, turn"),
        ({"families": ("flip+zzz",)}, "no family 'zzz'; expected one of"),
        (
            {"out": Path("rules.txt")},
            r"option out: found 'rules\.txt', expected a name that ends in \.jsonl,",
        ),
    ],
)
def test_options_that_make_no_sense_are_errors(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SynthConfig(**{"out": Path("rules.jsonl"), **options})


def test_what_cannot_be_written_is_an_error_and_leaves_the_old_file(tmp_path: Path) -> None:
    old = tmp_path / "rules.jsonl"
    old.write_text("old")
    with pytest.raises(ConfigError, match=r"found suffix '\.gif'"):
        synth(SynthConfig(tmp_path / "other.jsonl", sheet=tmp_path / "sheet.gif", **FEW))
    with pytest.raises(ConfigError, match="200 in a row were refused"):
        synth(SynthConfig(old, n_pairs=500, difficulty=0.0, families=("stairs",), against=()))
    assert old.read_text() == "old"
    with pytest.raises(ConfigError, match=r"rules\.jsonl/below\.jsonl: cannot be written to"):
        synth(SynthConfig(old / "below.jsonl", **FEW))


def test_the_command_says_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "rules.jsonl"
    assert main(["synth", "--out", str(out), "--n-rules", "3", "--against", "--difficulty", "0"]) == 0
    printed, told = capsys.readouterr()
    assert "3/3" in told and "\r" not in told
    assert printed.startswith(f"{out}: 3 rules, 15 pairs, all verified; 3 families, 3 of them alone and 0 chains\n")
    assert main(["synth", "--out", str(tmp_path / "rules.txt")]) == 2
