"""Run a notebook from its first cell to its last, as Kaggle does: python run_notebook.py NOTEBOOK RESULT"""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from traitlets.config import Config

CELL_SECONDS = 3600
"""Most seconds for a cell."""
OVER_FILES = Config({"KernelManager": {"transport": "ipc"}})
"""Talk to the kernel through files: without a network there may not even be a way to this very machine."""


def main(notebook: Path, result: Path) -> int:
    """Write the notebook with its outputs; 1 where a cell failed."""
    document = nbformat.read(notebook, as_version=4)
    client = NotebookClient(document, timeout=CELL_SECONDS, kernel_name="python3", config=OVER_FILES)
    try:
        client.execute()
    except CellExecutionError:
        return 1
    finally:
        nbformat.write(document, result)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
