"""Command `report`: it writes one HTML page that shows a run, or several side by side."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from arc_kaggle.errors import ConfigError
from arc_kaggle.evaluation.page.build import page
from arc_kaggle.evaluation.run_view import run_view
from arc_kaggle.system.files import write_atomically
from arc_kaggle.tasks.dataset import load_tasks


@dataclass(frozen=True, slots=True)
class ReportConfig:
    """Write one HTML page that shows runs: every task, its candidates, what went wrong, and where the time went."""

    runs: Positional[tuple[Path, ...]]
    """Folders that `solve` wrote; several stand side by side."""
    out: Path | None = None
    """The page to write; report.html in the first run's folder where not given."""
    tasks: str = ""
    """The tasks that were solved, as for `solve`; those that each run's config.json names where empty."""
    select: str = ""
    """Which of them, as for `solve`."""
    title: str = ""
    """Title of the page; the names of the runs where empty."""


def run(config: ReportConfig) -> int:
    """Write the page, and say where it is."""
    print(f"{report(config)} shows the run; open it in a browser")
    return 0


def report(config: ReportConfig) -> Path:
    """Write the page and give its path. Raises ConfigError, SubmissionError or TaskError."""
    if not config.runs:
        raise ConfigError("report: found no run, expected one or more folders that `arc-kaggle solve` wrote")
    tasks = load_tasks(config.tasks, config.select) if config.tasks else None
    names = run_names(config.runs)
    runs = [run_view(folder, name, tasks) for folder, name in zip(config.runs, names, strict=True)]
    path = config.out or config.runs[0] / "report.html"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, page(config.title or f"arc_kaggle: {', '.join(names)}", runs))
    except OSError as error:
        raise ConfigError(f"page {path}: cannot be written ({error.strerror}); name another --out") from error
    return path


def run_names(folders: tuple[Path, ...]) -> list[str]:
    """The last part of every path; as many parts as it takes where those are alike."""
    resolved = [folder.resolve() for folder in folders]
    for n in range(1, max(len(path.parts) for path in resolved) + 1):
        names = ["/".join(path.parts[-n:]) for path in resolved]
        if len(set(names)) == len(names):
            return names
    return [f"{path.name} {i}" for i, path in enumerate(resolved, start=1)]
