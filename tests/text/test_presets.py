"""Presets: every text pinned by a golden file, every label in its place, on tokenizers that merge as real ones do."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import groupby
from pathlib import Path
from typing import Any, get_args

import jinja2
import numpy as np
import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from arc_kaggle.config.tune import Loss
from arc_kaggle.errors import DecodeError, ModelError, PromptError
from arc_kaggle.models.card import CARD_FILE, ModelCard, format_from_json, read_card, write_card
from arc_kaggle.tasks.grid import Grid, as_grid, same_grid
from arc_kaggle.tasks.task import Task, task_from_json
from arc_kaggle.text.encoders import parse_encoder
from arc_kaggle.text.notation import Notation
from arc_kaggle.text.presets import (
    ARC24_SYSTEM,
    INPUT_FROM_INPUTS,
    OUTPUT_FROM_EXAMPLES,
    PRESETS,
    Preset,
    chat_format,
    find_preset,
    preset_of,
)
from arc_kaggle.text.prompt import inputs_prompt, query_prompt, training_prompt, with_answer
from arc_kaggle.text.prompt_format import Prompt, PromptFormat
from arc_kaggle.text.tokenizer_checks import check_example, check_notation
from arc_kaggle.text.tokenizer_file import FileTokenizer
from arc_kaggle.text.tokens import NOT_TRAINED, tokenize

GOLDEN = Path(__file__).parents[1] / "golden"
TASK = task_from_json(
    "golden",
    {
        "train": [
            {"input": [[0, 1, 2], [3, 4, 5]], "output": [[6, 7], [8, 9]]},
            {"input": [[1]], "output": [[2], [2]]},
            {"input": [[3, 3]], "output": [[4, 4, 4]]},
        ],
        "test": [{"input": [[5], [0]], "output": [[0, 5]]}],
    },
)
LOSSES: tuple[Loss, ...] = get_args(Loss)
SPECIAL = ("<bos>", "<eos>", "<pad>", "<|im_start|>", "<|im_end|>")
# As in Qwen2.5: a digit is a token, and newlines go with the punctuation before them.
PATTERN = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CHATML = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"


class TemplateTokenizer(FileTokenizer):
    """A `tokenizers` tokenizer with a chat template, rendered without importing torch."""

    def __init__(self, inner: Tokenizer, config: dict[str, Any]) -> None:
        self.tokenizer = inner
        self.bos_token, self.eos_token = config.get("bos_token"), config.get("eos_token")
        self.all_special_tokens: Sequence[str] = [t.content for t in inner.get_added_tokens_decoder().values()]
        self.chat_template = config["chat_template"]

    def apply_chat_template(
        self, conversation: Any, *, tokenize: bool, add_generation_prompt: bool, chat_template: str | None = None
    ) -> str:
        assert not tokenize
        environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
        given = {"messages": conversation, "bos_token": self.bos_token, "add_generation_prompt": add_generation_prompt}
        return environment.from_string(chat_template or self.chat_template).render(given, raise_exception=_refuse)


def _refuse(message: str) -> None:
    raise jinja2.TemplateError(message)


def small_tokenizer() -> TemplateTokenizer:
    """Byte-level BPE trained on the prompts themselves, so that it merges across grids and texts where it can."""
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(PATTERN), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    texts = [asdict(preset.format)[name] or "" for preset in PRESETS.values() for name in ("begin", "input", "output")]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([*texts, *["```\n\n", "```\n", "O\n"] * 9], trainer)
    tokenizer.add_special_tokens(list(SPECIAL))
    return TemplateTokenizer(tokenizer, {"bos_token": "<bos>", "eos_token": "<eos>", "chat_template": CHATML})


SMALL = small_tokenizer()
NAMES = (*PRESETS, "chat", "chat-no-system")


def notation_of(name: str) -> Notation:
    return find_preset(name, SMALL).notation(SMALL)


# Texts


def marked(prompt: Prompt) -> str:
    return "".join(f"⟦{span.text}⟧" if span.trained else span.text for span in prompt.spans)


def golden_text(preset: Preset) -> str:
    """All prompts of a preset, what is trained in double brackets."""
    notation = preset.for_tokens("<bos>", "<eos>").notation(SMALL)
    (query,) = TASK.queries
    parts = {
        f"training prompt, encoder {preset.encoder}, loss {preset.loss}": training_prompt(TASK, notation),
        "query prompt": query_prompt(query, notation),
    }
    if preset.inputs:
        parts["input from inputs"] = inputs_prompt(TASK, notation.for_inputs)
    return "".join(f"======== {title}\n{marked(prompt)}\n" for title, prompt in parts.items()) + "======== end\n"


@pytest.mark.parametrize("name", PRESETS)
def test_golden(name: str) -> None:
    """ARC_KAGGLE_WRITE_GOLDEN=1 writes the files anew; what changed is then to be read before it is committed."""
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("ARC_KAGGLE_WRITE_GOLDEN"):
        path.write_text(golden_text(PRESETS[name]), encoding="utf-8")
    assert golden_text(PRESETS[name]) == path.read_text(encoding="utf-8")


def test_no_golden_file_is_left_over() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(PRESETS)


# Tokens and labels


def expected_segments(notation: Notation) -> list[str]:
    """What is trained, from the definition of the losses: grids without what the prompt gives, ends with their stop."""
    fmt, encoder, outputs = notation.format, notation.encoder, [pair.output for pair in TASK.train]
    given = encoder.prefix if fmt.prefill else ""
    texts = [encoder.encode(grid).removeprefix(given) for grid in outputs if grid is not None]
    stop = fmt.stop if fmt.stop is not None else fmt.end if fmt.query_end is None else fmt.query_end
    ends = [fmt.end[: fmt.end.index(stop) + len(stop)] if stop in fmt.end else ""] * (len(texts) - 1)
    last = fmt.end if fmt.query_end is None else fmt.query_end
    segments = [text + end for text, end in zip(texts, [*ends, last[: last.index(stop) + len(stop)]], strict=True)]
    return {"outputs_but_first": segments[1:], "outputs": segments, "last_output": segments[-1:], "everything": []}[
        notation.loss
    ]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", NAMES)
def test_labels_are_exactly_on_what_is_trained(name: str, loss: Loss) -> None:
    notation = replace(notation_of(name), loss=loss)
    prompt = training_prompt(TASK, notation)
    example = tokenize(prompt, SMALL)
    check_example(example, notation, name)
    trained = example.labels != NOT_TRAINED
    assert (example.labels[trained] == example.ids[trained]).all()
    runs = [(k, [int(i) for i, _ in run]) for k, run in groupby(zip(example.ids, trained, strict=True), lambda x: x[1])]
    segments = [SMALL.decode(ids) for is_trained, ids in runs if is_trained]
    assert segments == (expected_segments(notation) or [prompt.text])
    assert SMALL.decode(example.ids.tolist()) == prompt.text


@pytest.mark.parametrize("name", NAMES)
def test_a_query_prompt_is_the_begin_of_its_answered_prompt_and_of_training_prompts(name: str) -> None:
    notation = notation_of(name)
    last = TASK.train[-1]
    assert last.output is not None
    (query,) = Task("leave one out", TASK.train[:-1], (last,)).queries
    asked = query_prompt(query, notation)
    ids = tokenize(asked, SMALL).ids.tolist()
    answered = tokenize(with_answer(asked, last.output, notation), SMALL)
    assert answered.ids.tolist()[: len(ids)] == ids
    assert (answered.labels[: len(ids)] == NOT_TRAINED).all() and (answered.labels[len(ids) :] != NOT_TRAINED).all()
    trained = tokenize(training_prompt(TASK, replace(notation, loss="last_output")), SMALL)
    assert trained.ids.tolist() == answered.ids.tolist() and trained.labels.tolist() == answered.labels.tolist()


@pytest.mark.parametrize("spec", ["minimal", "separated('|')", "rows+minimal", "block+minimal", "shape+rows+minimal"])
@pytest.mark.parametrize("name", NAMES)
def test_answers_come_back_through_tokens(name: str, spec: str) -> None:
    notation = notation_of(name).in_encoder(parse_encoder(spec))
    stop_id = check_notation(notation)
    (query,) = TASK.queries
    asked = query_prompt(query, notation)
    for grid in some_grids():
        answered = tokenize(with_answer(asked, grid, notation), SMALL)
        completion = answered.labels[answered.labels != NOT_TRAINED].tolist()
        assert completion.index(stop_id) == len(completion) - 1
        assert (notation.read(SMALL.decode(completion)) == grid).all()


def some_grids() -> list[Grid]:
    rng = np.random.default_rng(0)
    return [as_grid(rng.integers(0, 10, size=shape).tolist()) for shape in ((1, 1), (1, 30), (30, 1), (7, 5), (30, 30))]


@pytest.mark.parametrize("name", [name for name in NAMES if find_preset(name, SMALL).inputs])
def test_input_from_inputs_is_trained_without_any_output(name: str) -> None:
    notation = notation_of(name).for_inputs
    hidden = Task("t", tuple(type(pair)(pair.input, as_grid([[9] * 9])) for pair in TASK.train), ())
    assert inputs_prompt(TASK, notation) == inputs_prompt(hidden, notation)
    example = tokenize(inputs_prompt(TASK, notation), SMALL)
    check_example(example, notation, name)
    completion = SMALL.decode(example.labels[example.labels != NOT_TRAINED].tolist())
    assert (notation.read(completion) == TASK.train[-1].input).all()


# Finding presets


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(PromptError, match=r"^prompt preset: found 'arc42', the nearest is 'arc24'; there are plain, "):
        preset_of("arc42")


@pytest.mark.parametrize("name", ["plain", "architects"])
def test_a_tokenizer_without_an_end_token_is_refused_where_one_is_needed(name: str) -> None:
    with pytest.raises(PromptError, match=r"^preset: found no eos token in the tokenizer"):
        PRESETS[name].for_tokens("<bos>", None)


def test_a_tokenizer_without_a_begin_token_begins_with_nothing() -> None:
    expected = PromptFormat("", "I", "O", "<eos>", verify="O", right="O", wrong="I")
    assert PRESETS["plain"].for_tokens(None, "<eos>").format == expected
    assert PRESETS["nvarc"].for_tokens(None, None) == PRESETS["nvarc"]


# Chat templates


def chat(template: str, system: str | None = ARC24_SYSTEM) -> PromptFormat:
    tokenizer = TemplateTokenizer(SMALL.tokenizer, {"bos_token": "<bos>", "chat_template": template})
    return chat_format(tokenizer, OUTPUT_FROM_EXAMPLES, system)


@pytest.mark.parametrize(("name", "system"), [("arc24", ARC24_SYSTEM), ("arc24-no-system", None)])
def test_chatml_gives_the_preset(name: str, system: str | None) -> None:
    assert chat(CHATML, system) == PRESETS[name].format


def test_what_a_template_puts_before_an_answer_is_in_the_prompt() -> None:
    thinking = CHATML.replace("m.content", "('<think></think>' if m.role == 'assistant' else '') + m.content")
    assert chat(thinking).query_output == "<|im_end|>\n<|im_start|>assistant\n<think></think>### Output\n\n"


def test_a_chat_asks_for_a_verdict_in_a_second_turn() -> None:
    """What is behind an answer's stop token, up to where a turn that answers begins."""
    fmt = chat(CHATML)
    question = "Is this output the right one for the test case? Answer with yes or no.\n"
    assert fmt.verify == f"\n<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
    assert (fmt.right, fmt.wrong) == ("yes", "no")


@pytest.mark.parametrize(
    "template",
    [
        "{% if messages|length > 3 %}{{ raise_exception('one question') }}{% endif %}" + CHATML,
        CHATML.replace("messages", "messages[:3]"),
        CHATML.replace("'<|im_end|>\n'", "('<|im_end|>\n' if loop.index < 3 or loop.last else '')"),
    ],
    ids=["refuses a second turn", "drops it", "ends an answer otherwise before it"],
)
def test_a_template_without_a_second_turn_asks_for_no_verdict(template: str) -> None:
    fmt = chat(template)
    assert (fmt.verify, fmt.right, fmt.wrong) == (None, None, None)
    assert fmt.query_output == PRESETS["arc24"].format.query_output


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (
            CHATML.replace("m.content", "(m.content if m.role != 'assistant' else '')"),
            r"^chat template: found the text of the assistant turn 0 times in '.*', expected it once; without it there "
            "is no response template: choose a preset",
        ),
        (
            CHATML.replace("m.content", "m.content + (m.content if m.role == 'assistant' else '')"),
            r"^chat template: found the text of the assistant turn 2 times",
        ),
        (CHATML.replace("m.content", "m.content|lower"), r"^chat template: found the text of the system turn 0 times"),
        (CHATML.replace("<|im_end|>", ""), r"^chat template: found no special token in '\\n' behind the turn"),
        (
            "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + CHATML,
            r"^chat template: no system role, expected it to take \['system', 'user', 'assistant'\]",
        ),
    ],
    ids=["drops the answer", "repeats", "changes", "ends without a token", "refuses the system role"],
)
def test_a_template_that_does_not_fit_is_refused(template: str, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        chat(template)


REFUSING = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + CHATML
WITH_SYSTEM = "(system + '\n\n' if loop.last or loop.revindex == 2 else '') + m.content"
MOVING = (
    "{% set system = messages[0].content if messages[0].role == 'system' else '' %}"
    "{% for m in messages if m.role != 'system' %}"
    "{% if m.role == 'user' %}[INST] {{ " + WITH_SYSTEM + " }}[/INST]"
    "{% else %} {{ m.content }}<|im_end|>{% endif %}{% endfor %}"
)
"""As Mistral's: the system text stands in the last question."""
BEHIND = MOVING.replace(WITH_SYSTEM, "m.content + ' ' + system")


def tokenizer_with(template: Any) -> TemplateTokenizer:
    return TemplateTokenizer(SMALL.tokenizer, {"bos_token": "<bos>", "eos_token": "<eos>", "chat_template": template})


def test_a_template_that_refuses_the_system_turn_is_named_the_way_out() -> None:
    tokenizer = tokenizer_with(REFUSING)
    with pytest.raises(PromptError, match=r"no system role, .*; choose --prompt chat-no-system$"):
        find_preset("chat", tokenizer)
    fmt = find_preset("chat-no-system", tokenizer).format
    assert fmt == PRESETS["arc24-no-system"].format


@pytest.mark.parametrize("template", [MOVING, BEHIND], ids=["into the question", "behind the question"])
def test_a_system_turn_that_moves_leaves_no_mark_of_ours(template: str) -> None:
    tokenizer = tokenizer_with(template)
    fmt = find_preset("chat", tokenizer).format
    assert (fmt.begin + (fmt.query_output or "")).count(ARC24_SYSTEM) == 1
    assert "-TEXT-" not in repr(fmt) and fmt.verify is None, "a first question that reads otherwise asks for no verdict"
    assert find_preset("chat-no-system", tokenizer).format.begin.count(ARC24_SYSTEM) == 0


def test_a_tokenizer_without_a_template_has_no_chat() -> None:
    with pytest.raises(PromptError, match=r"^chat template: found none in the tokenizer, expected one; choose"):
        find_preset("chat", tokenizer_with(None))


def test_one_of_several_templates_is_chosen_by_name() -> None:
    tokenizer = tokenizer_with({"plain": CHATML, "inst": MOVING})
    assert find_preset("chat:plain", tokenizer).format == PRESETS["arc24"].format
    assert find_preset("chat-no-system:inst", tokenizer).format.begin.startswith("[INST] ")
    with pytest.raises(PromptError, match=r"^chat template: found no 'tools' in the tokenizer, .*: plain, inst$"):
        find_preset("chat:tools", tokenizer)
    with pytest.raises(PromptError, match=r"^chat template: found no 'tools' in the tokenizer, .*: none by name$"):
        find_preset("chat:tools", SMALL)


def test_the_prefilled_start_of_an_answer_is_an_option() -> None:
    chosen, without = (find_preset(name, SMALL).notation(SMALL) for name in ("chat", "chat+no-prefill"))
    (query,) = TASK.queries
    assert query_prompt(query, chosen).text == query_prompt(query, without).text + "```grid"
    assert without.completion(TASK.train[0].input) == "```grid" + chosen.completion(TASK.train[0].input)
    assert find_preset("plain+prefill", SMALL).format.prefill
    with pytest.raises(
        PromptError, match=r"^prompt: found 'prefil' behind a \+, expected one of prefill, no-prefill, "
    ):
        find_preset("chat+prefil", SMALL)


# Answers among other words


@pytest.mark.parametrize("spec", ["minimal", "rows+minimal", "shape+rows+minimal", "separated('|')"])
def test_the_last_grid_among_other_words_is_found_where_that_is_asked_for(spec: str) -> None:
    strict, lenient = (
        find_preset(name, SMALL).notation(SMALL).in_encoder(parse_encoder(spec)) for name in ("plain", "plain+extract")
    )
    for grid in some_grids():
        other, text = (strict.encoder.encode(each) for each in (as_grid([[9, 9]]), grid))
        wrapped = f"First I saw\n{other}\nSo the answer is:\n{text}\nI am sure.<eos>"
        assert strict.extract(wrapped) is None
        with pytest.raises(DecodeError):
            lenient.read(wrapped)
        found = lenient.extract(wrapped)
        assert found is not None and same_grid(found, grid)
    assert lenient.extract("I do not know.<eos>") is None


def test_a_pattern_finds_an_answer_inside_a_line() -> None:
    notation = find_preset("plain", SMALL).notation(SMALL)
    notation = replace(notation, format=replace(notation.format, extract=r"answer: ([0-9\n]+)"))
    found = notation.extract("answer: 11 no, answer: 12\n34 and answer: 5\n66!<eos>")
    assert found is not None and same_grid(found, as_grid([[1, 2], [3, 4]])), "the last that is a grid"
    with pytest.raises(PromptError, match=r"^prompt format: found extract '\('"):
        replace(notation.format, extract="(")


# The model card


@pytest.mark.parametrize("name", ["arc24", "chat-no-system", "plain+extract"])
def test_a_card_may_name_a_prompt(name: str, tmp_path: Path) -> None:
    (tmp_path / CARD_FILE).write_text(json.dumps({"prompt": name}))
    card = read_card(tmp_path)
    assert card is not None and card.preset(SMALL) == find_preset(name, SMALL) and card.recipe == "lora"
    (tmp_path / CARD_FILE).write_text(json.dumps({"prompt": name, "encoder": "minimal", "loss": "outputs"}))
    card = read_card(tmp_path)
    assert card is not None and (card.preset(SMALL).encoder, card.preset(SMALL).loss) == ("minimal", "outputs")
    write_card(tmp_path, card)
    again = read_card(tmp_path)
    assert again is not None and again.preset(SMALL) == card.preset(SMALL)


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ({}, "found neither prompt nor prompt_format, expected one of the two"),
        (
            {"prompt": "plain", "prompt_format": {"begin": "", "input": "I", "output": "O", "end": "E"}},
            "one of the two",
        ),
        ({"promt": "plain"}, "found 'promt', the nearest that exists is 'prompt'"),
        ({"prompt": "plain", "recipe": []}, r"found \[\] for recipe, expected a text"),
        ({"prompt": "plain", "facts": 3}, "found 3 for facts, expected an object"),
        ({"prompt": "plain", "loss": "none"}, "found 'none' for loss, expected one of outputs_but_first, "),
        ({"prompt": ["plain"]}, r"found \['plain'\] for prompt, expected a text"),
    ],
)
def test_a_card_that_is_wrong_is_refused_by_its_field(card: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / CARD_FILE).write_text(json.dumps(card))
    with pytest.raises(ModelError, match=message):
        read_card(tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_a_card_brings_the_format_back(name: str, tmp_path: Path) -> None:
    fmt = find_preset(name, SMALL).format
    write_card(tmp_path, ModelCard(fmt, "lora", {"steps": 3}))
    card = read_card(tmp_path)
    assert card is not None and card.prompt_format == fmt and (card.recipe, card.facts) == ("lora", {"steps": 3})


def test_a_card_of_four_fields_is_still_read(tmp_path: Path) -> None:
    old = {"begin": "<bos>", "input": "I", "output": "O", "end": "<eos>"}
    (tmp_path / CARD_FILE).write_text(json.dumps({"prompt_format": old, "recipe": "box", "facts": {}}))
    card = read_card(tmp_path)
    assert card is not None and card.prompt_format == PromptFormat("<bos>", "I", "O", "<eos>")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prefil": True}, "found 'prefil', the nearest that exists is 'prefill'"),
        ({"prefill": 1}, "found 1 as 'prefill', expected bool"),
        ({"begin": None}, r"found None as 'begin', expected str"),
        ({"stop": 2}, r"found 2 as 'stop', expected str \| None"),
        ({"stop": "x"}, "found stop 'x' 0 times in the end of an answer"),
        ({"end": ""}, "found no text for `end`"),
    ],
)
def test_a_card_is_read_strictly(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    value = {"begin": "", "input": "I", "output": "O", "end": "E"} | change
    with pytest.raises(PromptError, match=message):
        format_from_json(value)
    (tmp_path / CARD_FILE).write_text(json.dumps({"prompt_format": value, "recipe": "", "facts": {}}))
    with pytest.raises(ModelError, match=message):
        read_card(tmp_path)


@pytest.mark.parametrize("value", [None, [], {"begin": "", "input": "", "end": "E"}])
def test_a_card_that_is_not_whole_is_refused(value: Any) -> None:
    with pytest.raises(PromptError, match=r"^prompt_format: found (None|\[\]), expected an object|found no output"):
        format_from_json(value)


# Real tokenizers


@pytest.fixture(params=["qwen2_5", "llama3_2"])
def real(request: pytest.FixtureRequest, real_tokenizers: Path) -> TemplateTokenizer:
    folder = real_tokenizers / str(request.param)
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    return TemplateTokenizer(Tokenizer.from_file(str(folder / "tokenizer.json")), config)


def is_qwen(tokenizer: TemplateTokenizer) -> bool:
    return tokenizer.bos_token is None


def fitting_notation(name: str, tokenizer: TemplateTokenizer) -> Notation:
    notation = find_preset(name, tokenizer).notation(tokenizer)
    fitting = None if is_qwen(tokenizer) else parse_encoder(notation.encoder.spec.replace("minimal", "repeat(3)"))
    return notation.in_encoder(fitting)


def random_task(seed: int) -> Task:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 31, size=(6, 2))
    grids = [rng.integers(0, 10, size=size).tolist() for size in sizes]
    pairs = [{"input": a, "output": b} for a, b in zip(grids[::2], grids[1::2], strict=True)]
    return task_from_json("random", {"train": pairs, "test": [{"input": grids[0]}]})


def presets_for(tokenizer: TemplateTokenizer) -> list[str]:
    return list(NAMES) if is_qwen(tokenizer) else ["plain", "architects", "chat"]


def test_spans_are_tokenized_as_the_whole_text(real: TemplateTokenizer) -> None:
    """What public checkpoints saw: the text of an example tokenized at once. arc24, chat and inputs: answer alone."""
    for name in presets_for(real):
        notation = fitting_notation(name, real)
        for task in map(random_task, range(5)):
            prompts = [training_prompt(task, notation)]
            prompts += [inputs_prompt(task, notation.for_inputs)] if notation.inputs else []
            prompts += [query_prompt(query, notation) for query in task.queries]
            for prompt in prompts:
                whole = real.encode(prompt.text, add_special_tokens=False)
                assert tokenize(prompt, real).ids.tolist() == whole, name


def test_where_training_begins_or_ends_inside_a_token_ids_differ_there_alone(real: TemplateTokenizer) -> None:
    """A fence and the newlines behind it share a token, which no loss on middle outputs can divide as it is."""
    prompt = training_prompt(TASK, replace(fitting_notation("chat", real), loss="outputs"))
    whole = "|".join(real.decode([i]) for i in real.encode(prompt.text, add_special_tokens=False))
    apart = "|".join(real.decode([i]) for i in tokenize(prompt, real).ids.tolist())
    assert apart != whole
    assert apart.replace("|```|\n\n|##|", "|``|`\n\n|##|") == whole


def test_every_check_passes_on_real_tokenizers(real: TemplateTokenizer) -> None:
    for name in presets_for(real):
        notation = fitting_notation(name, real)
        assert real.decode([check_notation(notation)]) == notation.format.stop_text


def test_llama_needs_another_encoder_and_is_told_which(real: TemplateTokenizer) -> None:
    notation = find_preset("chat", real).notation(real)
    if is_qwen(real):
        check_notation(notation)
        return
    with pytest.raises(PromptError, match=r"fix it: shape\+rows\+repeat\(3\), shape\+rows\+separated\('\|'\)"):
        check_notation(notation)


def test_real_chat_templates(real: TemplateTokenizer) -> None:
    fmt = chat_format(real, OUTPUT_FROM_EXAMPLES, ARC24_SYSTEM)
    if is_qwen(real):
        assert fmt == PRESETS["arc24"].format
        assert chat_format(real, INPUT_FROM_INPUTS, ARC24_SYSTEM) == PRESETS["arc24"].inputs
        assert chat_format(real, OUTPUT_FROM_EXAMPLES, None).begin.startswith("<|im_start|>system\nYou are Qwen, ")
        return
    assert fmt.begin.startswith("<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge")
    assert fmt.query_output == "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n### Output\n\n"
    assert (fmt.query_end, fmt.stop) == ("<|eot_id|>", "<|eot_id|>")
