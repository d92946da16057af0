"""The engine on vLLM, in a process of its own; what the rest of the package needs of it. No torch comes with it."""

from arc_kaggle.config.engines import EXTRA, Kind, VLLMConfig
from arc_kaggle.engines.vllm.engine import VLLMEngine
from arc_kaggle.engines.vllm.messages import Served

__all__ = ["EXTRA", "Kind", "Served", "VLLMConfig", "VLLMEngine"]
