"""What only a process with torch can tell, as JSON lines, one a fact: a crash leaves those that came before it.

Run as `python -m arc_kaggle.kaggle.torch_probe ROOT`; ROOT is the root of the system, whose cgroup files tell its
memory.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from arc_kaggle.system.hardware import available_memory

Fact = tuple[str, Callable[[], Any]]


def facts(root: Path) -> Iterator[Fact]:
    """(name, how to find out), the safest first."""
    import torch

    yield "torch", lambda: torch.__version__
    yield "cuda", lambda: torch.version.cuda
    yield "gpus", torch.cuda.device_count
    yield "sums", lambda: [float(torch.ones(8, 8, device=f"cuda:{i}").sum()) for i in range(torch.cuda.device_count())]
    yield "memory_bytes", lambda: available_memory(root)
    yield "peft", _peft


def _peft() -> str:
    """Its version; peft refuses a torchao that is too old for it whenever an adapter is attached."""
    import peft
    from peft.import_utils import is_torchao_available

    is_torchao_available()
    return str(peft.__version__)


def main(root: Path) -> None:
    for name, find_out in facts(root):
        print(json.dumps({name: find_out()}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
