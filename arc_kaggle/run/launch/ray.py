"""Workers on the nodes of a Ray cluster: on each an actor owns the same child process, and can end it there."""

from __future__ import annotations

import os
import queue
import socket
import threading
from typing import Any

from arc_kaggle.errors import ConfigError
from arc_kaggle.run.launch.child import ChildWorker
from arc_kaggle.run.messages import Gone, Inbox, Message, Order, Setup
from arc_kaggle.system.hardware import memory_ceiling
from arc_kaggle.system.processes import worker_environment
from arc_kaggle.system.threads import thread_environment

CONNECT_SECONDS = 10.0
"""Most seconds until a cluster answers."""
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
            host, _, port = address.rpartition(":")
            if host:  # Ray itself tries for minutes
                socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
            own = {"include_dashboard": False} if address == "local" else {}
            ray.init(address, **own, log_to_driver=False, logging_level="error")
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(f"option ray_address: found {address!r}, where no cluster answers: {error}") from error
    nodes = [node for node in ray.nodes() if node["Alive"]]
    return {**ray.cluster_resources(), "nodes": len(nodes)}


class Host:
    """What runs on a node: a child process, and what it has said since it was asked last."""

    def __init__(self, number: int, setup: Setup, cores: int, ceiling: float | None) -> None:
        self.inbox: Inbox = queue.SimpleQueue()
        self.ceiling = memory_ceiling() if ceiling is None else ceiling
        folder = setup.scratch
        folder.mkdir(parents=True, exist_ok=True)
        shares = {**worker_environment(number, 1, (), folder), **thread_environment(cores)}
        self.child = ChildWorker(number, self.inbox, setup, shares, folder / f"worker{number or ''}.log")

    def send(self, order: Order) -> None:
        self.child.send(order)

    def receive(self, seconds: float) -> list[Message]:
        """Messages that are there, after waiting for the first. A child that holds too much memory is ended here."""
        if self.child.held_bytes() > self.ceiling:
            self.child.kill()
            return [Gone(f"over the ceiling of {self.ceiling / 2**20:.0f} MiB of memory")]
        found: list[Message] = []
        try:
            found.append(self.inbox.get(timeout=seconds)[1])
            while True:
                found.append(self.inbox.get_nowait()[1])
        except queue.Empty:
            return found


class RayWorker:
    """The supervisor's end. When the actor or its node is gone, so is the worker; its child ends with it."""

    def __init__(self, number: int, inbox: Inbox, setup: Setup, cores: int, gpus: float, ceiling: float | None) -> None:
        import ray

        self.number, self.inbox = number, inbox
        host = ray.remote(Host).options(
            num_cpus=cores, num_gpus=gpus, max_concurrency=2, scheduling_strategy="SPREAD", max_restarts=0
        )
        self.actor: Any = host.remote(number, setup, cores, ceiling)
        threading.Thread(target=self._listen, daemon=True).start()

    def send(self, order: Order) -> None:
        self.actor.send.remote(order)

    def _listen(self) -> None:
        import ray

        try:
            while True:
                for message in ray.get(self.actor.receive.remote(WAIT_SECONDS)):
                    self.inbox.put((self, message))
        except ray.exceptions.RayError as error:
            self.inbox.put((self, Gone(f"its actor or its node is gone ({type(error).__name__})")))

    def held_bytes(self) -> int:
        """None of this machine's: its node looks after itself."""
        return 0

    def kill(self) -> None:
        import ray

        ray.kill(self.actor)
