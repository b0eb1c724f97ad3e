"""/v1/models and /v1/embeddings, asked by OpenAI's own client."""

from __future__ import annotations

from typing import Any

import pytest
from openai import BadRequestError, NotFoundError, OpenAI

MINILM = "all-MiniLM-L6-v2"


def test_models_are_those_that_are_here(openai: OpenAI) -> None:
    assert [model.id for model in openai.models.list()] == ["fake", MINILM]
    assert openai.models.retrieve("pretend").id == "fake"
    assert openai.models.retrieve(MINILM.lower()).owned_by == "assistant"
    with pytest.raises(NotFoundError, match="assistant models pull"):
        openai.models.retrieve("smollm2-135m")
    for unknown in ("gpt-9", "~nobody", "x" * 400):
        with pytest.raises(NotFoundError, match="no model"):
            openai.models.retrieve(unknown)


def test_embeddings_come_in_order_before_any_model_is_loaded(openai: OpenAI) -> None:
    texts = ["a river", "a hill", "a river"]
    found = openai.embeddings.create(model=MINILM, input=texts)
    assert [one.index for one in found.data] == [0, 1, 2]
    assert found.data[0].embedding == found.data[2].embedding != found.data[1].embedding
    assert {len(one.embedding) for one in found.data} == {384}
    assert found.usage.prompt_tokens == 6
    plain = openai.embeddings.create(model=MINILM, input="a river", encoding_format="float", dimensions=384)
    assert plain.data[0].embedding == found.data[0].embedding


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"dimensions": 256}, "384 dimensions"),
    ({"input": [1, 2]}, "no token ids"),
    ({"input": []}, "no token ids"),
    ({"input": ["a", " "]}, "say something"),
    ({"input": "word " * 300}, "300 tokens, 254 fit"),
]


@pytest.mark.parametrize(("fields", "says"), REFUSED)
def test_what_cannot_be_embedded_is_refused(openai: OpenAI, fields: dict[str, Any], says: str) -> None:
    with pytest.raises(BadRequestError, match=says):
        openai.embeddings.create(**({"model": MINILM, "input": "hello"} | fields))


def test_another_embedding_model_is_not_found(openai: OpenAI) -> None:
    with pytest.raises(NotFoundError, match=MINILM):
        openai.embeddings.create(model="fake", input="hello")
