"""Suites of engines and tuners that live in environments of their own (`make test-backends`); elsewhere left out."""

from importlib.util import find_spec

collect_ignore = [f"test_{name}.py" for name in ("vllm", "unsloth") if not find_spec(name)]
