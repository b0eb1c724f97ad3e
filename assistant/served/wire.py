"""What a server sends, as far as we read it. Servers add to OpenAI's shapes: what is not named here is ignored."""

from __future__ import annotations

import re

from pydantic import BaseModel, Field

_TOO_LONG = re.compile(r"context (length|size|window)|maximum context", re.IGNORECASE)


class CalledPart(BaseModel):
    """A part of the function that a call names."""

    name: str | None = None
    arguments: str | None = None


class CallPart(BaseModel):
    """A part of the call number `index`; of some servers every call has number 0, and an id of its own."""

    index: int = Field(0, ge=0, lt=128)
    id: str | None = None
    function: CalledPart = CalledPart()


class Likely(BaseModel):
    """A token and its log probability."""

    token: str
    logprob: float


class Chosen(Likely):
    """The token that was taken, with others in its place."""

    top_logprobs: list[Likely] = []


class Likelihoods(BaseModel):
    """Log probabilities of the tokens of one piece."""

    content: list[Chosen] | None = None


class Delta(BaseModel):
    """What one event adds to the reply; servers name what is thought aloud in two ways."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[CallPart] | None = None


class Choice(BaseModel):
    """The one reply."""

    delta: Delta = Delta()
    finish_reason: str | None = None
    logprobs: Likelihoods | None = None


class CachedPart(BaseModel):
    """How much of a prompt the server did not read again."""

    cached_tokens: int | None = None


class Spent(BaseModel):
    """Tokens as the server counts them."""

    prompt_tokens: int = Field(ge=0)
    completion_tokens: int = Field(0, ge=0)
    prompt_tokens_details: CachedPart | None = None

    @property
    def cached(self) -> int:
        """Tokens that were not read again; 0 where the server does not say."""
        return (self.prompt_tokens_details and self.prompt_tokens_details.cached_tokens) or 0


class Refusal(BaseModel):
    """Why a request failed."""

    message: str = ""
    code: str | int | None = None
    type: str | None = None

    @property
    def too_long(self) -> bool:
        """Whether the prompt is longer than the model reads, in the words of OpenAI, vLLM, llama.cpp and its Python."""
        known = {self.code, self.type} & {"context_length_exceeded", "exceed_context_size_error"}
        return bool(known or _TOO_LONG.search(self.message))


class Refused(BaseModel):
    """The body of a refusal: in OpenAI's shape, or flat as some servers write it."""

    object: str | None = None
    error: Refusal | str | None = None
    message: str | None = None

    @property
    def refusal(self) -> Refusal | None:
        """What went wrong; None where nothing did."""
        if isinstance(self.error, Refusal):
            return self.error
        if self.error is not None:
            return Refusal(message=self.error)
        return Refusal(message=self.message or "") if self.object == "error" else None


class Chunk(Refused):
    """One event of a stream."""

    choices: list[Choice] = []
    usage: Spent | None = None


class Listed(BaseModel):
    """A model of the server; some say how many tokens it reads."""

    id: str
    max_model_len: int | None = Field(None, ge=1)
    context_length: int | None = Field(None, ge=1)

    @property
    def context(self) -> int | None:
        """Tokens of prompt and reply, where the server says."""
        return self.max_model_len or self.context_length


class ModelList(BaseModel):
    """All of them."""

    data: list[Listed]
