"""The routes: HTTP and SSE in front of `Service`. Every refusal is a `Failed` as JSON, with its exit code."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import Field
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from assistant import __version__
from assistant.daemon.exchange import Exchange
from assistant.daemon.failures import Failures, broken, complaint, declared
from assistant.daemon.guard import Guard, Rules, check_model
from assistant.daemon.keeper import Doorkeeper
from assistant.daemon.lane import STOPPING, LaneFull
from assistant.daemon.names import DIGITS, IdInPath, IdInQuery, Named, ProgramId, TrueFalse
from assistant.daemon.programs import Programs
from assistant.daemon.service import Service
from assistant.daemon.sse import stream
from assistant.daemon.v1 import create_router
from assistant.daemon.v1.errors import error_reply
from assistant.errors import AssistantError, BudgetError, DaemonError, Exit, ModelError, UsageError
from assistant.history import Conflict, History, UnknownConversation, UnknownProgram
from assistant.protocol import (
    PROTOCOL,
    ApprovalRow,
    AskRequest,
    CallChange,
    CallRow,
    ChooseRequest,
    Conversation,
    ConversationChange,
    Engine,
    Episodes,
    Failed,
    ForkRequest,
    Hit,
    ImportRequest,
    Name,
    Program,
    ProgramChange,
    ProgramRequest,
    Removed,
    RestoreRequest,
    Size,
    StepRequest,
    StoreRequest,
    Turn,
    Version,
    dump,
)
from assistant.reports import (
    CheckRequest,
    DaemonStatus,
    KvCheck,
    MemoryReport,
    MemorySplit,
    ModelStatus,
    PsReport,
    Unloaded,
)

TOKEN = HTTPBearer(auto_error=False, description="Asked for over TCP, by `Guard`: assistant daemon token")
EVENT_SCHEMA = {
    "type": "object",
    "properties": {"event": {"type": "string"}, "data": {"type": "string", "contentMediaType": "application/json"}},
    "required": ["event", "data"],
}
STREAM: dict[str, Any] = {
    "response_class": Response,
    "responses": {
        200: {
            "description": "Server-sent events; the data of each is an Event as JSON, the last one done or error.",
            "content": {"text/event-stream": {"schema": EVENT_SCHEMA}},
        }
    },
}
FIGURES: dict[str, Any] = {
    "response_class": Response,
    "responses": {
        200: {"description": "Prometheus' text format.", "content": {"text/plain": {"schema": {"type": "string"}}}}
    },
}
STATUSES: dict[type[AssistantError], int] = {
    UnknownConversation: 404,
    UnknownProgram: 404,
    Conflict: 409,
    LaneFull: 429,
    DaemonError: 503,
    ModelError: 409,
    BudgetError: 409,
    UsageError: 400,
}


def create_app(service: Service, shut_down: Callable[[], None], rules: Rules) -> FastAPI:
    """The application of one daemon; `shut_down` begins its end and returns at once."""
    failures = Failures({"/v1/": error_reply})
    app = FastAPI(
        title="assistant",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=declared(Failed),
        dependencies=[Depends(TOKEN)],
    )
    app.add_middleware(Guard, rules=rules, failures=failures)
    app.add_middleware(Doorkeeper, attendance=service.attendance)
    _add_errors(app, failures)
    _add_state(app, service, shut_down)
    _add_conversations(app, service)
    _add_turns(app, service)
    _add_requests(app, service)
    _add_programs(app, service)
    app.include_router(create_router(service))
    return app


def _add_state(app: FastAPI, service: Service, shut_down: Callable[[], None]) -> None:
    @app.get("/health")
    async def health() -> dict[str, bool]:
        return {"ok": True}

    @app.get("/ready")
    async def ready() -> dict[str, bool]:
        if service.lane.closed:
            raise DaemonError(STOPPING)
        service.engines.spec(Engine.model_validate({}))
        return {"ok": True}

    @app.get("/version")
    async def version() -> Version:
        return Version(version=__version__, protocol=PROTOCOL, pid=os.getpid())

    @app.get("/api/status")
    async def status() -> DaemonStatus:
        return await service.status()

    @app.get("/api/models")
    async def models(fit: TrueFalse = False, budget: Annotated[Size | None, Query()] = None) -> list[ModelStatus]:
        return await asyncio.to_thread(service.engines.models, fit=fit, budget=budget)

    @app.get("/api/memory")
    async def memory() -> MemoryReport:
        return await service.memory()

    @app.get("/api/plan")
    async def plan(budget: Annotated[Size, Query()]) -> MemorySplit:
        return await service.plan(budget)

    @app.post("/api/kv/check")
    async def check(body: CheckRequest) -> KvCheck:
        return await service.shelf.check(repair=body.repair)

    @app.get("/api/ps")
    async def ps() -> PsReport:
        return await service.ps()

    @app.post("/api/prepare", status_code=204)
    async def prepare() -> None:
        await service.keeper.prepare()

    @app.post("/api/unload")
    async def unload() -> Unloaded:
        return await service.keeper.unload()

    @app.get("/metrics", **FIGURES)
    async def metrics() -> Response:
        return Response(await service.figures(), media_type=CONTENT_TYPE_LATEST)

    @app.post("/api/shutdown", status_code=202)
    async def shutdown() -> dict[str, bool]:
        shut_down()
        return {"ok": True}


def _add_conversations(app: FastAPI, service: Service) -> None:
    records = service.records

    @app.get("/api/conversations")
    async def conversations(
        query: Annotated[str, Query(max_length=200)] = "", archived: TrueFalse = False, removed: TrueFalse = False
    ) -> list[Conversation]:
        return await records.run(History.conversations, query, archived, removed)

    @app.get("/api/conversations/{name}/about")
    async def about(name: Named) -> Conversation:
        return await records.run(History.conversation, name)

    @app.get("/api/conversations/{name}/episodes")
    async def episodes(name: Named) -> Episodes:
        return await service.episodes(name)

    @app.get("/api/turns/{turn}/conversation")
    async def owner(turn: IdInPath) -> Conversation:
        return await records.run(History.owner, turn)

    @app.patch("/api/conversations/{name}")
    async def change(name: Named, body: ConversationChange) -> Conversation:
        return await records.run(History.conversation, await records.run(History.change, name, body))

    @app.delete("/api/conversations/{name}")
    async def remove(name: Named, for_good: TrueFalse = False) -> Removed:
        if for_good:
            return Removed(names=await service.remove(name))
        await service.put_away(name)
        return Removed(names=[])

    @app.post("/api/conversations/{name}/restore")
    async def restore(name: Named, body: RestoreRequest) -> Conversation:
        return await records.run(History.conversation, await records.run(History.restore, name, body.name))

    @app.post("/api/purge")
    async def purge() -> Removed:
        return Removed(names=await service.purge(datetime.now(UTC)))

    @app.get("/api/prompts")
    async def prompts(limit: Annotated[int, Field(ge=1, le=1000), DIGITS, Query()] = 200) -> list[str]:
        return await records.run(History.prompts, limit)

    @app.get("/api/search")
    async def search(
        words: Annotated[str, Query(min_length=1, max_length=1000, json_schema_extra={"pattern": r"\S"})],
        limit: Annotated[int, Field(ge=1, le=200), DIGITS, Query()] = 20,
        conversation: Annotated[Name | None, Query()] = None,
    ) -> list[Hit]:
        return await records.run(History.search, words, limit, conversation)


def _add_turns(app: FastAPI, service: Service) -> None:
    records = service.records

    @app.get("/api/conversations/{name}/turns")
    async def turns(
        name: Named,
        before: IdInQuery | None = None,
        limit: Annotated[int, Field(ge=1, le=500), DIGITS, Query()] = 50,
        versions: TrueFalse = False,
    ) -> list[Turn]:
        return await records.run(History.turns, name, before, limit, versions)

    @app.post("/api/conversations/{name}/turns")
    async def store(name: Named, body: StoreRequest) -> Conversation:
        await records.run(History.add, name, body.turns)
        return await records.run(History.conversation, name)

    @app.get("/api/conversations/{name}/siblings")
    async def siblings(name: Named, turn: IdInQuery) -> list[Turn]:
        return await records.run(History.siblings, name, turn)

    @app.post("/api/conversations/{name}/choose", status_code=204)
    async def choose(name: Named, body: ChooseRequest) -> None:
        await records.run(History.choose, name, body.turn)

    @app.post("/api/conversations/{name}/fork")
    async def fork(name: Named, body: ForkRequest) -> Conversation:
        return await records.run(History.conversation, await records.run(History.fork, name, body.turn, body.name))


def _add_requests(app: FastAPI, service: Service) -> None:
    @app.post("/api/conversations/{name}/ask", **STREAM)
    async def ask(name: Named, body: AskRequest, request: Request) -> EventSourceResponse:
        check_model(request.scope, body.engine.model)
        return _stream(service, await service.ask(name, body))

    @app.post("/api/conversations/{name}/import", **STREAM)
    async def read(name: Named, body: ImportRequest, request: Request) -> EventSourceResponse:
        check_model(request.scope, body.engine.model)
        return _stream(service, await service.read(name, body))

    @app.post("/api/conversations/{name}/stop")
    async def stop(name: Named) -> dict[str, bool]:
        return {"stopped": await service.stop(name)}


def _add_programs(app: FastAPI, service: Service) -> None:
    programs = Programs(service)

    @app.post("/api/programs")
    async def begin(body: ProgramRequest) -> Program:
        return await programs.begin(body)

    @app.get("/api/programs")
    async def every() -> list[Program]:
        return await programs.all()

    @app.get("/api/programs/{program}")
    async def one(program: ProgramId) -> Program:
        return await programs.get(program)

    @app.patch("/api/programs/{program}")
    async def change(program: ProgramId, body: ProgramChange) -> Program:
        return await programs.change(program, body)

    @app.post("/api/programs/{program}/resume")
    async def resume(program: ProgramId) -> Program:
        return await programs.resume(program)

    @app.post("/api/programs/{program}/fork")
    async def fork(program: ProgramId) -> Program:
        return await programs.fork(program)

    @app.post("/api/programs/{program}/step", **STREAM)
    async def step(program: ProgramId, body: StepRequest, request: Request) -> EventSourceResponse:
        check_model(request.scope, body.engine.model)
        return _stream(service, await programs.step(program, body))

    @app.post("/api/programs/{program}/calls/{call}")
    async def call(program: ProgramId, call: IdInPath, body: CallChange) -> CallRow:
        return await programs.call(program, call, body)

    @app.post("/api/approvals", status_code=204)
    async def approve(body: ApprovalRow) -> None:
        await service.records.run(History.note_approval, body)

    @app.get("/api/approvals")
    async def approvals() -> list[ApprovalRow]:
        return await service.records.run(History.approvals)


def _stream(service: Service, exchange: Exchange) -> EventSourceResponse:
    """The exchange's events as SSE."""
    events = (ServerSentEvent(dump(event), event=event.event) async for event in exchange.events())
    return stream(service.lane, exchange, events)


def _add_errors(app: FastAPI, failures: Failures) -> None:
    @app.exception_handler(AssistantError)
    async def ours(request: Request, error: AssistantError) -> Response:
        status = next((code for kind, code in STATUSES.items() if isinstance(error, kind)), 500)
        return failures.answer(request.scope["path"], status, str(error), error.exit_code)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return failures.answer(request.scope["path"], 422, complaint(error), Exit.USAGE)

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        headers = _allowed(request) if error.status_code == 405 else error.headers
        return failures.answer(request.scope["path"], error.status_code, f"{error.detail}.", Exit.USAGE, headers)

    @app.exception_handler(Exception)
    async def fault(request: Request, error: Exception) -> Response:
        return failures.answer(request.scope["path"], 500, broken(error), Exit.FAILED)


def _allowed(request: Request) -> dict[str, str]:
    """The methods of every route with this path; the framework names those of one."""
    routes = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
    return {
        "Allow": ", ".join(sorted({method for route in routes for method in getattr(route, "methods", None) or ()}))
    }
