"""Options of the engine on Hugging Face models. No torch here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HFConfig:
    """How the network is run. Answers differ by rounding at most."""

    compile: bool = False
    """Compile the steps behind the prompt by torch.compile, on a GPU into CUDA graphs. The first steps then take a
    minute or more; rows with adapters by name go uncompiled. Never measured on a GPU."""
