"""Command `preflight`: whether a model, the prompt it is asked with and this machine go together, before a run."""

from __future__ import annotations

import time
from collections.abc import Callable

from arc_kaggle.config.preflight import PreflightConfig
from arc_kaggle.errors import ModelError
from arc_kaggle.evaluation.findings import Finding, Findings
from arc_kaggle.system.deadline import Clock, Deadline
from arc_kaggle.system.steps import Steps


def run(config: PreflightConfig) -> int:
    """Print a line a check as soon as it is made. Raises ModelError where one fails."""
    print(f"{config.model}, prompt {config.prompt}, encoder {config.encoder or 'that of the prompt'}", flush=True)
    steps = Steps("preflight")

    def show(finding: Finding) -> None:
        steps.done()
        print(finding.line, flush=True)

    preflight(config, show, steps).require(ModelError)
    return 0


def preflight(
    config: PreflightConfig,
    found: Callable[[Finding], None] = lambda _: None,
    step: Callable[[str], None] = lambda _: None,
    clock: Clock = time.monotonic,
) -> Findings:
    """Make all checks; `found` gets each as it is made. Raises ModelError, ConfigError, EngineError, TaskError for what
    cannot be loaded.
    """
    until = Deadline.after(60 * config.time_bound_minutes, clock)
    step("loading torch and transformers")
    from arc_kaggle.evaluation.preflight import Preflight

    findings = []
    for finding in Preflight(config, until, step).findings():
        findings.append(finding)
        found(finding)
    return Findings("preflight", tuple(findings))
