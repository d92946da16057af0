"""What `arc-kaggle doctor` found, as values, as lines and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal

from arc_kaggle.errors import ArcKaggleError

Level = Literal["ok", "note", "FAILED"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `note`: a submission would run, but perhaps not as meant."""

    name: str
    level: Level
    found: str
    advice: str = ""

    @property
    def line(self) -> str:
        return f"{self.level:<8}{self.name}: {self.found}{'; ' + self.advice if self.advice else ''}"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All findings in their order."""

    findings: tuple[Finding, ...]

    @property
    def failed(self) -> tuple[str, ...]:
        return tuple(finding.name for finding in self.findings if finding.level == "FAILED")

    @property
    def text(self) -> str:
        verdict = f"would not run: {', '.join(self.failed)}" if self.failed else "would run"
        return "\n".join([*(finding.line for finding in self.findings), f"a submission {verdict}"])

    @property
    def json(self) -> str:
        return json.dumps(
            {"runs": not self.failed, "findings": [asdict(finding) for finding in self.findings]}, indent=1
        )

    def require(self) -> None:
        """Raise ArcKaggleError where a submission would not run."""
        if self.failed:
            raise ArcKaggleError(f"doctor: {len(self.failed)} of {len(self.findings)} failed: {', '.join(self.failed)}")
