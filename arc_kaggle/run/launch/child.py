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

from arc_kaggle.errors import ArcKaggleError
from arc_kaggle.run.messages import Gone, Inbox, Order, Setup, message_from_json, to_line
from arc_kaggle.system.hardware import held_bytes
from arc_kaggle.system.processes import last_words, python_path

END_SECONDS = 5.0
"""Most seconds to wait for a killed process; one that hangs in a driver may take for ever."""


class ChildWorker:
    """A process of its own that gets its setup before any job. What it prints goes to a log."""

    def __init__(self, number: int, inbox: Inbox, setup: Setup, environment: Mapping[str, str], log: Path) -> None:
        self.number, self.inbox, self.log = number, inbox, log
        with log.open("ab") as printed:
            self.log_start = printed.tell()
            self.process = subprocess.Popen(
                [sys.executable, "-m", "arc_kaggle.run.worker.main"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=printed,
                env={**os.environ, **environment, "PYTHONPATH": python_path()},
                start_new_session=True,  # all that it starts is killed with it
            )
        self.outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.outbox.put(to_line(setup.to_json()))
        for work in (self._write, self._read):
            threading.Thread(target=work, daemon=True).start()

    def send(self, order: Order) -> None:
        self.outbox.put(to_line(order.to_json()))

    def _write(self) -> None:
        """In a thread: a process that is stopped reads nothing, and whoever writes to it would stop as well."""
        assert self.process.stdin is not None
        with suppress(OSError), self.process.stdin as pipe:
            while (line := self.outbox.get()) is not None:
                pipe.write(line)
                pipe.flush()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                if line.endswith(b"\n") and not self._take(line):  # a torn line: the worker died as it wrote
                    break
        self.outbox.put(None)
        self.inbox.put((self, Gone(self._last_words())))

    def _take(self, line: bytes) -> bool:
        """Whether a line is a message, which is then in the inbox; a worker that says anything else is ended."""
        try:
            self.inbox.put((self, message_from_json(json.loads(line))))
        except (ValueError, KeyError, TypeError, ArcKaggleError):
            self.kill()
            return False
        return True

    def _last_words(self) -> str:
        code = self.process.wait()
        printed = self.log.read_bytes()[self.log_start :] if self.log.exists() else b""
        return f"the worker died {last_words(code, printed.decode(errors='replace'))}; see {self.log.name}"

    def held_bytes(self) -> int:
        return held_bytes(self.process.pid)

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(END_SECONDS)
