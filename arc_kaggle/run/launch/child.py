"""A worker in a child process, which can be ended whatever it is doing and takes nothing with it."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from arc_kaggle.run.launch.base import Inbox, Message
from arc_kaggle.system.hardware import held_bytes
from arc_kaggle.system.processes import python_path

END_SECONDS = 5.0
"""Most seconds to wait for a killed process; one that hangs in a driver may take for ever."""


class ChildWorker:
    """A process of its own that gets `first` before any job. What it prints goes to a log."""

    def __init__(self, number: int, inbox: Inbox, first: Message, environment: Mapping[str, str], log: Path) -> None:
        self.number, self.inbox, self.log = number, inbox, log
        with log.open("ab") as printed:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "arc_kaggle.run.worker.main"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=printed,
                env={**os.environ, **environment, "PYTHONPATH": python_path()},
                start_new_session=True,  # all that it starts is killed with it
            )
        self.outbox: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self.send(first)
        for work in (self._write, self._read):
            threading.Thread(target=work, daemon=True).start()

    def send(self, message: Message) -> None:
        self.outbox.put(message)

    def _write(self) -> None:
        """In a thread: a process that is stopped reads nothing, and whoever writes to it would stop as well."""
        assert self.process.stdin is not None
        with suppress(OSError), self.process.stdin as pipe:
            while (message := self.outbox.get()) is not None:
                pipe.write(json.dumps(message).encode() + b"\n")
                pipe.flush()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                if line.endswith(b"\n"):  # else torn: the worker died as it wrote
                    self.inbox.put((self, json.loads(line)))
        self.outbox.put(None)
        self.inbox.put((self, {"event": "gone", "reason": self._last_words()}))

    def _last_words(self) -> str:
        code = self.process.wait()
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        lines = self.log.read_text(errors="replace").strip().splitlines() if self.log.exists() else []
        last = f" ({lines[-1][:200]})" if lines and code > 0 else ""
        return f"the worker died {how}{last}; see {self.log.name}"

    def held_bytes(self) -> int:
        return held_bytes(self.process.pid)

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(END_SECONDS)
