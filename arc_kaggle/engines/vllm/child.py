"""The process that holds vLLM. It takes requests from a pipe, streams every token back, and ends with its parent.

It is a process of its own so that whatever hangs in it, or grows, can be ended, and the asks put to another one.
Messages that come in: a list of `Ask`, `("drop", numbers)`, `("forget", number of an adapter)`. Those that go out:
`"ready"` or `("refused", why)` at first, then a list of `Heard` after every step, also an empty one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from arc_kaggle.config.engines import VLLMConfig
from arc_kaggle.engines.vllm.messages import Ask, Heard, Served
from arc_kaggle.system.processes import die_with_parent


def load(served: Served, config: VLLMConfig) -> Any:
    """Load a vLLM engine into this process. Raises whatever vLLM raises."""
    import torch
    from vllm import EngineArgs, LLMEngine

    from arc_kaggle.engines.vllm.forced_tokens import Forcing

    adapters = {"enable_lora": True, "max_lora_rank": served.max_rank, "max_loras": config.max_adapters}
    on_gpu = torch.cuda.is_available()
    memory: dict[str, Any] = {"block_size": 32}  # the smallest on a CPU, whose cache has its size by the environment
    if on_gpu:  # a share would be of the whole GPU, and asked to be free beside what fine-tuning holds
        memory = {"kv_cache_memory_bytes": config.cache_bytes, "gpu_memory_utilization": 0.01}
    return LLMEngine.from_engine_args(
        EngineArgs(
            model=str(served.folder),
            dtype=served.dtype,
            max_model_len=served.max_tokens,
            max_num_seqs=config.max_rows,
            max_logprobs=-1,
            skip_tokenizer_init=True,
            enforce_eager=config.eager,
            enable_prefix_caching=True,
            async_scheduling=False,  # forced tokens are chosen by how many came before
            logits_processors=[Forcing],
            disable_log_stats=True,
            **memory,
            **(adapters if served.max_rank else {}),
        )
    )


class VLLMServer:
    """The requests in progress in a vLLM engine."""

    def __init__(self, engine: Any, end_id: int) -> None:
        self.engine, self.end_id = engine, end_id

    @property
    def busy(self) -> bool:
        return bool(self.engine.has_unfinished_requests())

    def take(self, message: Any) -> None:
        match message:
            case ("drop", numbers):
                self.engine.abort_request([str(number) for number in numbers])
            case ("forget", number):
                self.engine.remove_lora(number)
            case asks:
                for ask in asks:
                    self._add(ask)

    def _add(self, ask: Ask) -> None:
        from vllm import SamplingParams
        from vllm.lora.request import LoRARequest
        from vllm.sampling_params import RequestOutputKind

        adapter, forced = ask.adapter, ask.forced
        params = SamplingParams(
            max_tokens=ask.limit,
            temperature=ask.temperature,
            seed=ask.seed if ask.temperature else None,
            logprobs=ask.n_likely,
            stop_token_ids=[self.end_id] if forced is None else [],
            ignore_eos=True,
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
            extra_args=None if forced is None else {"forced": forced.tolist()},
        )
        self.engine.add_request(
            str(ask.number),
            {"prompt_token_ids": ask.ids.tolist()},
            params,
            lora_request=adapter and LoRARequest(adapter.name, adapter.number, str(adapter.folder)),
        )

    def warm_up(self) -> None:
        """Generate one token while nobody waits, because the first one takes as long as kernels take to compile."""
        self.take([Ask(-1, np.array([0]), 1)])
        while self.busy:
            self.step()

    def step(self) -> list[Heard]:
        return [heard for output in self.engine.step() for heard in _heard(output)]


def _heard(output: Any) -> Iterator[Heard]:
    (answer,) = output.outputs
    ids: Sequence[int] = answer.token_ids
    for place, (token, told) in enumerate(zip(ids, answer.logprobs, strict=True)):
        likeliest = tuple((other, each.logprob) for other, each in told.items())
        last = bool(output.finished) and place == len(ids) - 1
        yield Heard(int(output.request_id), token, told[token].logprob, likeliest, last)


def main() -> None:
    """Serve requests; the first argument is the file descriptor of the pipe."""
    die_with_parent()
    pipe = Connection(int(sys.argv[1]))
    served, config = pipe.recv()
    try:
        engine = load(served, config)
    except Exception as error:  # whatever vLLM raises: the parent has to know why there is no engine
        pipe.send(("refused", f"{type(error).__name__}: {error}"))
        raise
    server = VLLMServer(engine, served.end_id)
    server.warm_up()
    pipe.send("ready")
    while True:
        while pipe.poll(0) or not server.busy:
            server.take(pipe.recv())
        pipe.send(server.step())


if __name__ == "__main__":
    main()
