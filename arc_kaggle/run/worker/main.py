"""The worker process: it loads the model once and does one job after another, as the supervisor orders.

It talks over stdin and stdout, one message of `run.messages` a line. It keeps nothing of what it finds, so that it may
run on another machine.
"""

from __future__ import annotations

import json
import os
import queue
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.engines.choice import settle
from arc_kaggle.errors import ArcKaggleError
from arc_kaggle.run.messages import Done, Failed, Message, Order, Ready, Refused, Setup, message_to_json, to_line
from arc_kaggle.run.worker.adapter_store import Adapters
from arc_kaggle.run.worker.method import Method
from arc_kaggle.run.worker.stages import Stages
from arc_kaggle.system.collector import collector_paused
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.system.processes import die_with_parent
from arc_kaggle.text.verdicts import check_verdicts


def load_method(config: SolveConfig) -> Method:
    """Load what a run needs. Raises ModelError, PromptError, ConfigError, EngineError."""
    config = settle(config, n_workers=1).config  # by what this process sees, where nobody has done it before
    if config.engine == "fake":
        from arc_kaggle.engines.fake import FAKE_NOTATION, EchoEngine

        (open_id,) = FAKE_NOTATION.ids(FAKE_NOTATION.format.input)
        return Method(EchoEngine(open_id, FAKE_NOTATION.stop_id), None, FAKE_NOTATION)
    if config.tuner == "unsloth":
        from arc_kaggle.tuning.unsloth import import_unsloth

        import_unsloth()
    from arc_kaggle.models.loading import load_asked
    from arc_kaggle.models.vocabulary_cut import cut_vocabulary
    from arc_kaggle.run.worker.engine_setup import make_engine

    if config.engine == "micro":
        from arc_kaggle.micro.folder import load_micro

        model = load_micro(config.model, config)
    else:
        model = load_asked(config)
    if config.cut_vocabulary:
        model = cut_vocabulary(model, config.generate.fallback_encoder)
    engine, tuner = make_engine(model, config)
    return Method(engine, tuner, model.notation)


PROBE_TOKENS, PROBE_SECONDS = 256, 20.0
"""Of a prompt that is only timed; most seconds for it."""


def probe(method: Method) -> float:
    """Seconds that the model takes to read a thousand tokens: of two passes the second, for the first one warms up."""
    prompt = np.zeros(PROBE_TOKENS, dtype=np.int64)
    for _ in range(2):
        started = time.monotonic()
        try:
            for _ in method.engine.score([prompt], [[prompt[:1]]], Deadline.after(PROBE_SECONDS)):
                pass
        except ArcKaggleError:  # an engine that gives no scores
            return 0.0
    return 1000 * (time.monotonic() - started) / PROBE_TOKENS


class WorkerServer:
    """Loads the model as the setup says, then takes orders; `send` gets every message that goes out."""

    def __init__(self, setup: Setup, send: Callable[[Message], None]) -> None:
        started, config, self.send = time.monotonic(), setup.config, send
        try:
            with collector_paused():  # torch and transformers are a million objects that stay
                method = load_method(config)
            if config.rescore.verify or config.tune.verify_share or config.rescore.pairs or config.tune.pair_share:
                check_verdicts(method.notation)
        except ArcKaggleError as error:
            send(Refused(str(error)))
            return
        adapters = Adapters(setup.scratch / "adapters", config.scratch_gb * 1e9)
        self.stages = Stages(method, config, adapters)
        send(Ready(time.monotonic() - started, 0.0 if config.engine in ("fake", "vllm") else probe(method)))

    def do(self, order: Order) -> None:
        """Do a job, and say what comes of it."""
        self.stages.run(order, self._send)

    def _send(self, message: Message) -> None:
        if isinstance(message, Done | Failed):
            message = replace(message, peak_memory_mib=_peak_memory_mib())
        self.send(message)


def _peak_memory_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def main() -> None:
    """Talk to the supervisor over stdin and stdout; whatever else prints goes to stderr."""
    die_with_parent()
    channel = os.dup(1)
    os.dup2(2, 1)
    lines = _lines_from_stdin()
    server = WorkerServer(
        Setup.from_json(json.loads(next(lines))), lambda message: _write(channel, to_line(message_to_json(message)))
    )
    for line in lines:
        server.do(Order.from_json(json.loads(line)))


def _write(channel: int, line: bytes) -> None:
    while line:
        line = line[os.write(channel, line) :]


def _lines_from_stdin() -> Iterator[str]:
    """Lines as they come. When the supervisor is gone stdin ends, and the process with it, whatever it was doing."""
    lines: queue.Queue[str] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()  # at once, so that it also ends a model that is still loading
    return iter(lines.get, None)


if __name__ == "__main__":
    main()
