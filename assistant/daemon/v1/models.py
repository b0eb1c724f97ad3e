"""/v1/models: the models of the catalogue that are on this machine, and the one that makes embeddings."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Path
from pydantic import BaseModel

from assistant.catalog import load_catalog
from assistant.daemon.engine import Engines
from assistant.daemon.v1.wire import ModelName
from memory.minilm import NAME


class Model(BaseModel):
    """A model that can be asked for."""

    id: str
    object: Literal["model"] = "model"
    created: Literal[0] = 0
    owned_by: Literal["assistant"] = "assistant"


class ModelList(BaseModel):
    """All of them."""

    object: Literal["list"] = "list"
    data: list[Model]


def add_models(router: APIRouter, engines: Engines) -> None:
    """The routes."""

    @router.get("/models")
    async def models() -> ModelList:
        found = await asyncio.to_thread(engines.models)
        return ModelList(data=[Model(id=one.id) for one in found if one.present] + [Model(id=NAME)])

    @router.get("/models/{model:path}")
    async def model(model: Annotated[ModelName, Path()]) -> Model:
        return await asyncio.to_thread(_one, engines, model)


def _one(engines: Engines, name: str) -> Model:
    """A model by id or alias; one that is not on this machine is refused with the command that gets it."""
    if name.lower() == NAME.lower():
        return Model(id=NAME)
    catalog = load_catalog(engines.places)
    entry = catalog.find(name)
    catalog.require(entry, engines.places)
    return Model(id=entry.id)
