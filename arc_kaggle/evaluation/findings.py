"""What `preflight` and `doctor` find: one value for each thing that was looked at, as a line and as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from arc_kaggle.errors import ArcKaggleError

Level = Literal["ok", "note", "FAILED", "not run"]
"""`note`: a run would work, but perhaps not as it is meant."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: what was found, what was expected, and what to do where it is not so."""

    name: str
    level: Level
    found: str
    expected: str = ""
    advice: str = ""

    @classmethod
    def of(cls, name: str, ok: bool, found: str, expected: str, advice: str) -> Finding:
        """A finding that is ok or failed; advice is given only where it failed."""
        return cls(name, "ok" if ok else "FAILED", found, expected, "" if ok else advice)

    @property
    def ok(self) -> bool:
        return self.level == "ok"

    @property
    def line(self) -> str:
        parts = [self.found, self.expected and f"expected {self.expected}", self.advice]
        return f"{self.level:<8}{self.name}: {'; '.join(filter(None, parts))}"


@dataclass(frozen=True, slots=True)
class Findings:
    """All findings of a command, in their order."""

    command: str
    findings: tuple[Finding, ...]

    @property
    def failed(self) -> tuple[str, ...]:
        return self._at("FAILED")

    @property
    def not_run(self) -> tuple[str, ...]:
        """What could not be looked at."""
        return self._at("not run")

    def _at(self, level: Level) -> tuple[str, ...]:
        return tuple(finding.name for finding in self.findings if finding.level == level)

    @property
    def text(self) -> str:
        return "\n".join(finding.line for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        return {"runs": not self.failed, "findings": [asdict(finding) for finding in self.findings]}

    def require(self, error: type[ArcKaggleError] = ArcKaggleError) -> None:
        """Raise an error of this kind where something failed."""
        if self.failed:
            made = len(self.findings) - len(self.not_run)
            raise error(f"{self.command}: {len(self.failed)} of {made} failed: {', '.join(self.failed)}")
