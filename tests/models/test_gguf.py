"""A GGUF file becomes a model folder: the same logits, the same tokens, the file's own end token."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from models import logits_of, trained_tokenizer

from arc_kaggle.cli import main
from arc_kaggle.models.loading import load_model

SHAPE = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
KV_HEADS = 2
CHAT = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def small_llama() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(trained_tokenizer()), **SHAPE, num_key_value_heads=KV_HEADS, tie_word_embeddings=True
    )
    network = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in network.parameters():
            large = parameter * (10 if parameter.ndim == 2 else 1)  # attention that is not nearly uniform
            parameter.copy_(large.bfloat16())
    return network.eval()


def write_gguf(path: Path, network: Any, *, pad: str, chat: str = CHAT) -> None:
    """The weights in fp32, as llama.cpp lays them out."""
    tokenizer, config = trained_tokenizer(), network.config
    inner = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_license("mit")
    writer.add_file_type(int(gguf.LlamaFileType.ALL_F32))
    writer.add_context_length(4096)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(tokenizer))
    writer.add_tokenizer_model("gpt2")
    writer.add_add_space_prefix(False)
    words = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    writer.add_token_list(words)
    writer.add_token_types([3 if word in tokenizer.added_tokens_encoder else 1 for word in words])
    writer.add_token_merges([" ".join(merge) for merge in inner["merges"]])
    for name, word in (("bos", "<|im_start|>"), ("eos", "<|im_end|>"), ("unk", "<pad>"), ("pad", pad)):
        getattr(writer, f"add_{name}_token_id")(tokenizer.convert_tokens_to_ids(word))
    if chat:
        writer.add_chat_template(chat)
    for name, tensor in network.state_dict().items():
        if (there := gguf_name(name)) is not None:
            writer.add_tensor(there, permuted(name, tensor.float().numpy(), config))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gguf_name(name: str) -> str | None:
    known = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
    if name.startswith("model.layers."):
        number, _, part = name.removeprefix("model.layers.").removesuffix(".weight").partition(".")
        return f"blk.{number}.{NAMES[part]}.weight"
    return known.get(name)


def permuted(name: str, weight: np.ndarray, config: Any) -> np.ndarray:
    """llama.cpp has the two halves of each head's rotary pairs side by side."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": KV_HEADS}.get(name.split(".")[-2])
    if heads is None:
        return weight
    halves = weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2)
    return np.ascontiguousarray(halves.reshape(weight.shape))


@pytest.fixture(scope="module")
def network() -> Any:
    return small_llama()


def import_it(path: Path, *words: str) -> int:
    return main(["import-gguf", str(path), "--out", str(path.with_suffix("")), *words])


def test_a_model_is_the_same_in_its_folder(tmp_path: Path, network: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Logits, tokens, and the end token that the file names; it ends answers, and does not pad."""
    path = tmp_path / "small.gguf"
    write_gguf(path, network, pad="<|im_end|>")
    assert import_it(path, "--source", "here") == 0
    assert "licence mit" in capsys.readouterr().out
    loaded = load_model(path.with_suffix(""), "fp32", "cpu")
    torch.testing.assert_close(logits_of(loaded.network), logits_of(network), rtol=1e-4, atol=1e-4)
    text = "## Example 1\n\n### Input\n012  345 ."
    assert loaded.tokenizer.decode(loaded.tokenizer.encode(text, add_special_tokens=False)) == text
    specials = [getattr(loaded.tokenizer, f"{name}_token") for name in ("bos", "eos", "pad")]
    assert specials == ["<|im_start|>", "<|im_end|>", "<pad>"]
    assert loaded.tokenizer.convert_ids_to_tokens([loaded.end_id, loaded.pad_id]) == ["<|im_end|>", "<pad>"]
    assert loaded.notation.format.begin.startswith("<|im_start|>system\n")
    assert loaded.encoder.spec == "shape+rows+minimal"
    config = json.loads((path.with_suffix("") / "config.json").read_text())
    assert (config["dtype"], config["pad_token_id"], "quantization_config" in config) == ("bfloat16", 1, False)
    card = (path.with_suffix("") / "README.md").read_text()
    assert card.startswith("---\nlicense: mit\n") and "| source | here |" in card and "ALL_F32" in card


def test_without_a_chat_template_the_model_is_plain(tmp_path: Path, network: Any) -> None:
    path = tmp_path / "plain.gguf"
    write_gguf(path, network, pad="<pad>", chat="")
    assert import_it(path) == 0
    loaded = load_model(path.with_suffix(""), "fp32", "cpu")
    assert (loaded.notation.format.input, loaded.encoder.spec) == ("I", "minimal")


def test_what_is_there_stays_unless_asked(tmp_path: Path, network: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "small.gguf"
    write_gguf(path, network, pad="<pad>")
    path.with_suffix("").mkdir()
    (path.with_suffix("") / "mine").touch()
    assert import_it(path) == 2
    assert "found it there already" in capsys.readouterr().err
    assert [each.name for each in path.with_suffix("").iterdir()] == ["mine"]
    assert import_it(path, "--overwrite") == 2
    assert "it holds more than a folder with config.json and is not removed" in capsys.readouterr().err
    assert [each.name for each in path.with_suffix("").iterdir()] == ["mine"]
    (path.with_suffix("") / "config.json").touch()
    assert import_it(path, "--overwrite") == 0
    assert not (path.with_suffix("") / "mine").exists()


@pytest.mark.parametrize(
    ("content", "words", "said"),
    [
        (b"PK\x03\x04", (), "found b'PK\\x03\\x04' at its beginning, expected b'GGUF'"),
        (b"GGUF\x03\x00", (), "expected a GGUF file; download it again"),
        (None, (), "found no such file"),
    ],
)
def test_what_is_no_gguf_file_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, words: tuple[str, ...], said: str
) -> None:
    path = tmp_path / "broken.gguf"
    if content is not None:
        path.write_bytes(content)
    assert import_it(path, *words) == 2
    assert said in capsys.readouterr().err
    assert [each.name for each in tmp_path.iterdir() if each != path] == []


def test_an_encoder_that_the_tokens_do_not_take_is_refused(
    tmp_path: Path, network: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "small.gguf"
    write_gguf(path, network, pad="<pad>")
    assert import_it(path, "--encoder", "colours") == 2
    assert "name what fits by --prompt and --encoder" in capsys.readouterr().err
    assert [*tmp_path.iterdir()] == [path]
