"""Turns to token ids: the model's own chat template, one piece of ids per turn, recorded and never made twice.

A piece is the template's text in front of a turn plus the turn's own tokens. The template is rendered once over
placeholders; the text between them is the template's, the turns' own text is encoded with every control token in it
neutralised. A turn that was read before keeps the ids it was read with, so a prompt always extends the last one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

from assistant.errors import ModelError
from assistant.protocol import WorkerTurn

_MARK = "\ue100{}\ue101"
_MARKS = re.compile("\ue100(\\d+)\ue101")
_ENDS = (".", "!", "?", "…", "。", "！", "？")
_CONTENT_ONLY = "{{ messages[0]['content'] }}"


@dataclass(frozen=True, slots=True)
class Prompt:
    """`pieces` are the ids of each turn; `opening` is what the template puts before a reply; `prefix` is the length
    of the system prompt in tokens."""

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


def build_prompt(tokenizer: Any, turns: Sequence[WorkerTurn], *, reply: bool) -> Prompt:
    """The prompt of a conversation; with `reply`, ending where the assistant's reply begins.

    Raises:
        ModelError: the template does not show every turn in order.
    """
    scaffold = _scaffold(tokenizer, turns, reply)
    heads = [
        _encode_template(tokenizer, text) if turn.token_ids is None else [] for text, turn in _zip(scaffold, turns)
    ]
    pieces = [
        turn.token_ids or head + encode_text(tokenizer, turn.text) for head, turn in zip(heads, turns, strict=True)
    ]
    system = turns[0].role == "system"
    prefix = len(pieces[0]) if system else len(_encode_template(tokenizer, scaffold[0]))
    return Prompt(pieces, _encode_template(tokenizer, scaffold[-1]) if reply else [], prefix)


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


def _scaffold(tokenizer: Any, turns: Sequence[WorkerTurn], reply: bool) -> list[str]:
    """The template's text before each turn, and after the last one."""
    expected = [str(index) for index in range(len(turns))]
    for messages in (_messages(turns), _messages(turns, fold_system=True)):
        try:
            text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=reply)
        except Exception as error:  # a template refuses with whatever jinja raises
            problem = f"the model's chat template refused it: {error}"
            continue
        parts = _MARKS.split(text)
        if parts[1::2] == expected:
            return list(parts[::2])
        problem = "the model's chat template does not show every turn once and in order"
    raise ModelError(f"This conversation cannot be written for this model: {problem}.")


def _messages(turns: Sequence[WorkerTurn], *, fold_system: bool = False) -> list[dict[str, str]]:
    """Messages of placeholders; neighbours of one role become one message, as most templates alternate roles."""
    roles = [_role(turn.role, fold_system) for turn in turns]
    groups = groupby(range(len(turns)), key=lambda index: roles[index])
    return [{"role": role, "content": _content(turns, list(group))} for role, group in groups]


def _role(role: str, fold_system: bool) -> str:
    return "user" if role == "transcript" or (fold_system and role == "system") else role


def _content(turns: Sequence[WorkerTurn], group: list[int]) -> str:
    text = _MARK.format(group[0])
    for before, index in pairwise(group):
        between = "\n" if turns[before].role == turns[index].role == "transcript" else "\n\n"
        text += between + _MARK.format(index)
    return text


def _encode_template(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False))


def _zip(scaffold: list[str], turns: Sequence[WorkerTurn]) -> zip[tuple[str, WorkerTurn]]:
    return zip(scaffold[:-1], turns, strict=True)
