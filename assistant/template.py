"""Turns to token ids: the model's own chat template, one piece of ids per turn, recorded and never made twice.

A piece is the template's text in front of a turn plus the turn's own tokens. The template is rendered once over
placeholders; the text between them is the template's, the turns' own text is encoded with every control token in it
neutralised. A turn that was read before keeps the ids it was read with, so a prompt always extends the last one.
Tools are shown by the template where it knows how, else as part of the system prompt (`assistant.toolprompt`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby, pairwise
from typing import Any

from assistant.errors import ModelError
from assistant.orders import WorkerTurn
from assistant.protocol import ToolSpec
from assistant.toolprompt import RESULT, ToolPrompt

_MARK = "\ue100{}\ue101"
_MARKS = re.compile("\ue100(\\d+)\ue101")
_ENDS = (".", "!", "?", "…", "。", "！", "？")
_CONTENT_ONLY = "{{ messages[0]['content'] }}"


@dataclass(frozen=True, slots=True)
class Prompt:
    """`pieces` are the ids of each turn; `opening` is what the template puts before a reply; `prefix` is the length
    of the system prompt in tokens, tools included."""

    pieces: list[list[int]]
    opening: list[int]
    prefix: int

    @property
    def ids(self) -> list[int]:
        """All ids, in order, ready to be read."""
        return [token for piece in self.pieces for token in piece] + self.opening


def prepare_tokenizer(tokenizer: Any) -> None:
    """Make every added token a control token, so that none of them can be written by a user's text.

    Raises:
        ModelError: the tokenizer has no chat template.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise ModelError("The model has no chat template, so it cannot hold a conversation. Use an instruct model.")
    if tokenizer.chat_control_tokens is None:
        tokenizer.chat_control_tokens = [token for token in tokenizer.added_tokens_encoder if not token.isspace()]


def build_prompt(tokenizer: Any, turns: Sequence[WorkerTurn], *, reply: bool, tools: Sequence[ToolSpec] = ()) -> Prompt:
    """The prompt of a conversation; with `reply`, ending where the assistant's reply begins.

    The same tools in the same order give the same ids: whoever changes them has read their text for nothing.

    Raises:
        ModelError: the template does not show every turn in order.
    """
    shown = ToolPrompt(tokenizer, tools)
    scaffold = _scaffold(tokenizer, turns, reply, shown)
    encode = partial(
        shown.encode, template=partial(_encode_template, tokenizer), foreign=partial(encode_text, tokenizer)
    )
    heads = [encode(text) if turn.token_ids is None else [] for text, turn in _zip(scaffold, turns)]
    pieces = [
        turn.token_ids or head + encode_text(tokenizer, turn.text) for head, turn in zip(heads, turns, strict=True)
    ]
    return Prompt(pieces, encode(scaffold[-1]) if reply else [], _prefix(turns, pieces, scaffold, shown, encode))


def _prefix(
    turns: Sequence[WorkerTurn],
    pieces: list[list[int]],
    scaffold: list[str],
    shown: ToolPrompt,
    encode: Callable[[str], list[int]],
) -> int:
    """Tokens up to the first turn that is not the system's; a template may show tools behind the system prompt."""
    if turns[0].role != "system":
        return len(encode(scaffold[0]))
    behind = bool(shown.functions) and len(turns) > 1 and not shown.shown(scaffold[0])
    return len(pieces[0]) + (len(encode(scaffold[1])) if behind else 0)


def encode_text(tokenizer: Any, text: str) -> list[int]:
    """Ids of a user's text: control tokens in it become ordinary text (transformers' own neutralisation)."""
    clean = text.encode("utf-8", "replace").decode("utf-8")
    message = [{"role": "user", "content": clean}]
    encoded = tokenizer.apply_chat_template(message, chat_template=_CONTENT_ONLY, sanitize_control_tokens=True)
    return list(encoded["input_ids"])


def sentence_ends(tokenizer: Any) -> frozenset[int]:
    """Tokens that end a sentence: those that end with a full stop, a question or exclamation mark, or break a line."""
    texts = tokenizer.batch_decode([[token] for token in range(len(tokenizer))])
    return frozenset(token for token, text in enumerate(texts) if "\n" in text or text.rstrip().endswith(_ENDS))


def _scaffold(tokenizer: Any, turns: Sequence[WorkerTurn], reply: bool, shown: ToolPrompt) -> list[str]:
    """The template's text before each turn, and after the last one."""
    expected = [str(index) for index in range(len(turns))]
    problem = ""
    for way in _ways(turns, shown):
        try:
            text = tokenizer.apply_chat_template(
                _messages(turns, way, shown),
                tools=(shown.functions or None) if way.native else None,
                tokenize=False,
                add_generation_prompt=reply,
            )
        except Exception as error:  # a template refuses with whatever jinja raises
            problem = f"the model's chat template refused it: {error}"
            continue
        parts = _MARKS.split(text)
        if parts[1::2] == expected and shown.shown(text):
            return list(parts[::2])
        problem = "the model's chat template does not show every turn once and in order"
    raise ModelError(f"This conversation cannot be written for this model: {problem}.")


@dataclass(frozen=True, slots=True)
class _Way:
    """`native`: the template is given the tools and their results as such; `fold_system`: it has no system role."""

    native: bool
    fold_system: bool


def _ways(turns: Sequence[WorkerTurn], shown: ToolPrompt) -> list[_Way]:
    """How the template may show this, the best first."""
    tools = bool(shown.functions) or any(turn.role == "tool" for turn in turns)
    native = (True, False) if tools and shown.native else (False,)
    return [_Way(own, fold) for own in native for fold in (False, True)]


def _messages(turns: Sequence[WorkerTurn], way: _Way, shown: ToolPrompt) -> list[dict[str, str]]:
    """Messages of placeholders; neighbours of one role become one message, as most templates alternate roles. Only
    tool results stay apart where the template knows them: it groups them itself."""
    roles = [_role(turn.role, way) for turn in turns]
    groups = groupby(range(len(turns)), key=lambda index: (roles[index], index if roles[index] == "tool" else 0))
    messages = [{"role": role, "content": _content(turns, list(group), way)} for (role, _), group in groups]
    return messages if way.native else _with_tools(messages, shown.written(), way)


def _with_tools(messages: list[dict[str, str]], text: str, way: _Way) -> list[dict[str, str]]:
    """Messages that begin with the tools in words, where there are any."""
    first = messages[0]
    if not text:
        return messages
    if first["role"] == "system" or (way.fold_system and first["role"] == "user"):
        return [first | {"content": f"{text}\n\n{first['content']}"}, *messages[1:]]
    return [{"role": "user" if way.fold_system else "system", "content": text}, *messages]


def _role(role: str, way: _Way) -> str:
    if role == "transcript" or (way.fold_system and role == "system") or (not way.native and role == "tool"):
        return "user"
    return role


def _content(turns: Sequence[WorkerTurn], group: list[int], way: _Way) -> str:
    text = _shown(turns, group[0], way)
    for before, index in pairwise(group):
        between = "\n" if turns[before].role == turns[index].role == "transcript" else "\n\n"
        text += between + _shown(turns, index, way)
    return text


def _shown(turns: Sequence[WorkerTurn], index: int, way: _Way) -> str:
    label = RESULT if turns[index].role == "tool" and not way.native else ""
    return label + _MARK.format(index)


def _encode_template(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False))


def _zip(scaffold: list[str], turns: Sequence[WorkerTurn]) -> zip[tuple[str, WorkerTurn]]:
    return zip(scaffold[:-1], turns, strict=True)
