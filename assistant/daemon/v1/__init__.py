"""OpenAI's API (`/v1`): what its clients send and expect, in front of the same service as everything else."""

from __future__ import annotations

from fastapi import APIRouter

from assistant.daemon.failures import declared
from assistant.daemon.service import Service
from assistant.daemon.v1.chat import add_chat
from assistant.daemon.v1.chats import Chats
from assistant.daemon.v1.embeddings import add_embeddings
from assistant.daemon.v1.errors import ApiRoute, ErrorReply
from assistant.daemon.v1.models import add_models
from assistant.daemon.v1.responses import add_responses


def create_router(service: Service) -> APIRouter:
    """Every route of it."""
    router = APIRouter(prefix="/v1", route_class=ApiRoute, responses=declared(ErrorReply))
    chats = Chats(service)
    add_chat(router, chats)
    add_responses(router, chats)
    add_models(router, service.engines)
    add_embeddings(router, service)
    return router
