"""Workers on the nodes of a Ray cluster: on each an actor owns the same child process, and can end it there."""

from __future__ import annotations

import os
import queue
import threading
from pathlib import Path
from typing import Any

from arc_kaggle.errors import ConfigError
from arc_kaggle.workers.base import THREADS, Inbox, Message, environment
from arc_kaggle.workers.child import ChildWorker

WAIT_SECONDS = 1.0
"""Most seconds for which a call waits for messages."""
QUIET = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0"}
"""Leave CUDA_VISIBLE_DEVICES alone where no GPU is asked for; call nobody on the network."""


def connect(address: str) -> dict[str, float]:
    """Join a cluster, or begin one on this machine; gives what it has, by name. Raises ConfigError."""
    os.environ.update(QUIET)
    try:
        import ray
    except ImportError as error:
        raise ConfigError("option ray_address: ray is not installed; pip install 'arc_kaggle[ray]'") from error
    try:
        if not ray.is_initialized():
            where = {"include_dashboard": False} if address == "local" else {"address": address}
            ray.init(**where, log_to_driver=False, logging_level="error")
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigError(f"option ray_address: found {address!r}, where no cluster answers: {error}") from error
    nodes = [node for node in ray.nodes() if node["Alive"]]
    return {**ray.cluster_resources(), "nodes": len(nodes)}


class Host:
    """What runs on a node: a child process, and what it has said since it was asked last."""

    def __init__(self, number: int, first: Message, cores: int, scratch: str) -> None:
        self.inbox: Inbox = queue.SimpleQueue()
        folder = Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        shares = {**environment(number, 1, (), folder), **dict.fromkeys(THREADS, str(cores))}
        self.child = ChildWorker(number, self.inbox, first, shares, folder / f"worker{number or ''}.log")

    def send(self, message: Message) -> None:
        self.child.send(message)

    def receive(self, seconds: float) -> tuple[list[Message], int]:
        """Messages that are there, after waiting for the first; and the memory that the child holds, in bytes."""
        found: list[Message] = []
        try:
            found.append(self.inbox.get(timeout=seconds)[1])
            while True:
                found.append(self.inbox.get_nowait()[1])
        except queue.Empty:
            return found, self.child.held_bytes()


class RayWorker:
    """The supervisor's end. When the actor or its node is gone, so is the worker; its child ends with it."""

    def __init__(self, number: int, inbox: Inbox, first: Message, cores: int, gpus: float) -> None:
        import ray

        self.number, self.inbox, self.held = number, inbox, 0
        host = ray.remote(Host).options(
            num_cpus=cores, num_gpus=gpus, max_concurrency=2, scheduling_strategy="SPREAD", max_restarts=0
        )
        self.actor: Any = host.remote(number, first, cores, first["scratch"])
        threading.Thread(target=self._listen, daemon=True).start()

    def send(self, message: Message) -> None:
        self.actor.send.remote(message)

    def _listen(self) -> None:
        import ray

        try:
            while True:
                messages, self.held = ray.get(self.actor.receive.remote(WAIT_SECONDS))
                for message in messages:
                    self.inbox.put((self, message))
        except ray.exceptions.RayError as error:
            reason = f"its actor or its node is gone ({type(error).__name__})"
            self.inbox.put((self, {"event": "gone", "reason": reason}))

    def held_bytes(self) -> int:
        """At the last message. Its node has a ceiling of its own, so it does not count here."""
        return 0

    def kill(self) -> None:
        import ray

        ray.kill(self.actor)
