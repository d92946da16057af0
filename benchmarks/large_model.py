"""A Qwen2.5-0.5B-shaped model with random weights and its real tokenizer goes through `solve` on two tasks.

    python benchmarks/large_model.py TOKENIZER_FOLDER

The weights are random, so nothing is solved; the point is memory and seconds. Prints a JSON object last.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

from arc_kaggle import SolveConfig, solve
from arc_kaggle.config.answer import GenerateConfig
from arc_kaggle.config.tune import LoraConfig, TuneConfig


def make_model(tokenizer: Path, folder: Path) -> None:
    """Write a model folder of Qwen2.5-0.5B's shape, bf16."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=151936,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        max_position_embeddings=32768,
        rope_theta=1e6,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    Qwen2ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    for path in tokenizer.glob("tokenizer*.json"):
        shutil.copy(path, folder)


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make_model(Path(sys.argv[1]), folder / "model")
        config = SolveConfig(
            tasks="arc1:training",
            select="0d3d703e,25ff71a9",
            out=folder / "out",
            model=folder / "model",
            tune=TuneConfig(steps=4, lora=LoraConfig(rank=32)),
            generate=GenerateConfig(n_views=4, max_new_tokens=32),
        )
        result = solve(config)
    runs = [report.run for report in result.reports if report.run]
    assert len(runs) == 2, f"{len(runs)} of 2 tasks were answered"
    tasks = {
        run.task_id: {
            "tune": run.tune.text,
            "tune_seconds": round(run.tune.seconds, 1),
            "infer_seconds": round(run.infer_seconds, 1),
            "peak_memory_mib": round(run.peak_memory_mib),
        }
        for run in runs
    }
    print(
        json.dumps(
            {"benchmark": "large_model", "parameters": "0.5B", "seconds": round(result.seconds, 1), "tasks": tasks}
        )
    )


if __name__ == "__main__":
    main()
