"""Options of `evaluate`: which checkpoints to judge on which tasks, under which recipes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from arc_kaggle.config.model import BOX_FOLDER, BY_RECIPE, EngineOptions, card_folder, recipe_of
from arc_kaggle.config.options import Count, Minutes, check_ranges
from arc_kaggle.config.tune import TuneConfig
from arc_kaggle.errors import ConfigError


@dataclass(frozen=True, slots=True)
class EvaluateConfig(EngineOptions):
    """Judge checkpoints on tasks with known answers. Started again with the same --out, it goes on where it was."""

    checkpoints: Positional[tuple[Path, ...]] = ()
    """Folders of models or LoRA adapters, or folders with such below them; the model that ships where none is given."""
    tasks: str = "arc1:evaluation"
    """Tasks, as for `solve`; their answers must be known."""
    out: Path = Path("out/evaluate")
    """Folder for evaluation.json, curves.png, log.txt, and a run of `solve` for every checkpoint, recipe and part."""
    select: str = ""
    """Which of the tasks, as for `solve`."""
    recipes: tuple[str, ...] = ("none", "auto")
    """Test-time fine-tuning by name, each as `solve --recipe`: none for no fine-tuning, auto for what the model's card
    names."""
    tune: TuneConfig = BY_RECIPE
    """Fine-tuning under the recipe that is not `none`, where it is another than that recipe's own, as for `solve`."""
    adapter: Path | None = None
    """LoRA adapter to judge on the one model that is named, as for `solve`."""
    base: Path | None = None
    """Model folder that the adapters belong to; the one that their own configs name where it is not given."""
    compare: tuple[Path, ...] = ()
    """Two or more evaluation.json to compare, the earlier first; nothing is solved then."""
    part_size: Count = 20
    """Tasks in a part, in the order of the set. A part that was interrupted is done again from its beginning."""
    time_limit_minutes: Minutes = 60.0 * 24 * 7
    """Minutes after which no further part begins."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.adapter and (self.base or len(self.checkpoints) > 1):
            raise ConfigError(f"option adapter: found {len(self.checkpoints)} models, expected the one that it is on")
        if not self.recipes:
            raise ConfigError("option recipes: found none, expected one or more, such as none box")
        if self.compare and (self.checkpoints or len(self.compare) < 2):
            raise ConfigError(
                f"option compare: found {len(self.compare)} files and {len(self.checkpoints)} checkpoints, expected "
                "two files or more, and no checkpoint"
            )

    @property
    def known_tune(self) -> TuneConfig:
        """The fine-tuning that options of --tune start from: that of the first recipe of the first model."""
        recipe = next((name for name in self.recipes if name != "none"), "none")
        return recipe_of(card_folder((self.checkpoints or (BOX_FOLDER,))[0], self.adapter), recipe)

    @property
    def given_tune(self) -> TuneConfig:
        """The fine-tuning that options give in place of a recipe's own. Raises ConfigError for several recipes."""
        if self.tune in (BY_RECIPE, self.known_tune):
            return BY_RECIPE
        if len(tuned := [name for name in self.recipes if name != "none"]) > 1:
            raise ConfigError(f"option tune: found it with the recipes {', '.join(tuned)}, expected one beside none")
        return self.tune
