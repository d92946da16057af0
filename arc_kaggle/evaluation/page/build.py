"""A report page is one HTML file that needs nothing else: its style, its script and its data stand in it.

A content security policy allows this very style and this very script, by their digests, and nothing from anywhere else.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Sequence
from importlib.resources import files
from string import Template
from typing import Any

from arc_kaggle.drawing import SYMMETRIES
from arc_kaggle.evaluation.run_comparison import compare_runs
from arc_kaggle.evaluation.run_view import KINDS
from arc_kaggle.system.files import strict_json

SCRIPTS = ("page.js", "page.charts.js", "page.tasks.js", "page.filters.js")
"""Files that make the one script of the page, in this order."""


def page(title: str, runs: Sequence[dict[str, Any]]) -> str:
    """The HTML of a report on runs, each as `run_view` gives it."""
    style, frame = _asset("page.css"), _asset("page.html")
    script = "".join(map(_asset, SCRIPTS))
    policy = f"default-src 'none'; style-src '{digest(style)}'; script-src '{digest(script)}'; img-src data:"
    data = {"title": title, "kinds": KINDS, "symmetries": SYMMETRIES}
    return Template(frame).substitute(
        title=html.escape(title),
        policy=f"{policy}; base-uri 'none'; form-action 'none'",
        style=style,
        script=script,
        data=embedded({**data, "runs": list(runs), "comparisons": compare_runs(runs)}),
    )


def embedded(value: Any) -> str:
    """JSON that can stand in a script element: it has no `<`, so that no text in it ends the element."""
    return strict_json(value).replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def digest(text: str) -> str:
    """The source expression of a content security policy for an inline element with this text."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _asset(name: str) -> str:
    return files("arc_kaggle.evaluation.page").joinpath(name).read_text(encoding="utf-8")
