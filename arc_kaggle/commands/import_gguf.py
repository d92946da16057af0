"""Command `import-gguf`: it makes a Hugging Face model folder of a GGUF file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from arc_kaggle.errors import ConfigError
from arc_kaggle.system.paths import written_folder
from arc_kaggle.system.steps import Steps


@dataclass(frozen=True, slots=True)
class ImportGgufConfig:
    """Make a model folder (bf16 safetensors, tokenizer, chat template, card) of a GGUF file that transformers reads."""

    file: Positional[Path]
    """The GGUF file."""
    out: Path
    """Folder to write."""
    source: str = ""
    """Where the file came from, for the card; what the file says of itself where empty."""
    license: str = ""
    """Its licence, such as apache-2.0, for the card; what the file says of itself where empty."""
    prompt: str = "auto"
    """Prompt preset that the card names, as for `solve`; auto is chat where there is a chat template, else plain."""
    encoder: str = ""
    """How grids are written, as for `solve`; the preset's own where empty."""
    overwrite: bool = False
    """Replace the folder where there is one."""


def run(config: ImportGgufConfig) -> int:
    """Write the model folder, and say what it is."""
    steps = Steps("import-gguf")
    steps(f"reading {config.file} and writing {config.out}")
    said = import_gguf(config)
    steps.done()
    print(said)
    return 0


def import_gguf(config: ImportGgufConfig) -> str:
    """Write the folder, as a whole or not at all; returns a line about it.

    Raises ConfigError for paths, ModelError for a file that cannot be read, PromptError for a preset that does not fit.
    """
    from arc_kaggle.models.gguf import read_gguf, write_model

    if not config.file.is_file():
        raise ConfigError(f"file {config.file}: found no such file, expected a GGUF file")
    with written_folder(config.out, "config.json", config.overwrite) as folder:
        file = read_gguf(config.file, config.source, config.license)
        card = write_model(file, folder, config.prompt, config.encoder)
    return f"{config.out}: {config.file.stem}, {card.facts['parameters']:,} parameters in bf16, licence {file.license}"
