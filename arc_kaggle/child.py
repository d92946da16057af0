"""The supervisor's end of a worker: a child process that can be killed, or, for tests, this very process."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from arc_kaggle.budget import Deadline
from arc_kaggle.config import SolveConfig
from arc_kaggle.errors import WorkerError

LOG_NAME = "worker.log"
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


class WorkerLost(Exception):
    """A worker that died, gave up, or did not answer in time. `was_ready`: its model had been loaded."""

    def __init__(self, what: str, was_ready: bool) -> None:
        super().__init__(what)
        self.was_ready = was_ready


class Worker(Protocol):
    """Takes jobs and gives messages; both are explained in worker.py."""

    def send(self, job: dict[str, Any]) -> None: ...

    def receive(self, until: Deadline) -> dict[str, Any]:
        """The next message. Raises WorkerLost where none comes, WorkerError for a model that cannot be loaded."""
        ...

    def kill(self) -> None:
        """End the worker now, whatever it is doing."""
        ...


class ChildWorker:
    """A worker in a child process of its own. What it prints goes to worker.log in the output folder."""

    def __init__(self, config: SolveConfig) -> None:
        package_root = str(Path(__file__).parents[1])
        path = os.pathsep.join(filter(None, [package_root, os.environ.get("PYTHONPATH")]))
        self.log_path = config.out / LOG_NAME
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "arc_kaggle.worker", str(config.out)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **OFFLINE, "PYTHONPATH": path},
            )
        self.was_ready = False
        self.messages: queue.Queue[dict[str, Any] | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                if line.endswith(b"\n"):  # else torn: the worker died as it wrote
                    self.messages.put(json.loads(line))
        self.messages.put(None)

    def send(self, job: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(job).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError as error:
            raise WorkerLost(self._last_words(), self.was_ready) from error

    def receive(self, until: Deadline) -> dict[str, Any]:
        try:
            message = self.messages.get(timeout=max(0.0, until.seconds_left))
        except queue.Empty:
            raise WorkerLost("the worker did not answer in time", self.was_ready) from None
        if message is None:
            raise WorkerLost(self._last_words(), self.was_ready)
        return _checked(message, self)

    def _last_words(self) -> str:
        code = self.process.wait()
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        lines = self.log_path.read_text(errors="replace").strip().splitlines()
        last = f" ({lines[-1][:200]})" if lines and code > 0 else ""
        return f"the worker died {how}{last}; see {LOG_NAME}"

    def kill(self) -> None:
        assert self.process.stdin is not None
        self.process.kill()
        self.process.wait()
        with suppress(BrokenPipeError):
            self.process.stdin.close()


class InProcessWorker:
    """The same work without a process: no protection, but a debugger and a coverage tool can see into it."""

    def __init__(self, config: SolveConfig) -> None:
        from arc_kaggle.worker import serve

        self.was_ready = False
        self.jobs: deque[dict[str, Any]] = deque()
        self.messages = serve(config, (self.jobs.popleft() for _ in iter(int, 1)))

    def send(self, job: dict[str, Any]) -> None:
        self.jobs.append(job)

    def receive(self, until: Deadline) -> dict[str, Any]:
        return _checked(dict(next(self.messages)), self)

    def kill(self) -> None:
        self.jobs.clear()


def _checked(message: dict[str, Any], worker: ChildWorker | InProcessWorker) -> dict[str, Any]:
    if message["event"] == "refused":
        if not worker.was_ready:
            raise WorkerError(f"the worker could not start: {message['message']}")
        raise WorkerLost(message["message"], worker.was_ready)
    worker.was_ready = worker.was_ready or message["event"] == "ready"
    return message
