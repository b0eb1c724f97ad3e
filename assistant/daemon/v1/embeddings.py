"""/v1/embeddings: vectors of texts by the embedding model that divides conversations into episodes."""

from __future__ import annotations

import base64
import struct
from typing import ClassVar, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from assistant.daemon.service import Service
from assistant.daemon.v1.errors import ApiError, failure
from assistant.daemon.v1.wire import Asked, ModelName, Text
from assistant.orders import Embedded
from assistant.protocol import Failed
from memory.minilm import DIMENSIONS, NAME

MOST_TEXTS = 2048


class EmbeddingRequest(Asked):
    """POST /v1/embeddings."""

    IGNORED: ClassVar[frozenset[str]] = frozenset({"user"})

    model: ModelName
    input: Text | list[Text] | list[int] | list[list[int]]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(None, ge=1, le=65_536)


class Embedding(BaseModel):
    """The vector of one text: numbers, or 32-bit little-endian floats in base64."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingUsage(BaseModel):
    """Tokens that were read."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(BaseModel):
    """One vector for each text, in order."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


def add_embeddings(router: APIRouter, service: Service) -> None:
    """The route."""

    @router.post("/embeddings")
    async def embeddings(body: EmbeddingRequest) -> EmbeddingList:
        answer = await service.embed(_texts(body))
        if isinstance(answer, Failed):
            raise failure(answer, "input")
        assert isinstance(answer, Embedded)
        encode = _base64 if body.encoding_format == "base64" else list[float]
        return EmbeddingList(
            data=[Embedding(index=at, embedding=encode(vector)) for at, vector in enumerate(answer.vectors)],
            model=NAME,
            usage=EmbeddingUsage(prompt_tokens=answer.tokens, total_tokens=answer.tokens),
        )


def _texts(body: EmbeddingRequest) -> list[str]:
    """The texts of a request that can be followed."""
    body.refuse_foreign()
    if body.model.lower() != NAME.lower():
        raise ApiError(
            f"Embeddings are made by the model {NAME}, not by {body.model!r}.",
            404,
            param="model",
            code="model_not_found",
        )
    if body.dimensions not in (None, DIMENSIONS):
        raise ApiError(f"The vectors of {NAME} have {DIMENSIONS} dimensions.", param="dimensions")
    texts = [body.input] if isinstance(body.input, str) else body.input
    said = [text for text in texts if isinstance(text, str) and text.strip()]
    if len(said) < len(texts) or not 0 < len(texts) <= MOST_TEXTS:
        raise ApiError(
            f"'input' must be a text or a list of 1 to {MOST_TEXTS} texts that say something (no token ids).",
            param="input",
        )
    return said


def _base64(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
