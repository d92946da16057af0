"""Model folders: what loads, what is refused and how it is said, and which prompt format a model gets."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from models import logits_of, weights_of

from arc_kaggle.errors import ArcKaggleError, ModelError, PromptError
from arc_kaggle.models.card import CARD_FILE, read_card
from arc_kaggle.models.loading import LoadedModel, load_model, load_tokenizer, pick_precision, save_model, types_of
from arc_kaggle.models.new_model import new_grid_model, new_model
from arc_kaggle.text.box_tokenizer import SYMBOLS, box_tokenizer

MODEL = new_model(64, 2, 0)
Change = Callable[[Path], object]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    save_model(MODEL, folder, "box", {"steps": 3})
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy of a good model folder, to be spoilt."""
    copy: Path = shutil.copytree(saved, tmp_path / "model")
    return copy


def load(folder: Path) -> LoadedModel:
    return load_model(folder, "fp32", "cpu")


def edit_json(name: str, **changes: Any) -> Change:
    """Set some keys of a JSON file; None takes a key out."""

    def edit(folder: Path) -> None:
        value = {**json.loads((folder / name).read_text()), **changes}
        (folder / name).write_text(json.dumps({key: item for key, item in value.items() if item is not None}))

    return edit


def write(name: str, text: str) -> Change:
    return lambda folder: (folder / name).write_text(text)


def cut(name: str) -> Change:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-100])


def remove(name: str) -> Change:
    return lambda folder: (folder / name).unlink()


def test_a_saved_model_loads_as_it_was_in_bf16(folder: Path) -> None:
    model = load(folder)
    rounded = {name: tensor.to(torch.bfloat16).float() for name, tensor in MODEL.network.state_dict().items()}
    assert all(torch.equal(tensor, rounded[name]) for name, tensor in model.network.state_dict().items())
    assert {parameter.dtype for parameter in model.network.parameters()} == {torch.float32}
    assert (model.notation.format, model.end_id, model.pad_id) == (MODEL.notation.format, MODEL.end_id, MODEL.pad_id)
    assert model.tokenizer.get_vocab() == MODEL.tokenizer.get_vocab()
    assert not model.network.training
    torch.testing.assert_close(logits_of(model.network), logits_of(MODEL.network), rtol=0, atol=0.05)


def test_the_card_stands_beside_the_weights(folder: Path) -> None:
    card = read_card(folder)
    assert card is not None
    assert (card.prompt_format, card.recipe, card.facts) == (MODEL.notation.format, "box", {"steps": 3})


UNREADABLE: dict[str, tuple[Change, str]] = {
    "no folder": (shutil.rmtree, "found no config.json, expected a Hugging Face causal LM folder"),
    "no config": (remove("config.json"), "found no config.json, expected a Hugging Face causal LM folder"),
    "config is no JSON": (write("config.json", "{"), "not a valid JSON file"),
    "config is a list": (write("config.json", "[]"), "TypeError"),
    "config is empty": (write("config.json", "{}"), "Unrecognized model"),
    "unknown architecture": (edit_json("config.json", model_type="nope"), "model type `nope`"),
    "no causal LM": (edit_json("config.json", model_type="t5"), "AutoModelForCausalLM"),
    "a million layers": (edit_json("config.json", num_hidden_layers=10**6), "says 1,000,000 layers, but its saf"),
    "weights of another shape": (
        edit_json("config.json", hidden_size=128),
        "of another shape model.embed_tokens.weight, ",
    ),
    "no weights": (remove("model.safetensors"), "found no weights, expected *.safetensors or *.bin"),
    "weights are text": (write("model.safetensors", "broken" * 100), "SafetensorError"),
    "weights are empty": (write("model.safetensors", ""), "SafetensorError"),
    "weights are cut off": (cut("model.safetensors"), "SafetensorError"),
    "no tokenizer": (remove("tokenizer.json"), "tokenizer"),
    "tokenizer is no JSON": (write("tokenizer.json", "{"), "JSONDecodeError"),
}


@pytest.mark.parametrize(("spoil", "said"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_what_cannot_be_loaded_is_one_clear_message(folder: Path, spoil: Change, said: str) -> None:
    spoil(folder)
    with pytest.raises(ModelError) as caught:
        load(folder)
    message = str(caught.value)
    assert message.startswith(f"model folder {folder}: ")
    assert said in message
    assert "\n" not in message
    assert len(message) < 600


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"prompt_format": {"begin": "a"}, "recipe": "box", "facts": {}}'])
def test_a_card_that_cannot_be_read_is_refused(folder: Path, text: str) -> None:
    write(CARD_FILE, text)(folder)
    with pytest.raises(ModelError, match=CARD_FILE):
        load(folder)


@pytest.mark.parametrize("name", ["recipe", "facts", "encoder", "loss"])
def test_a_card_whose_entry_is_a_list_is_refused_by_its_name(folder: Path, name: str) -> None:
    edit_json(CARD_FILE, **{name: ["box"]})(folder)
    with pytest.raises(ModelError, match=rf"{CARD_FILE}: found \['box'\] for {name}, expected (a text|an object); "):
        read_card(folder)


def test_a_folder_without_a_card_gets_a_plain_format(folder: Path) -> None:
    remove(CARD_FILE)(folder)
    fmt = load(folder).notation.format
    assert (fmt.begin, fmt.input, fmt.output, fmt.end) == ("<bos>", "I", "O", "<eos>")


def test_no_begin_is_an_empty_begin(folder: Path) -> None:
    remove(CARD_FILE)(folder)
    edit_json("tokenizer_config.json", bos_token=None)(folder)
    assert load(folder).notation.format.begin == ""


def test_neither_card_nor_end_is_refused(folder: Path) -> None:
    remove(CARD_FILE)(folder)
    edit_json("tokenizer_config.json", eos_token=None)(folder)
    with pytest.raises(PromptError, match=f"found neither {CARD_FILE} nor an eos token to end answers with"):
        load(folder)


def test_without_a_pad_token_the_end_fills_batches(folder: Path) -> None:
    edit_json("tokenizer_config.json", pad_token=None)(folder)
    model = load(folder)
    assert model.pad_id == model.end_id == SYMBOLS.index("<eos>")


def test_an_end_of_many_tokens_is_refused(folder: Path) -> None:
    plain = {"begin": "<bos>", "input": "I", "output": "O", "end": "II"}
    edit_json(CARD_FILE, prompt_format=plain)(folder)
    with pytest.raises(PromptError, match=r"^end of an answer: 'II' is 2 tokens, expected 1"):
        load(folder)


def write_merging_tokenizer(folder: Path, pattern: str) -> None:
    """A tokenizer whose tokens are the matches of a pattern."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    known = {symbol: i for i, symbol in enumerate((*SYMBOLS, "<unk>"))}
    inner = Tokenizer(models.WordLevel(known, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), "isolated")
    specials = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=inner, **specials).save_pretrained(folder)


@pytest.mark.parametrize("pattern", [r"[0-9]{1,3}|[\s\S]", r"[0-9]+|[\s\S]", r"[0-9]\n|[\s\S]"])
def test_a_tokenizer_that_merges_digits_is_refused(folder: Path, pattern: str) -> None:
    write_merging_tokenizer(folder, pattern)
    with pytest.raises(ArcKaggleError, match=r"^tokenizer: .* it merges"):
        load(folder)


def test_the_tokenizer_of_a_gridlm_is_read_where_its_type_is_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commands that load no network do not register the type, and transformers would warn of it."""
    from transformers import AutoConfig

    model = new_grid_model(32, 1, 0)
    save_model(model, tmp_path, "box", {})

    def unknown(*_: object, **__: object) -> None:
        raise AssertionError("found a look at the config, expected none")

    monkeypatch.setattr(AutoConfig, "from_pretrained", unknown)
    found = load_tokenizer(tmp_path)
    assert found.get_vocab() == model.tokenizer.get_vocab()
    names = ("bos_token", "eos_token", "pad_token")
    assert [getattr(found, name) for name in names] == ["<bos>", "<eos>", "<pad>"]


def test_the_box_tokenizer_is_one_token_a_symbol() -> None:
    tokenizer = box_tokenizer()
    text = "<bos>I01\n23O4\n5<eos>I67\n89O<pad>"
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert [tokenizer.decode([i]) for i in ids] == ["<bos>", *"I01\n23O4\n5", "<eos>", *"I67\n89O", "<pad>"]
    assert tokenizer.decode(ids) == text
    for i, symbol in enumerate(SYMBOLS):
        assert tokenizer.encode(symbol, add_special_tokens=False) == [i]


@pytest.mark.parametrize("text", ["a", "12x", " ", "1 2", "\t", "\r\n", "-1", "o", "²", "é"])
def test_the_box_tokenizer_refuses_other_characters(text: str) -> None:
    with pytest.raises(Exception, match=r"Missing \[UNK\] token"):
        box_tokenizer().encode(text, add_special_tokens=False)


def test_a_seed_makes_a_model() -> None:
    first, second, other = (weights_of(new_model(32, 1, seed).network) for seed in (1, 1, 2))
    assert first == second
    assert first["model.embed_tokens.weight"] != other["model.embed_tokens.weight"]


def test_weights_that_are_all_trained_are_fp32_on_a_gpu_too() -> None:
    cpu, gpu, bf16, fp32 = torch.device("cpu"), torch.device("cuda"), torch.bfloat16, torch.float32
    assert types_of(gpu, "bf16", all_trained=False) == (bf16, None)
    assert types_of(gpu, "bf16", all_trained=True) == types_of(cpu, "bf16", all_trained=False) == (fp32, bf16)
    assert types_of(gpu, "fp16", all_trained=True) == (fp32, torch.float16)  # its loss is scaled then
    assert {types_of(each, "fp32", all) for each in (cpu, gpu) for all in (True, False)} == {(fp32, None)}


def test_precision_is_what_was_asked_for_or_what_the_device_is_good_at(folder: Path) -> None:
    cpu = torch.device("cpu")
    assert [pick_precision(cpu, name) for name in ("fp32", "bf16", "fp16")] == ["fp32", "bf16", "fp16"]
    assert pick_precision(cpu) in ("fp32", "bf16")
    assert load(folder).autocast is None
    model = load_model(folder, "bf16", "cpu")
    assert (model.autocast, model.network.dtype) == (torch.bfloat16, torch.float32)
