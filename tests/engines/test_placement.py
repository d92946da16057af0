"""Sizes from a model's folder, where vLLM and fine-tuning live by them, and which engine that makes `auto`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from in_process import solve_here
from models import lively_model
from processes import fake_config, read_report

from arc_kaggle.config.answer import GenerateConfig
from arc_kaggle.config.engines import VLLMConfig
from arc_kaggle.config.evaluate import EvaluateConfig
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.config.tune import LoraConfig, TuneConfig
from arc_kaggle.engines.choice import demand_of, settle
from arc_kaggle.engines.placement import HOST_RESERVE, RESERVE, Demand, Kind, MachineMemory, check_room, place
from arc_kaggle.errors import ConfigError, EngineError, ModelError
from arc_kaggle.evaluation.evaluate import choose_engine, plan
from arc_kaggle.evaluation.model_folders import ModelFolder
from arc_kaggle.models.loading import save_model
from arc_kaggle.models.measured import shape_of
from arc_kaggle.models.memory_formulas import GIB, read_shape
from arc_kaggle.run.launch.start import count_workers, gpus_each
from arc_kaggle.tasks.dataset import load_tasks

# Sizes ----------------------------------------------------------------------------------------------------------------

NETWORKS: dict[str, dict[str, Any]] = {
    "0.5B": {"kind": "qwen2", "layers": 24, "width": 896, "inner": 4864, "heads": (14, 2, 64), "tokens": 151936},
    "3B": {"kind": "llama", "layers": 28, "width": 3072, "inner": 8192, "heads": (24, 8, 128), "tokens": 128256},
    "4B": {"kind": "qwen3", "layers": 36, "width": 2560, "inner": 9728, "heads": (32, 8, 128), "tokens": 151936},
    "8B": {"kind": "mistral", "layers": 40, "width": 4096, "inner": 11520, "heads": (32, 8, 128), "tokens": 131072},
}
"""Qwen2.5-0.5B, Llama-3.2-3B, Qwen3-4B, Mistral-NeMo-Minitron-8B; the last alone has a head of its own."""


def tensors(kind: str, layers: int, width: int, inner: int, heads: tuple[int, int, int], tokens: int) -> Any:
    """Names and shapes as they stand in the folders of these checkpoints."""
    (n_heads, n_kept, size), found = heads, {"model.embed_tokens": [tokens, width], "model.norm": [width]}
    if kind == "mistral":
        found["lm_head"] = [tokens, width]
    for i in range(layers):
        at, mlp = f"model.layers.{i}.self_attn", f"model.layers.{i}.mlp"
        sides = {"q_proj": n_heads * size, "k_proj": n_kept * size, "v_proj": n_kept * size}
        found |= {f"{at}.{name}": [rows, width] for name, rows in sides.items()}
        found |= {f"{at}.o_proj": [width, n_heads * size], f"{mlp}.down_proj": [width, inner]}
        found |= {f"{mlp}.gate_proj": [inner, width], f"{mlp}.up_proj": [inner, width]}
        found |= {f"model.layers.{i}.input_layernorm": [width], f"model.layers.{i}.post_attention_layernorm": [width]}
        if kind == "qwen2":
            found |= {f"{at}.{name}.bias": [rows] for name, rows in sides.items()}
        if kind == "qwen3":
            found |= {f"{at}.q_norm": [size], f"{at}.k_norm": [size]}
    return {name if name.endswith(".bias") else f"{name}.weight": shape for name, shape in found.items()}


def write_model(folder: Path, name: str) -> Path:
    """A folder that says what it would hold; its file of weights ends behind the header."""
    network = NETWORKS[name]
    n_heads, n_kept, size = network["heads"]
    config = {
        "num_hidden_layers": network["layers"],
        "hidden_size": network["width"],
        "intermediate_size": network["inner"],
        "num_attention_heads": n_heads,
        "num_key_value_heads": n_kept,
        "head_dim": size,
        "vocab_size": network["tokens"],
    }
    described = {key: {"dtype": "BF16", "shape": shape} for key, shape in tensors(**network).items()}
    header = json.dumps({"__metadata__": {"format": "pt"}, **described}).encode()
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {name: write_model(root / name, name) for name in NETWORKS}


@pytest.mark.parametrize(
    ("name", "parameters", "a_token"),
    [  # parameters as their cards count them; of keys and values 2 x layers x kept heads x size x 2 bytes
        ("0.5B", 494_032_768, 2 * 24 * 2 * 64 * 2),
        ("3B", 3_212_749_824, 2 * 28 * 8 * 128 * 2),
        ("4B", 4_022_468_096, 2 * 36 * 8 * 128 * 2),
        ("8B", 8_414_105_600, 2 * 40 * 8 * 128 * 2),
    ],
)
def test_sizes_are_read_from_headers(folders: dict[str, Path], name: str, parameters: int, a_token: int) -> None:
    shape = read_shape(folders[name])
    assert shape.weight_bytes(1) == parameters
    assert shape.weight_bytes(2) == 2 * parameters
    assert shape.cache_bytes(2) == a_token


def test_four_bits_and_a_cut_vocabulary_are_counted(folders: dict[str, Path]) -> None:
    """Of the 8B: embeddings and head 2 x 131072 x 4096 of its 8.41e9 numbers; norms are 81 x 4096."""
    shape, ends, norms = read_shape(folders["8B"]), 2 * 131072 * 4096, 81 * 4096
    linear = 8_414_105_600 - ends - norms
    assert shape.weight_bytes(2, four_bit=True) == pytest.approx(2 * (ends + norms) + linear * 4.127 / 8, abs=1)
    assert shape.weight_bytes(2, cut=True) == 2 * (linear + norms + 2 * 1024 * 4096)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "grid"])
def test_a_folder_says_what_the_loaded_network_says(tmp_path: Path, kind: str) -> None:
    model = lively_model(0, kind)
    save_model(model, tmp_path, "lora", {})
    read = read_shape(tmp_path)
    assert read.weight_bytes(4) == sum(p.nbytes for p in model.network.parameters())
    alone = [lively_model(0, "grid alone")] if kind == "grid" else []
    for loaded in (shape_of(each.network) for each in (model, *alone)):
        assert read.matrices == loaded.matrices and read.tied is loaded.tied
        for tune in (TuneConfig(), TuneConfig(weights="all"), TuneConfig(lora=LoraConfig(3, modules=("lm_head",)))):
            assert read.training_bytes(tune, 4, 9) == loaded.training_bytes(tune, 4, 9)


@pytest.mark.parametrize("spoil", ["config.json", "model.safetensors", "cut", "empty"])
def test_a_folder_without_sizes_is_refused(tmp_path: Path, spoil: str) -> None:
    write_model(tmp_path, "0.5B")
    if spoil in ("cut", "empty"):
        (tmp_path / "model.safetensors").write_bytes((b"\xff" * 8 + b"{}") * (spoil == "cut"))
    else:
        (tmp_path / spoil).unlink()
    with pytest.raises(ModelError, match=r"^model folder .*: its sizes cannot be read .*expected config.json and"):
        read_shape(tmp_path)


# Where both live ------------------------------------------------------------------------------------------------------

MACHINES = {
    "2xT4": MachineMemory(2, 15 * GIB, 26 * GIB),
    "1xL4": MachineMemory(1, 22 * GIB, 26 * GIB),
    "4xL4": MachineMemory(4, 22 * GIB, 43 * GIB),
    "H100": MachineMemory(1, 77 * GIB, 200 * GIB),
}


@pytest.mark.parametrize(
    ("model", "machine", "expected"),
    [
        # 0.5B: 0.9 of weights + 2.8 of a step of 2048 tokens = 3.7, with headroom 4.4; vLLM 1.0 + 0.75 + 2
        ("0.5B", "2xT4", ("together", 0.75)),
        ("0.5B", "1xL4", ("together", 0.75)),
        ("0.5B", "4xL4", ("together", 0.75)),
        ("0.5B", "H100", ("together", 0.75)),
        # 3B: 6.0 + 6.9 = 12.9, with headroom 15.5, over a T4; vLLM 6.2 + 1.1 or more + 2 = 9.3: 24.8 together
        ("3B", "2xT4", None),
        ("3B", "1xL4", ("turns", 7.0)),  # 65536 tokens of 112 KiB; 22 - 6.2 - 2 would be 13.8
        ("3B", "4xL4", ("apart", 7.0)),  # 6.0 + 6 of the host are more than a quarter of 43
        ("3B", "H100", ("together", 7.0)),
        # 4B: 7.5 + 9.2 = 16.7, with headroom 20.0; vLLM 7.8 + 1.4 + 2 = 11.2
        ("4B", "2xT4", None),
        ("4B", "1xL4", ("turns", 9.0)),  # 65536 tokens of 144 KiB
        ("4B", "4xL4", ("apart", 9.0)),
        ("4B", "H100", ("together", 9.0)),
        # 8B: 15.7 + 13.5 = 29.2, with headroom 35.0; vLLM 16.0 + 1.6 + 2 = 19.6: it would fit an L4, not the tuning
        ("8B", "2xT4", None),
        ("8B", "1xL4", None),
        ("8B", "4xL4", None),
        ("8B", "H100", ("together", 10.0)),
    ],
)
def test_the_plan_of_known_models_on_known_machines(
    folders: dict[str, Path], tmp_path: Path, model: str, machine: str, expected: tuple[Kind, float] | None
) -> None:
    """In GiB, worked out by hand: 16-bit weights, adapters of rank 32, steps of 2048 tokens, prompts of up to 8192."""
    tune = TuneConfig(max_tokens=2048)
    config = SolveConfig("", tmp_path, model=folders[model], tune=tune, precision="bf16")
    if expected is None:
        with pytest.raises(EngineError, match=r"cannot live beside .*together wants .*turns wants .*; apart wants"):
            place(demand_of(config), MACHINES[machine])
    else:
        found = place(demand_of(config), MACHINES[machine])
        assert (found.kind, round(found.cache / GIB, 2)) == expected


def test_demand_is_worked_out_by_hand(folders: dict[str, Path], tmp_path: Path) -> None:
    """Of the 3B, all in bytes."""
    config = SolveConfig("", tmp_path, model=folders["3B"], tune=TuneConfig(max_tokens=2048), precision="bf16")
    sides = 28 * (4 * 3072 + 2 * (3072 + 1024) + 3 * (3072 + 8192)) + 3072 + 128256
    step = 2048 * 28 * (8 * 3072 + 4 * 8192) * 2 + 16 * 32 * sides
    served = 2 * 3_212_749_824 + 2 * 32 * sides * 2  # two adapters of rank 32
    a_token = 2 * 28 * 8 * 128 * 2
    assert demand_of(config) == Demand(2 * 3_212_749_824, step, served, 65536 * a_token, (8192 + 2048) * a_token)
    assert demand_of(replace(config, recipe="none", tune=TuneConfig(weights="none"))).tuning == 0
    named = demand_of(replace(config, vllm=VLLMConfig(cache_gb=1.5)))
    assert named.cache == named.least_cache == 1.5 * GIB


SIZES = st.integers(0, 30 * GIB)


@given(
    st.builds(Demand, SIZES, SIZES, SIZES, SIZES, SIZES),
    st.builds(MachineMemory, st.integers(1, 8), SIZES, st.integers(0, 200 * GIB), st.integers(0, 9)),
    st.sampled_from([None, "together", "turns", "apart"]),
)
def test_a_plan_never_takes_more_than_there_is(demand: Demand, machine: MachineMemory, kind: Kind | None) -> None:
    demand = replace(demand, cache=max(demand.cache, demand.least_cache))
    with suppress(EngineError):
        plan = place(demand, machine, kind)
        assert kind in (None, plan.kind)
        assert demand.least_cache <= plan.cache <= demand.cache
        n_shares = machine.n_gpus // plan.gpus_each  # GPUs, or pairs of them, that workers are dealt to in turn
        n_workers = machine.n_workers or n_shares
        serving = demand.served + plan.cache + RESERVE
        for share in range(n_shares):
            n_here = len(range(share, n_workers, n_shares))
            if plan.kind == "together":
                assert n_here * (serving + demand.tuning) <= machine.gpu
            else:
                assert n_here * serving <= machine.gpu and n_here * demand.tuning <= machine.gpu
        if plan.kind == "turns":
            assert n_workers * (demand.held + HOST_RESERVE) <= machine.host


def test_no_first_way_is_left_out() -> None:
    """Together needs the sum of one GPU, turns the larger part and room on the host, apart a second GPU alone."""
    demand = Demand(held=4 * GIB, training=GIB, served=4 * GIB, cache=GIB, least_cache=GIB)  # 6 to tune, 7 to serve
    kinds = [
        place(demand, MachineMemory(*sizes)).kind
        for sizes in ((2, 13 * GIB, 0), (2, 13 * GIB - 1, 20 * GIB), (2, 13 * GIB - 1, 20 * GIB - 1))
    ]
    assert kinds == ["together", "turns", "apart"]
    with pytest.raises(EngineError, match=r"apart wants 2 GPUs, found 1.* wants 7\.0 GiB .*lower --tune.max-tokens"):
        place(demand, MachineMemory(1, 13 * GIB - 1, 10 * GIB - 1))


def test_what_is_not_free_any_more_is_refused() -> None:
    demand = Demand(0, 0, 6 * GIB, 4 * GIB, GIB)
    check_room(12 * GIB, demand, 4 * GIB)
    with pytest.raises(EngineError, match=r"wants 12\.0 GiB .* but 11\.9 are free; lower --vllm.cache-gb"):
        check_room(int(11.9 * GIB), demand, 4 * GIB)


# Which engine ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Makes a machine: GPUs of so many MiB that the driver tells, vLLM on the path or not."""

    def make(*mib: int, installed: bool = True) -> None:
        lines = "; ".join(f'echo "GPU, {each}, 8.9, 580.0"' for each in mib) or "exit 9"
        program = tmp_path / "bin" / "nvidia-smi"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\n{lines}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(program.parent))
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(len(mib)))))
        monkeypatch.setattr("arc_kaggle.engines.choice.memory_ceiling", lambda: 200e9)
        if installed and not find_spec("vllm"):
            (tmp_path / "packages" / "vllm").mkdir(parents=True)
            (tmp_path / "packages" / "vllm" / "__init__.py").touch()
            monkeypatch.syspath_prepend(str(tmp_path / "packages"))

    yield make


T4, L4, H100 = 15360, 23034, 81559


def run_of(folders: dict[str, Path], model: str = "0.5B", **options: Any) -> SolveConfig:
    chosen = {"tune": TuneConfig(max_tokens=2048), "precision": "bf16", **options}
    return SolveConfig("", Path("out"), model=folders[model], **chosen)


@pytest.mark.parametrize(
    ("model", "gpus", "options", "engine", "reason"),
    [
        ("0.5B", [T4, T4], {}, "vllm", "it fits, on one GPU with fine-tuning, with 0.8 GiB of keys and values"),
        ("3B", [L4], {"tune": TuneConfig(max_tokens=1024)}, "hf", "fine-tuning 1.8 of 7.0 GiB of keys and values fit"),
        ("3B", [L4] * 4, {}, "hf", "together wants 24.8 GiB of a GPU"),
        ("4B", [L4] * 4, {}, "hf", "together wants"),
        ("3B", [H100], {}, "vllm", "it fits"),
        ("3B", [40960], {}, "vllm", "it fits"),  # 6.0 of 38.8 GiB
        ("4B", [30 * 1024], {"generate": GenerateConfig(n_views=1), "tune": TuneConfig(max_tokens=512)}, "hf", "25%"),
        ("3B", [L4], {"recipe": "none", "tune": TuneConfig(weights="none")}, "vllm", "it fits"),  # nothing to share
        ("0.5B", [H100], {"tune": TuneConfig(weights="all")}, "hf", "vllm lacks all weights"),
        ("8B", [H100], {"four_bit": True}, "hf", "vllm lacks 4 bits"),
        ("0.5B", [H100], {"tune": TuneConfig(lora=LoraConfig(600))}, "hf", "rank: found 600, expected 512 or less"),
        ("0.5B", [], {}, "hf", "there is no GPU for vllm"),
        ("0.5B", [H100], {"device": "cpu"}, "hf", "there is no GPU for vllm"),
        ("0.5B", [H100], {"ray_address": "local"}, "hf", "on a cluster vllm has to be asked for"),
        ("0.5B", [H100], {"engine": "hf"}, "hf", "asked for"),
        ("0.5B", [H100], {"engine": "fake"}, "fake", "asked for"),
    ],
)
def test_auto_is_vllm_where_it_fits_and_pays(
    machine: Any, folders: dict[str, Path], model: str, gpus: list[int], options: Any, engine: str, reason: str
) -> None:
    machine(*gpus)
    choice = settle(run_of(folders, model, **options))
    assert choice.config.engine == engine
    assert reason in choice.reason and str(choice) == f"engine {engine}: {choice.reason}"


@pytest.mark.skipif(bool(find_spec("vllm")), reason="it is installed")
def test_without_the_package_auto_is_hf_and_a_named_vllm_says_what_to_install(
    machine: Any, folders: dict[str, Path]
) -> None:
    machine(H100, installed=False)
    assert str(settle(run_of(folders))) == "engine hf: vllm is not installed"
    with pytest.raises(EngineError, match=r"its package is not installed; pip install 'arc_kaggle\[vllm\]'"):
        settle(run_of(folders, engine="vllm"))


@pytest.mark.parametrize(
    ("model", "gpus", "options", "kind", "n_workers", "each"),
    [
        ("0.5B", [T4, T4], {}, "together", 2, 1),
        ("3B", [L4] * 4, {}, "turns", 4, 1),
        ("3B", [L4] * 4, {"vllm": VLLMConfig(placement="apart")}, "apart", 2, 2),
        ("3B", [L4] * 3, {"vllm": VLLMConfig(placement="apart")}, "apart", 1, 2),
    ],
)
def test_a_named_vllm_is_placed_and_workers_follow(
    machine: Any,
    folders: dict[str, Path],
    model: str,
    gpus: list[int],
    options: Any,
    kind: str,
    n_workers: int,
    each: int,
) -> None:
    machine(*gpus)
    config = settle(run_of(folders, model, engine="vllm", **options)).config
    assert config.vllm.placement == kind and config.vllm.cache_gb is not None
    assert (count_workers(config), gpus_each(config)) == (n_workers, each)
    assert settle(config).config == config  # nothing is left open, in a worker neither


def test_a_named_vllm_that_cannot_fit_is_refused_before_the_run(machine: Any, folders: dict[str, Path]) -> None:
    machine(T4, T4)
    with pytest.raises(EngineError, match=r"found vllm, which cannot live beside .* fine-tuning 35\.0 with headroom"):
        settle(run_of(folders, "8B", engine="vllm"))
    with pytest.raises(ConfigError, match=r"option tune.lora.rank: found 513"):
        settle(run_of(folders, engine="vllm", tune=TuneConfig(lora=LoraConfig(513))))


def test_a_run_says_which_engine_answered_and_why(tmp_path: Path) -> None:
    save_model(lively_model(0), tmp_path / "model", "none", {})
    engines = {}
    for engine in ("fake", "auto"):
        config = fake_config(tmp_path / engine, 1, engine=engine, model=tmp_path / "model", device="cpu")
        found = solve_here(config)
        engines[engine] = found.engine
        assert found.text.splitlines()[-1] == found.engine == read_report(config.out)["engine"]
        kept = json.loads((config.out / "config.json").read_text())["engine"]
        assert found.engine.startswith(f"engine {kept}: ")
    assert engines["fake"] == "engine fake: asked for" and engines["auto"].startswith("engine hf: ")


def test_an_evaluation_chooses_by_the_base_of_an_adapter(
    machine: Any, folders: dict[str, Path], tmp_path: Path
) -> None:
    """Its own folder has no sizes of a model. What was chosen is a setting of every part."""
    machine(H100)
    described = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"]}
    (tmp_path / "adapter_config.json").write_text(json.dumps(described))
    adapter = ModelFolder("a", "a", tmp_path, folders["0.5B"], None, "", [])
    config = EvaluateConfig(recipes=("none", "lora", "box"), precision="bf16", tuner="peft")
    assert [part.config.engine for part in plan(config, adapter, load_tasks("arc1:evaluation", "0:1"))] == [
        *("vllm", "vllm", "hf")
    ]
    assert choose_engine(config, adapter, "box").reason == "vllm lacks all weights"


def test_workers_that_share_a_gpu_share_its_memory(machine: Any, folders: dict[str, Path]) -> None:
    machine(T4)
    assert settle(run_of(folders, workers=1)).config.engine == "vllm"  # 8.2 of 14.5 GiB
    assert settle(run_of(folders, workers=2)).config.engine == "hf"
