"""The worker: loads the model once, solves the tasks it is sent, keeps every prediction. Runs as a child process.

Messages are JSON lines. In: `{"tasks": [...], "seconds_left": s}`, tasks without their solutions. Out: `ready`, a
`task` for each that is through, `job` when all of them are, or `refused` with a message for the user.
"""

from __future__ import annotations

import json
import os
import queue
import resource
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from arc_kaggle.budget import Deadline
from arc_kaggle.candidate import append_prediction
from arc_kaggle.config import SolveConfig, config_from_json
from arc_kaggle.encoder import MinimalGridEncoder
from arc_kaggle.errors import ArcKaggleError
from arc_kaggle.solve import Method, solve_tasks
from arc_kaggle.task import task_from_json

Message = Mapping[str, Any]


def load_method(config: SolveConfig) -> Method:
    """Load what a run needs. Raises ModelError, PromptError, ConfigError."""
    if config.engine == "fake":
        from arc_kaggle.engines.fake import EchoEngine, SymbolTokenizer, fake_format

        tokenizer = SymbolTokenizer()
        echo = EchoEngine(open_id=tokenizer.id_of("I"), end_id=tokenizer.id_of(fake_format.end))
        return Method(echo, None, MinimalGridEncoder(), fake_format, tokenizer)
    from arc_kaggle.engines.hf import HFEngine
    from arc_kaggle.model import load_model
    from arc_kaggle.tune import InProcessTuner
    from arc_kaggle.vocabulary import cut_vocabulary

    model = load_model(
        config.model, config.precision, config.device, config.prompt, config.encoder, four_bit=config.four_bit
    )
    if config.cut_vocabulary:
        model = cut_vocabulary(model, config.generate.fallback_encoder)
    tuner = None if config.tune.weights == "none" else InProcessTuner(model, config.tune)
    answering = replace(model, autocast=None)  # on a CPU in fp32: bf16 products change answers that are in doubt
    engine = HFEngine(answering, config.generate.tokens_per_batch)
    return Method(engine, tuner, model.encoder, model.prompt_format, model.tokenizer, model.preset.loss)


def serve(config: SolveConfig, jobs: Iterable[Message]) -> Iterator[Message]:
    """Load the model, solve job after job until there are no more, and say how it goes."""
    try:
        started = time.monotonic()
        method = load_method(config)
        yield {"event": "ready", "seconds": time.monotonic() - started}
        for job in jobs:
            yield from _run_job(job, method, config)
            yield {"event": "job"}
    except ArcKaggleError as error:
        yield {"event": "refused", "message": str(error)}


def _run_job(job: Message, method: Method, config: SolveConfig) -> Iterator[Message]:
    tasks = [task_from_json(task_id, value) for task_id, value in job["tasks"].items()]
    deadline = Deadline.after(job["seconds_left"])
    keep = partial(append_prediction, config.out / "predictions")
    for run in solve_tasks(tasks, method, config, deadline, keep):
        yield {"event": "task", "run": asdict(replace(run, peak_memory_mib=_peak_memory_mib()))}


def _peak_memory_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def main(out: Path) -> None:
    """Talk to the supervisor over stdin and stdout; whatever else prints goes to stderr."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    config = config_from_json(SolveConfig, json.loads((out / "config.json").read_text(encoding="utf-8")))
    for message in serve(config, _jobs_from_stdin()):
        print(json.dumps(message), file=channel, flush=True)


def _jobs_from_stdin() -> Iterator[Message]:
    """Jobs as they come. When the supervisor is gone stdin ends, and the process with it, whatever it was doing."""
    lines: queue.Queue[str] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()  # at once, so that it also ends a model that is still loading
    return map(json.loads, iter(lines.get, None))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
