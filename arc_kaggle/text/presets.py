"""Prompt formats by name: those of public checkpoints, and one for the chat template of any other model.

Texts are exactly those that the checkpoints were trained on. None but `plain` has been run on its weights yet.

arc24               ironbar's arc24, prompting.py, output-from-examples-v1 and input-from-inputs-v0, on ChatML (Qwen2.5)
arc24-no-system     the same without the system turn
architects          da-fr's arc-prize-2024: 48 letters, then I grid, +/-=O grid, without a chat
nvarc               NVARC 2025's QwenFormatter: ChatML with no newline between turns; its checkpoint's 16 tokens hold
                    each role with the newline behind it as one token

Verdicts are no part of what those checkpoints were trained on: `TuneConfig.verify_share` has to train them. arc24 and
chats ask in words, `plain` by an O where an I would come, `architects` by Q, Y and N of its 48 letters. `nvarc` has no
token to spare for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import Any, Protocol

from arc_kaggle.config.tune import Loss
from arc_kaggle.errors import PromptError
from arc_kaggle.text.encoders import parse_encoder
from arc_kaggle.text.notation import Notation
from arc_kaggle.text.prompt_format import PromptFormat
from arc_kaggle.text.tokens import Tokenizer

Messages = list[dict[str, str]]

SYSTEM, USER, ANSWER, ASK, VERDICT = (
    f"{role}-TEXT-{digits}"
    for role, digits in (("SYSTEM", "0c51"), ("USER", "7f3a"), ("ANSWER", "e92b"), ("ASK", "41d0"), ("VERDICT", "b86c"))
)
"""Sentinels that stand in place of the texts of a chat; no chat template contains them."""


@dataclass(frozen=True, slots=True)
class Preset:
    """A prompt format, the encoder and the loss it was trained with, and a format for input from inputs.

    Texts may hold `{bos}` and `{eos}`, the begin and end tokens of whatever tokenizer they are used with.
    """

    format: PromptFormat
    encoder: str = "minimal"
    loss: Loss = "outputs_but_first"
    inputs: PromptFormat | None = None

    def for_tokens(self, bos: str | None, eos: str | None) -> Preset:
        """The preset with a tokenizer's own begin and end tokens. Raises PromptError where it needs an end token."""
        if eos is None and "{eos}" in repr(self):
            raise PromptError("preset: found no eos token in the tokenizer, expected one to end answers with")
        tokens = {"{bos}": bos or "", "{eos}": eos or ""}
        inputs = None if self.inputs is None else _filled(self.inputs, tokens)
        return replace(self, format=_filled(self.format, tokens), inputs=inputs)

    def notation(self, tokenizer: Tokenizer) -> Notation:
        """The preset as one tokenizer writes it. Raises ConfigError for an encoder that does not exist."""
        return Notation(parse_encoder(self.encoder), self.format, tokenizer, self.loss, self.inputs)


def _filled(fmt: PromptFormat, tokens: dict[str, str]) -> PromptFormat:
    changes: dict[str, Any] = {}
    for name in (field.name for field in fields(fmt)):
        if isinstance(text := getattr(fmt, name), str):
            for mark, token in tokens.items():
                text = text.replace(mark, token)
            changes[name] = text
    return replace(fmt, **changes)


@dataclass(frozen=True, slots=True)
class ChatTexts:
    """The texts of a chat around the grids: a user turn with the examples and the question, and a turn that answers."""

    begin: str
    input: str
    output: str
    end: str
    query_input: str
    answer: str
    """The text with which the answering turn begins."""
    verify: str = ""
    """The question of a second turn, whether the answer is right; empty for no such turn."""
    against: str = ""
    """The question of a second turn for another answer, with which the first is compared."""
    choose: str = ""
    """The question of a third turn, whether the first of two answers is right."""


class ChatTokenizer(Protocol):
    """The part of a Hugging Face tokenizer with a chat template that is used here."""

    all_special_tokens: Sequence[str]

    def apply_chat_template(
        self, conversation: Messages, *, tokenize: bool, add_generation_prompt: bool, **options: Any
    ) -> Any: ...


def chat_format(
    tokenizer: ChatTokenizer, texts: ChatTexts, system: str | None, template: str | None = None
) -> PromptFormat:
    """The prompt format of a tokenizer's own chat template. Raises PromptError where the template does not fit.

    The template is rendered once with sentinels and cut at them; without a system text it may add its own. It may
    write today's date too, as Llama 3's does: keep the format (in the model card) instead of making it anew.
    `template` names one of a tokenizer's several templates, `default` where it is not given.
    """
    if getattr(tokenizer, "chat_template", None) is None:
        raise PromptError("chat template: found none in the tokenizer, expected one; choose a preset, such as plain")
    named: dict[str, Any] = {} if template is None else {"chat_template": _template(tokenizer, template)}

    def render(messages: Messages) -> str:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=False, **named))

    return cut_chat(render, tokenizer.all_special_tokens, texts, system)


def _template(tokenizer: Any, name: str) -> str:
    """One of a tokenizer's templates by its name. Raises PromptError."""
    known = tokenizer.chat_template if isinstance(tokenizer.chat_template, dict) else {}
    if name not in known:
        names = ", ".join(known) or "none by name"
        raise PromptError(f"chat template: found no {name!r} in the tokenizer, expected one of its own: {names}")
    return str(known[name])


def cut_chat(
    render: Callable[[Messages], str], special_tokens: Sequence[str], texts: ChatTexts, system: str | None
) -> PromptFormat:
    """The prompt format of a chat that `render` writes; an answer ends with the first special token behind it."""
    messages = [("system", SYSTEM)] * (system is not None) + [("user", USER), ("assistant", ANSWER)]
    hint = "choose --prompt chat-no-system" if system is not None else "choose a preset, or write a format"
    try:
        text = render([{"role": role, "content": content} for role, content in messages])
    except Exception as error:  # templates raise what they like, for a role that they do not know too
        raise PromptError(
            f"chat template: {error}, expected it to take {[role for role, _ in messages]}; {hint}"
        ) from error
    for role, sentinel in messages:
        if text.count(sentinel) != 1:
            raise PromptError(
                f"chat template: found the text of the {role} turn {text.count(sentinel)} times in {text[-300:]!r}, "
                f"expected it once; without it there is no response template: "
                f"{hint if role == 'system' else 'choose a preset, or write a format'}"
            )
    before, between, end = _around(text, system)
    begin = before + texts.begin
    stop = min((token for token in special_tokens if token and token in end), key=end.index, default="")
    if not stop:
        raise PromptError(
            f"chat template: found no special token in {end!r} behind the turn that answers, expected one that "
            "ends answers; choose a preset, or write a format"
        )
    fmt = PromptFormat(
        begin, texts.input, texts.output, texts.end, texts.query_input, between + texts.answer, end, stop, prefill=True
    )
    verify = _second_turn(render, fmt, messages, texts.verify)
    if verify is None:
        return fmt
    against, choose = (_second_turn(render, fmt, messages, text) for text in (texts.against, texts.choose))
    against = against and against + texts.answer
    return replace(fmt, verify=verify, right=YES, wrong=NO, against=against, choose=choose)


def _around(text: str, system: str | None) -> tuple[str, str, str]:
    """The text before the user's words, between these and the answer, and behind it, wherever the system text went."""
    if not text.index(USER) < text.index(ANSWER):
        raise PromptError(f"chat template: found the answer before the question in {text[-300:]!r}, expected it behind")
    before, _, rest = text.partition(USER)
    between, _, end = rest.partition(ANSWER)
    before, between, end = (part.replace(SYSTEM, system or "") for part in (before, between, end))
    return before, between, end


def _second_turn(
    render: Callable[[Messages], str], fmt: PromptFormat, messages: Sequence[tuple[str, str]], question: str
) -> str | None:
    """The text between an answer's stop token and the turn behind it; None where the template has no such turn."""
    longer = [*messages, ("user", ASK), ("assistant", VERDICT)]
    try:
        text = render([{"role": role, "content": content} for role, content in longer])
    except Exception:  # templates raise what they like; a model with such a one is asked for no verdict
        return None
    between = text.partition(ANSWER)[2].partition(VERDICT)[0]
    if not question or not between.startswith(fmt.answer_end) or between.count(ASK) != 1 or VERDICT not in text:
        return None
    if SYSTEM in between:  # the system text went to the last question, so that the first one reads otherwise
        return None
    return between.removeprefix(fmt.answer_end).replace(ASK, question)


OUTPUT_FROM_EXAMPLES = ChatTexts(
    begin="Let's see if you can solve this simple Abstraction and Reasoning Challenge (ARC) task.\n"
    "Below there are some input-output grid examples that define the task.\n"
    "Your job is to understand the transformation between the input and the output and apply it to the test input "
    "grid.\n"
    "The transformations are always based on the following priors: objectness, goal-directed, numbers & counting, "
    "and basic geometry & topology.\n",
    input="\n## Example {i}\n\n### Input\n\n",
    output="\n\n### Output\n\n",
    end="\n",
    query_input="\n## Test case\n\n### Input\n\n",
    answer="### Output\n\n",
    verify="Is this output the right one for the test case? Answer with yes or no.\n",
    against="Give another output for the test case.\n",
    choose="Is the first of these two outputs the right one for the test case? Answer with yes or no.\n",
)
YES, NO = "yes", "no"
"""The two verdicts in a chat."""

INPUT_FROM_INPUTS = ChatTexts(
    begin="Your task is to create a new grid that follows the same distribution as the input grids from the "
    "Abstraction and Reasoning Challenge (ARC).\n"
    "Below there are some grid examples, please create a new and different grid that follows the same distribution.\n",
    input="\n## Grid example {i}\n\n",
    output="",
    end="\n",
    query_input="",
    answer="## New grid\n\n",
)

ARC24_SYSTEM = "You are a helpful assistant."
ARC24_ENCODER = "shape+rows+minimal"
CHATS = {"chat": ARC24_SYSTEM, "chat-no-system": None}
"""The system text of prompts in a tokenizer's own chat template, by their names."""


def _chatml(messages: Messages) -> str:
    return "".join(f"<|im_start|>{turn['role']}\n{turn['content']}<|im_end|>\n" for turn in messages)


def _arc24(system: str | None) -> Preset:
    output, inputs = (
        cut_chat(_chatml, ["<|im_end|>"], texts, system) for texts in (OUTPUT_FROM_EXAMPLES, INPUT_FROM_INPUTS)
    )
    return Preset(output, ARC24_ENCODER, "last_output", inputs)


PRESETS = {
    "plain": Preset(
        PromptFormat("{bos}", "I", "O", "{eos}", verify="O", right="O", wrong="I"),
        inputs=PromptFormat("{bos}", "I", "", "{eos}"),
    ),
    "arc24": _arc24(ARC24_SYSTEM),
    "arc24-no-system": _arc24(None),
    "architects": Preset(
        PromptFormat(
            begin="{bos}ABCDEFGHJKLMNPQRSTUVWXYZabcdefghjklmnpqrstuvwxyz",
            input="I",
            output="\n+/-=O",
            end="\n{eos}",
            stop="{eos}",
            verify="Q",
            right="Y",
            wrong="N",
        )
    ),
    "nvarc": Preset(
        PromptFormat("", "<|im_start|>user\n", "<|im_end|><|im_start|>assistant\n", "<|im_end|>"), loss="outputs"
    ),
}


CHANGES: dict[str, dict[str, Any]] = {
    "prefill": {"prefill": True},
    "no-prefill": {"prefill": False},
    "extract": {"extract": "lines"},
}
"""The changes that can be added to the name of a prompt, with the fields of its format that each one sets."""


def find_preset(name: str, tokenizer: Any) -> Preset:
    """A preset by name for a tokenizer, with what is added by `+`, as in `chat+no-prefill+extract`.

    `chat` is arc24's texts in the tokenizer's own chat template, `chat-no-system` the same without a system turn, and
    `chat:NAME` another of its templates. Raises PromptError for an unknown name, or where the tokenizer lacks what the
    preset needs.
    """
    name, *added = name.split("+")
    kind, _, template = name.partition(":")
    if kind in CHATS:
        output, inputs = (
            chat_format(tokenizer, texts, CHATS[kind], template or None)
            for texts in (OUTPUT_FROM_EXAMPLES, INPUT_FROM_INPUTS)
        )
        preset = replace(PRESETS["arc24"], format=output, inputs=inputs)
    else:
        preset = preset_of(name).for_tokens(tokenizer.bos_token, tokenizer.eos_token)
    return changed(preset, added)


def changed(preset: Preset, added: Sequence[str]) -> Preset:
    """A preset with some of CHANGES. Raises PromptError for a name that is none of them."""
    for name in added:
        if name not in CHANGES:
            raise PromptError(f"prompt: found {name!r} behind a +, expected one of {', '.join(CHANGES)}")
        inputs = None if preset.inputs is None else replace(preset.inputs, **CHANGES[name])
        preset = replace(preset, format=replace(preset.format, **CHANGES[name]), inputs=inputs)
    return preset


def preset_of(name: str) -> Preset:
    """A preset by name, its `{bos}` and `{eos}` still to be filled by `for_tokens`. Raises PromptError."""
    if name not in PRESETS:
        nearest = get_close_matches(name, PRESETS, n=1, cutoff=0.0)[0]
        known = ", ".join([*PRESETS, *CHATS])
        raise PromptError(f"prompt preset: found {name!r}, the nearest is {nearest!r}; there are {known}")
    return PRESETS[name]
