"""Write the file map into docs/architecture.md, from the first lines of the docstrings of rooms and modules.

python docs/architecture.py
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "arc_kaggle"
PAGE = ROOT / "docs" / "architecture.md"
MARK = "<!-- All that follows is written by docs/architecture.py. -->\n"


def page_with_map(page: str, rooms: Sequence[str]) -> str:
    """The page with everything behind the mark written anew."""
    return page.partition(MARK)[0] + MARK + "\n".join(file_map(rooms)) + "\n"


def file_map(rooms: Sequence[str]) -> Iterator[str]:
    """Lines of Markdown: a heading and a table for each room, in the order of the data flow."""
    yield from table("The package itself", sorted(PACKAGE.glob("*.py")))
    for room in rooms:
        if (PACKAGE / room).is_dir():
            yield from table(f"`{room}/`", sorted((PACKAGE / room).rglob("*.py")))


def table(title: str, paths: Sequence[Path]) -> Iterator[str]:
    """One room: its own first line under the heading, then a row for each of its folders and modules."""
    own = [path for path in paths if path.name == "__init__.py" and path.parent.parent == PACKAGE]
    yield from ("", f"### {title}", *map(first_line, own), "", "| module | what it holds |", "|---|---|")
    yield from (f"| `{name_of(path)}` | {first_line(path)} |" for path in paths if path not in own)


def name_of(path: Path) -> str:
    """`engines/base.py`, or `engines/hf/` for the folder that an `__init__.py` speaks for."""
    name = path.relative_to(PACKAGE).as_posix()
    return name if path.parent == PACKAGE else name.removesuffix("__init__.py")


def first_line(path: Path) -> str:
    """Of the docstring of a module."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0].replace("|", "\\|")


def main() -> None:
    sys.path.insert(0, str(ROOT / "tests"))
    from test_rooms import ROOMS  # the order is held there

    PAGE.write_text(page_with_map(PAGE.read_text(encoding="utf-8"), ROOMS), encoding="utf-8")


if __name__ == "__main__":
    main()
