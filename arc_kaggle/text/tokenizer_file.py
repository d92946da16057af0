"""A tokenizer.json as it lies in a model folder, read without transformers."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from arc_kaggle.errors import ConfigError
from arc_kaggle.tasks.entries import read_json


class FileTokenizer:
    """A tokenizer.json, and what the tokenizer_config.json beside it says: special tokens and the longest prompt."""

    FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")

    def __init__(self, path: Path) -> None:
        self.folder = tokenizer_file(path).parent
        self.tokenizer = open_tokenizer(path)
        beside = tokenizer_file(path).with_name("tokenizer_config.json")
        config = read_json(beside) if beside.is_file() else {}
        names = ("bos_token", "eos_token", "pad_token")
        self.bos_token, self.eos_token, self.pad_token = texts = [_token_text(config.get(name)) for name in names]
        ids = [None if text is None else self.tokenizer.token_to_id(text) for text in texts]
        self.bos_token_id, self.eos_token_id, self.pad_token_id = ids
        self.model_max_length: int = config.get("model_max_length", sys.maxsize)

    @property
    def backend_tokenizer(self) -> Tokenizer:
        """Under the name that transformers has for it: many texts are tokenized by it in one call."""
        return self.tokenizer

    def save_pretrained(self, folder: Path) -> None:
        """Copy what its folder holds of a tokenizer into another one."""
        for file in (self.folder / name for name in self.FILES):
            if file.is_file() and not (folder.exists() and folder.samefile(self.folder)):
                shutil.copyfile(file, folder / file.name)

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=add_special_tokens).ids
        return ids

    def decode(self, token_ids: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(list(token_ids), skip_special_tokens=False)
        return text


def _token_text(value: Any) -> str | None:
    text = value["content"] if isinstance(value, dict) else value
    return None if text is None else str(text)


def tokenizer_file(path: Path) -> Path:
    """The tokenizer.json of a folder, or the file itself."""
    return path / "tokenizer.json" if path.is_dir() else path


def open_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a folder or a tokenizer.json, without transformers; it never cuts. Raises ConfigError."""
    file = tokenizer_file(path)
    if not file.is_file():
        raise ConfigError(f"tokenizer {file}: found no such file, expected a tokenizer.json or a folder that holds one")
    try:
        tokenizer = Tokenizer.from_str(file.read_text(encoding="utf-8"))
    except Exception as error:  # the library raises plain Exception
        raise ConfigError(f"tokenizer {file}: found {error}, expected the tokenizer.json of a model") from error
    tokenizer.no_truncation()
    return tokenizer
