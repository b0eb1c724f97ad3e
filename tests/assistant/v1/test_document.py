"""The OpenAPI document says what the API accepts, answers and refuses."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openai import APIStatusError, OpenAI

ROUTES = {
    "/v1/chat/completions": "post",
    "/v1/responses": "post",
    "/v1/responses/{response}": "get",
    "/v1/models": "get",
    "/v1/models/{model}": "get",
    "/v1/embeddings": "post",
}


@pytest.fixture
def document(openai: OpenAI) -> dict[str, Any]:
    found: dict[str, Any] = openai.get("../openapi.json", cast_to=object)  # type: ignore[assignment]
    return found


def schema_of(document: dict[str, Any], path: str, status: str) -> Any:
    answer = document["paths"][path][ROUTES[path]]["responses"][status]
    return answer["content"]["application/json"]["schema"] | {"components": document["components"]}


@pytest.mark.parametrize("path", ROUTES)
def test_every_route_has_its_answers_and_refusals(document: dict[str, Any], path: str) -> None:
    responses = document["paths"][path][ROUTES[path]]["responses"]
    assert {"200", "400", "404", "422", "429", "500", "503"} <= responses.keys()
    for status in responses.keys() - {"200"}:
        assert schema_of(document, path, status)["$ref"].endswith("/ErrorReply")


def test_what_is_ignored_or_refused_is_in_the_document(document: dict[str, Any]) -> None:
    asked = document["components"]["schemas"]["ChatRequest"]
    assert asked["additionalProperties"] is False
    assert "user" in asked["properties"]
    assert asked["properties"]["n"] == {"enum": [None, 1]}


def test_answers_are_as_the_document_says(openai: OpenAI, document: dict[str, Any]) -> None:
    raw = openai.with_raw_response
    chat = raw.chat.completions.create(model="fake", messages=[{"role": "user", "content": "hello document"}])
    made = raw.responses.create(model="fake", input="hello document")
    listed, vectors = raw.models.list(), raw.embeddings.create(model="all-MiniLM-L6-v2", input="hello")
    for path, answer in zip(
        ("/v1/chat/completions", "/v1/responses", "/v1/models", "/v1/embeddings"),
        (chat, made, listed, vectors),
        strict=True,
    ):
        Draft202012Validator(schema_of(document, path, "200")).validate(answer.http_response.json())


@pytest.mark.parametrize("path", ["/responses/resp_0", "/models/nobody", "/nowhere", "/responses/a/b"])
def test_refusals_have_one_shape(openai: OpenAI, document: dict[str, Any], path: str) -> None:
    with pytest.raises(APIStatusError) as refused:
        openai.get(path, cast_to=object)
    Draft202012Validator(schema_of(document, "/v1/models", "404")).validate(refused.value.response.json())
