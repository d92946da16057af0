"""The tokenizer of a new small model: one token for every cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arc_kaggle.text.encoders import ARC24_SYMBOLS, DIGITS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


FRAME = ("<pad>", "<bos>", "<eos>", "I", "O")
LONGEST_PROMPT = 2048
"""Tokens of a prompt to a new model; an answer of 931 still has its place behind it."""
SYMBOLS = (*FRAME, "\n", *DIGITS)
"""The tokens of a new model, 16: a cell is one."""


TEXT_SPECIALS = ("<pad>", "<bos>", "<eos>", "<|im_start|>", "<|im_end|>")
TEXT = (*TEXT_SPECIALS, "\n", *map(chr, range(32, 127)), *ARC24_SYMBOLS)
"""The tokens of a small model that reads any prompt: printable ASCII and the ten symbols of arc24, a token each."""


def text_tokenizer() -> PreTrainedTokenizerBase:
    """A tokenizer of TEXT, 111 tokens: digits, symbols and row numbers never merge."""
    return _word_level(TEXT, r"<\|im_start\|>|<\|im_end\|>|[\s\S]")


def box_tokenizer() -> PreTrainedTokenizerBase:
    """A tokenizer of SYMBOLS, each of them one token; any other text is refused."""
    return _word_level(SYMBOLS, r"[\s\S]")


def _word_level(symbols: tuple[str, ...], pieces: str) -> PreTrainedTokenizerBase:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({symbol: i for i, symbol in enumerate(symbols)}))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(pieces), "isolated")
    inner.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        model_max_length=LONGEST_PROMPT,
        clean_up_tokenization_spaces=False,
    )
