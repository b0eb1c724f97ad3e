"""Vectors of texts for whoever asks: by the embedding model that the episodes use, or one of its own without them."""

from __future__ import annotations

from assistant.errors import AssistantError, BudgetError, UsageError
from assistant.protocol import Embed, Embedded
from assistant.worker.loader import Loaded
from memory.encoder import Encoder
from memory.errors import TextTooLong
from memory.minilm import EncoderMissing


def embed(loaded: Loaded | None, request: Embed) -> Embedded:
    """Unit vectors of the texts. Without a loaded model the embedding model is mapped for this request alone.

    Raises:
        BudgetError: the budget of the loaded model has no room for the embedding model.
        UsageError: a text does not fit it; the cause says how much too long it is.
    """
    encoder = _encoder(loaded)
    try:
        ids = [encoder.whole(text) for text in request.texts]
    except TextTooLong as error:
        raise UsageError(str(error)) from error
    return Embedded(vectors=encoder.embed_ids(ids).tolist(), tokens=sum(map(len, ids)))


def _encoder(loaded: Loaded | None) -> Encoder:
    if loaded is not None and loaded.episodes.encoder is not None:
        return loaded.episodes.encoder
    if loaded is not None and loaded.episodes.reason is not None:
        raise BudgetError(f"Nothing can be embedded beside {loaded.spec.id}. {loaded.episodes.reason}")
    try:
        return Encoder.load()
    except EncoderMissing as error:
        raise AssistantError(str(error)) from error
