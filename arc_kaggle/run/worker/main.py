"""The worker: loads the model once, does one stage of one task after another, tells what comes of it. A child process.

Messages are JSON lines. The first that comes in is `{"config": ..., "scratch": folder}`, each further one an order:

    {"job": Job, "task": without its solutions, "tuned": whether its fine-tuning went well, "predictions": [...] for
     `score`, and those of earlier views as drafts, "forget": [ids of tasks whose adapters are no longer wanted],
     "seconds_left": s}

Out go `ready`, or `refused` with a message for the user; for each order `prediction` and `score` as they come, and
`done` or `failed` at its end. A worker keeps nothing itself, so that it may be on another machine.
"""

from __future__ import annotations

import json
import os
import queue
import resource
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from arc_kaggle.config.json import config_from_json
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.engines.choice import settle
from arc_kaggle.errors import ArcKaggleError
from arc_kaggle.run.worker.adapter_store import Adapters
from arc_kaggle.run.worker.method import Method
from arc_kaggle.run.worker.stages import Message, Send, Stages
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
    from arc_kaggle.models.loading import load_model
    from arc_kaggle.models.vocabulary_cut import cut_vocabulary
    from arc_kaggle.run.worker.engine_setup import make_engine

    model = load_model(
        config.model, config.precision, config.device, config.prompt, config.encoder, four_bit=config.four_bit
    )
    if config.cut_vocabulary:
        model = cut_vocabulary(model, config.generate.fallback_encoder)
    engine, tuner = make_engine(model, config)
    return Method(engine, tuner, model.notation)


class WorkerServer:
    """Loads the model as the first message says, then takes orders; `send` gets every message that goes out."""

    def __init__(self, first: Mapping[str, Any], send: Send) -> None:
        started, self.send = time.monotonic(), send
        config = config_from_json(SolveConfig, first["config"])
        try:
            method = load_method(config)
            if config.rescore.verify or config.tune.verify_share:
                check_verdicts(method.notation)
        except ArcKaggleError as error:
            send({"event": "refused", "message": str(error)})
            return
        adapters = Adapters(Path(first["scratch"]) / "adapters", config.scratch_gb * 1e9)
        self.stages = Stages(method, config, adapters)
        send({"event": "ready", "seconds": time.monotonic() - started})

    def do(self, order: Message) -> None:
        self.stages.run(order, self._send)

    def _send(self, message: Message) -> None:
        ends = message["event"] in ("done", "failed")
        self.send({**message, "peak_memory_mib": _peak_memory_mib()} if ends else message)


def _peak_memory_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def main() -> None:
    """Talk to the supervisor over stdin and stdout; whatever else prints goes to stderr."""
    die_with_parent()
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    messages = _messages_from_stdin()
    server = WorkerServer(next(messages), lambda message: print(json.dumps(message), file=channel, flush=True))
    for order in messages:
        server.do(order)


def _messages_from_stdin() -> Iterator[Message]:
    """Messages as they come. When the supervisor is gone stdin ends, and the process with it, whatever it was doing."""
    lines: queue.Queue[str] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()  # at once, so that it also ends a model that is still loading
    return map(json.loads, iter(lines.get, None))


if __name__ == "__main__":
    main()
