"""`solve`: one run from tasks to submission.json."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.engines.choice import settle
from arc_kaggle.run.launch.start import gather_crew
from arc_kaggle.run.messages import Start
from arc_kaggle.run.report import SolveResult
from arc_kaggle.run.supervisor import CLOSING_SECONDS, Supervisor
from arc_kaggle.system.collector import collector_paused
from arc_kaggle.system.deadline import STARTED, Deadline, seconds_since_kernel_start
from arc_kaggle.tasks.dataset import load_tasks
from arc_kaggle.tasks.entries import skipping


def solve(config: SolveConfig, clock: Callable[[], float] = time.monotonic, start: Start | None = None) -> SolveResult:
    """Solve tasks as configured; submission.json in `config.out` is valid from the first second on.

    What an earlier run of the same config left there is gone on with. `clock` gives the seconds that the deadline is
    read by; `start` begins workers in place of child processes. Raises ArcKaggleError subclasses for bad input.
    """
    spent, limit = seconds_since_kernel_start(), 60 * config.time_limit_minutes
    deadline = Deadline(clock() + (limit - spent if spent < limit else CLOSING_SECONDS), clock)
    choice, began = settle(config), clock()
    with collector_paused():
        tasks = load_tasks(config.tasks, config.select, skipping(config.skip_bad))
    gather = partial(gather_crew, choice.config, start)
    supervisor = Supervisor(choice.config, tasks, deadline, gather, str(choice), clock() - began)
    if spent >= limit:
        supervisor.late = (
            f"option time_limit_minutes: found {config.time_limit_minutes:g}, over before this call: the notebook's "
            f"kernel started {spent / 60:.0f} minutes ago. The submission is what simple rules and earlier runs found; "
            f"raise the limit, or set {STARTED} to another Unix time"
        )
    try:
        supervisor.run()
    finally:
        result = supervisor.finish()
    return result
