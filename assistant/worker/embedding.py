"""Vectors of texts: by the embedding model that the episodes use, or while no model is loaded by one of its own."""

from __future__ import annotations

from assistant.errors import AssistantError, BudgetError, UsageError
from assistant.orders import Embed, Embedded
from assistant.worker.loader import Loaded
from assistant.worker.served import Served
from memory.encoder import Encoder
from memory.errors import TextTooLong
from memory.minilm import EncoderMissing


class Embedder:
    """The embedding model of a worker. `embed` may be called from any thread."""

    def __init__(self) -> None:
        self._own: Encoder | None = None

    def embed(self, loaded: Loaded | Served | None, request: Embed) -> Embedded:
        """Unit vectors of the texts.

        Raises:
            BudgetError: the budget of the loaded model has no room for the embedding model.
            UsageError: a text does not fit it; the cause says how much too long it is.
        """
        encoder = self._encoder(loaded)
        try:
            ids = [encoder.whole(text) for text in request.texts]
        except TextTooLong as error:
            raise UsageError(str(error)) from error
        return Embedded(vectors=encoder.embed_ids(ids).tolist(), tokens=sum(map(len, ids)))

    def make_way(self) -> None:
        """A model is about to be loaded: its budget counts the embedding model, which its episodes load."""
        self._own = None

    def _encoder(self, loaded: Loaded | Served | None) -> Encoder:
        if loaded is not None and loaded.episodes.encoder is not None:
            return loaded.episodes.encoder
        if loaded is not None:
            raise BudgetError(f"Nothing can be embedded beside {loaded.spec.id}. {loaded.episodes.reason}")
        try:
            self._own = self._own or Encoder.load()
        except EncoderMissing as error:
            raise AssistantError(str(error)) from error
        return self._own
