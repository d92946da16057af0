"""The parent's end of the process that holds vLLM: it is started, listened to, given up and renewed. No torch here."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from math import ceil
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from textwrap import shorten
from typing import Any

from arc_kaggle.config.engines import EXTRA, VLLMConfig
from arc_kaggle.engines.vllm.messages import Ask, Heard, Served
from arc_kaggle.errors import EngineError
from arc_kaggle.system.hardware import held_bytes
from arc_kaggle.system.processes import last_words, python_path
from arc_kaggle.system.threads import thread_environment

SWITCHES = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_USE_V2_MODEL_RUNNER": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_USE_FLASHINFER_SAMPLER": "0",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
}
"""No second process below this one, no word to the outside; the runner that has been tested on all versions."""
DEFAULTS = {"VLLM_LOGGING_LEVEL": "WARNING", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
"""Without the latter all workers of a machine would share the cores of the first."""


class ProcessLost(Exception):
    """The process has died, or has sent no message for too long."""


class VLLMProcess:
    """The process starts at once and loads its model in the background. `environment` may name its GPU."""

    def __init__(self, served: Served, config: VLLMConfig, environment: Mapping[str, str]) -> None:
        self.served, self.config, self.environment = served, config, dict(environment)
        self.start()

    def start(self) -> None:
        self.pipe, theirs = Pipe()
        self.log = tempfile.TemporaryFile()  # noqa: SIM115  # for as long as the process
        cache = {"VLLM_CPU_KVCACHE_SPACE": str(ceil(self.config.cache_bytes / 2**30))}  # whole ones alone
        self.process = subprocess.Popen(
            [sys.executable, "-m", "arc_kaggle.engines.vllm.child", str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            pass_fds=[theirs.fileno()],
            env={**DEFAULTS, **thread_environment(), **os.environ, **SWITCHES, **cache, **self.environment}
            | {"PYTHONPATH": python_path()},
        )
        theirs.close()
        self.ready = False
        self.bytes_at_first, self.adapters = 0, set[int]()
        self.outbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        threading.Thread(target=_write, args=(self.pipe, self.outbox), daemon=True).start()
        self.outbox.put((self.served, self.config))
        self.began = self.heard_at = time.monotonic()

    def ask(self, asks: Sequence[Ask]) -> None:
        """Queue a message for the process; this never waits."""
        if asks:
            self.adapters.update(ask.adapter.number for ask in asks if ask.adapter)
            self.outbox.put(list(asks))

    def drop(self, numbers: Sequence[int]) -> None:
        if numbers:
            self.outbox.put(("drop", tuple(numbers)))

    def forget(self, adapter: int) -> None:
        if adapter in self.adapters:
            self.outbox.put(("forget", adapter))

    def wait(self) -> None:
        """Start the clock of silence: a message is expected from now on."""
        self.heard_at = time.monotonic()

    def listen(self, seconds: float) -> list[Heard]:
        """Messages that come within so many seconds. Raises ProcessLost, or EngineError if vLLM cannot start at all."""
        try:
            if self.pipe.poll(seconds):
                return self._read(self.pipe.recv())
        except (EOFError, OSError):
            raise ProcessLost(f"died {self._last_words()}") from None
        now, patience = time.monotonic(), self.config.patience_seconds
        if not self.ready and now - self.began > self.config.start_seconds:
            raise ProcessLost(f"was not ready within {self.config.start_seconds:.0f} s")
        if self.ready and now - self.heard_at > patience:
            raise ProcessLost(f"said nothing for {patience:.0f} s")
        return []

    def _read(self, message: Any) -> list[Heard]:
        self.wait()
        match message:
            case "ready":
                self.ready = True
                self.bytes_at_first = held_bytes(self.process.pid)
                return []
            case ("refused", why):
                absent = f"; {EXTRA}" if "No module named 'vllm" in why else ""
                raise EngineError(f"engine vllm: it could not be started: {shorten(why, 400)}{absent}")
        heard: list[Heard] = message
        return heard

    @property
    def is_old(self) -> bool:
        """Whether the process is old enough to be replaced."""
        if len(self.adapters) >= self.config.adapters_a_life:
            return True
        grown = held_bytes(self.process.pid) - self.bytes_at_first
        return self.ready and grown > self.config.growth_gb * 1e9

    def renew(self) -> None:
        self.close()
        self.start()

    def close(self) -> None:
        self.outbox.put(None)
        with suppress(ProcessLookupError):
            self.process.kill()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        self.pipe.close()
        self.log.close()

    def _last_words(self) -> str:
        code = self.process.wait()
        self.log.seek(0)
        return last_words(code, self.log.read().decode(errors="replace"), n_lines=3)


def _write(pipe: Connection, outbox: queue.SimpleQueue[Any]) -> None:
    """Write messages in a thread, because a process that hangs reads nothing and would block its writer."""
    with suppress(OSError, ValueError):  # it died, or it was closed
        while (message := outbox.get()) is not None:
            pipe.send(message)
