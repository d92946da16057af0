"""The options of `arc-kaggle study`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional, UseAppendAction

from arc_kaggle.config.options import Count, Natural, Positive, check_ranges


@dataclass(frozen=True, slots=True)
class StudyConfig:
    """Answer a question about models by a grid of runs, with intervals. Started again it goes on where it was.

    For example: arc-kaggle study sweep --over tune.steps=25,50 --over tune.optim.learning-rate=1e-3,3e-3 --hours 2
    """

    name: Positional[str] = ""
    """Which study; without a name all are listed."""
    models: tuple[Path, ...] = ()
    """Folders of models or LoRA adapters, or folders with such below them; the model that ships where none is given. A
    study that trains its models itself takes none."""
    runs: tuple[Path, ...] = ()
    """Folders that `solve` wrote, whose predictions the rows are read from, for studies whose rows are parts of one run
    (predictions, selection, output-size, augmentations); nothing is run then. Runs of one model are put together."""
    base: Path | None = None
    """Model folder that the adapters belong to; the one that their own configs name where it is not given."""
    over: UseAppendAction[tuple[str, ...]] = ()
    """An option of `solve` and its values, as tune.steps=25,50; given several times, every combination is a row. These
    rows come in place of the study's own. Commas in quotes or brackets are part of a value."""
    set: UseAppendAction[tuple[str, ...]] = ()
    """An option of `solve` for all rows, as generate.n-views=8."""
    train: UseAppendAction[tuple[str, ...]] = ()
    """An option of `train` for all models that the study trains, as steps=400."""
    tasks: str = "held-out"
    """Puzzles with known answers: held-out for training rules that no training here takes (those whose digest of the
    id says so, then synthetic ones of seeds that training never draws), or tasks as for `solve`. What an evaluation
    set contains is left out."""
    n_tasks: Count = 100
    """Most puzzles."""
    longest: Count | None = None
    """Longest puzzle, in cells and row ends of its train pairs and its test input; where it is not given 1000, or what
    the models were trained for that the study trains."""
    seeds: Count = 2
    """Seeds of every row, from 0 on: of views, training examples and adapters, and of the trainings of a study."""
    hours: Positive | None = None
    """Most hours of this call. Nothing begins that would not end by then, and what all rows have is compared."""
    part_size: Count = 10
    """Puzzles in a part, which every row does before any row goes on to the next. A part that was interrupted is done
    again from its beginning. Where rows need all their puzzles in one run, that is the part."""
    out: Path | None = None
    """Folder for the runs and the tables; out/study-NAME where it is not given."""
    plan: bool = False
    """Only try every row on two puzzles and say how long the study would take."""
    query: Natural = 0
    """For the study `tokens`: the puzzle that is drawn, by its place."""
    window: Count = 128
    """For the study `tokens`: the tokens that a sliding window holds."""

    def __post_init__(self) -> None:
        check_ranges(self)

    @property
    def folder(self) -> Path:
        """Where all of it is kept."""
        return self.out or Path("out") / f"study-{self.name}"
