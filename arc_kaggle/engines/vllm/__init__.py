"""The engine on vLLM, in a process of its own; what the rest of the package needs of it. No torch comes with it."""

from arc_kaggle.engines.vllm.asks import EXTRA, Kind, Served, VLLMConfig
from arc_kaggle.engines.vllm.engine import VLLMEngine

__all__ = ["EXTRA", "Kind", "Served", "VLLMConfig", "VLLMEngine"]
