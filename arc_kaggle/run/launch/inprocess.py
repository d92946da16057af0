"""The same work without a process: no protection, but a debugger and a coverage tool can see into it."""

from __future__ import annotations

from arc_kaggle.run.launch.base import Inbox, Message


class InProcessWorker:
    """Does a job while it is handed over."""

    def __init__(self, number: int, inbox: Inbox, first: Message) -> None:
        from arc_kaggle.run.worker.main import WorkerServer

        self.number = number
        self.server = WorkerServer(first, lambda message: inbox.put((self, message)))

    def send(self, message: Message) -> None:
        self.server.do(message)

    def held_bytes(self) -> int:
        return 0

    def kill(self) -> None:
        pass
