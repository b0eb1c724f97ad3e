"""What several endpoints of OpenAI's API have in common on the wire. Their shapes are OpenAI's, not ours."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from assistant.daemon.v1.errors import ApiError
from assistant.protocol import (
    MAX_TEXT,
    Alternatives,
    MinP,
    RepetitionPenalty,
    Sampling,
    Seed,
    Temperature,
    TokenLogprob,
    TopK,
    TopP,
    Usage,
)

MOST_MESSAGES = 100_000
ModelName = Annotated[str, Field(min_length=1, max_length=512)]
Text = Annotated[str, Field(max_length=MAX_TEXT)]
Schema = dict[str, Any]


class Input(BaseModel):
    """Base of what comes in: numbers are numbers, and fields that are not listed are kept to be judged."""

    model_config = ConfigDict(extra="allow", strict=True)


def _tell_all(schema: dict[str, Any], asked: type[Asked]) -> None:
    """The schema of a request with what is accepted beside its fields, and that nothing else is."""
    ignored = {name: {"description": "Accepted without effect."} for name in sorted(asked.IGNORED)}
    fixed = {name: {"enum": [None, *values]} for name, values in asked.WITHOUT_EFFECT.items()}
    schema["properties"] |= ignored | fixed
    schema["additionalProperties"] = False


class Asked(Input):
    """Base of request bodies. What clients send that changes nothing about the answer is `IGNORED`; anything else that
    is not a field is refused by name."""

    model_config = ConfigDict(json_schema_extra=_tell_all)

    IGNORED: ClassVar[frozenset[str]] = frozenset()
    WITHOUT_EFFECT: ClassVar[dict[str, tuple[Any, ...]]] = {}
    """Fields that we cannot follow, and their values that ask for nothing."""

    def refuse_foreign(self) -> None:
        """Refuse what would change the answer and cannot be done.

        Raises:
            ApiError: naming the field.
        """
        for name, value in (self.model_extra or {}).items():
            nothing = value is None or name in self.IGNORED
            if not nothing and value not in self.WITHOUT_EFFECT.get(name, ()):
                told = "is not supported here" if name in self.WITHOUT_EFFECT else "is not known here"
                raise ApiError(f"The field {name!r} {told}. See docs/api.md.", param=name, code="unsupported_parameter")


class Decoding(Asked):
    """How a reply is to be written. `top_k`, `min_p` and `repetition_penalty` are ours."""

    model: ModelName
    stream: bool | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    top_k: TopK | None = None
    min_p: MinP | None = None
    repetition_penalty: RepetitionPenalty | None = None
    seed: Seed | None = None
    top_logprobs: Alternatives | None = None
    parallel_tool_calls: bool | None = None

    def sampling(self, max_tokens: int | None, stop: list[str] | None = None) -> Sampling:
        """The decoding parameters; what the request leaves open is not set."""
        names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed")
        given = {name: getattr(self, name) for name in names} | {"max_tokens": max_tokens, "stop": stop}
        return Sampling(**{name: value for name, value in given.items() if value is not None})


class Part(Input):
    """A part of a message."""

    type: str = Field(max_length=40)
    text: Text | None = None


class Function(Input):
    """A tool as the model is told of it."""

    name: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$")
    description: str | None = Field(None, max_length=8192)
    parameters: Schema | None = None


class JsonSchema(Input):
    """The schema that a reply is to follow."""

    name: str = Field(max_length=64)
    schema_: Schema | None = Field(None, alias="schema")


class NoReasoning(BaseModel):
    """Thoughts are part of the text here."""

    reasoning_tokens: Literal[0] = 0


class CachedTokens(BaseModel):
    """Of the prompt's tokens, those that were not read again."""

    cached_tokens: int


class Spent(Usage):
    """Our whole usage record, the conversation that the reply is in, and why calls in it cannot be made."""

    conversation: str
    problems: list[str] = Field(default_factory=list)


class TopLogprob(BaseModel):
    """A token, and the logarithm of its probability. `bytes` is null where it is a part of a character."""

    token: str
    logprob: float
    bytes: list[int] | None


class Logprob(TopLogprob):
    """A token that was chosen, and likely ones in its place."""

    top_logprobs: list[TopLogprob]


def logprob(told: TokenLogprob) -> Logprob:
    """What the worker tells of a token."""
    top = [TopLogprob(token=one.token, logprob=one.logprob, bytes=_bytes(one.token)) for one in told.top]
    return Logprob(token=told.token, logprob=told.logprob, bytes=_bytes(told.token), top_logprobs=top)


def _bytes(token: str) -> list[int] | None:
    return None if "\ufffd" in token else list(token.encode("utf-8", "replace"))
