"""The OpenAPI document is true: whatever it allows is answered as it says, whatever it does not allow is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest

from tests.assistant.knocking import Door
from tests.conftest import RunningDaemon

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "5"))
"""Of every operation, for schemathesis; `make bench-long` asks for 250."""
LONG = EXAMPLES >= 200
SEED = "7"
FUZZ = (sys.executable, "-P", "-c", "from schemathesis.cli import schemathesis; schemathesis()", "run")
REUSED = ("--exclude-checks", "use_after_free")
"""The name of a conversation that was removed is free at once, and writing to it makes another one."""
OURS = (*REUSED, "--exclude-path-regex", "^/v1/")
OPENAIS = ("--include-path-regex", "^/v1/", "--exclude-checks", "use_after_free,positive_data_acceptance")
"""What OpenAI's clients may send has meanings that a schema does not hold: a result without its call is a 400."""
METHODS = ("get", "post", "put", "patch", "delete")
BAD = {"NaN": "NaN", "1e308": "1e308", "true": "true", "text": '"7"', "empty": '""', "list": "[1]", "object": "{}"}
"""What no number field takes, as JSON. In a query it is text anyway."""


@pytest.fixture
def door(start_daemon: Callable[..., RunningDaemon]) -> Door:
    return Door.of(start_daemon(ASSISTANT_LISTEN="127.0.0.1:0", ASSISTANT_QUEUE="64"))


@pytest.fixture
def document(door: Door) -> Any:
    with door.client() as http:
        return http.get("/openapi.json").json()


@pytest.mark.timeout(7200 if LONG else 280)
@pytest.mark.parametrize("part", [OURS, OPENAIS], ids=["ours", "v1"])
def test_schemathesis_finds_nothing(door: Door, daemon_log: Callable[[], str], part: tuple[str, ...]) -> None:
    phases = "coverage,fuzzing,stateful" if LONG else "fuzzing"
    limits = ("--max-examples", str(EXAMPLES), "--seed", SEED, "--phases", phases, "--suppress-health-check", "all")
    header = ("--header", f"Authorization: Bearer {door.token}", "--exclude-path", "/api/shutdown")
    command = (*FUZZ, f"{door.url}/openapi.json", *header, *limits, *part, "--no-color", "--warnings", "off")
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONWARNINGS": "ignore"})
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-8000:]
    assert "Traceback" not in daemon_log()
    assert door.ask_health() == 200


def test_shutting_down_is_as_documented(door: Door) -> None:
    with door.client() as http:
        assert http.get("/api/shutdown").status_code == 405
        answer = http.post("/api/shutdown")
        assert (answer.status_code, answer.json()) == (202, {"ok": True})


def test_every_failure_is_declared_in_its_shape_and_asks_for_the_token(document: Any) -> None:
    for path, method, operation in operations(document):
        declared = operation["responses"]
        for status in ("400", "401", "403", "404", "409", "413", "415", "421", "422", "429", "431", "500", "503"):
            schema = declared[status]["content"]["application/json"]["schema"]
            shape = "ErrorReply" if path.startswith("/v1/") else "Failed"
            assert schema == {"$ref": f"#/components/schemas/{shape}"}, (path, method, status)
        assert operation["security"] == [{"HTTPBearer": []}]
    answers = {path: one["responses"].get("200", {}).get("content", {}) for path, _, one in operations(document)}
    streams = [path for path, content in answers.items() if "text/event-stream" in content]
    assert len(streams) >= 3


# --- every number ----------------------------------------------------------------------------------------------------


def test_every_number_has_bounds(document: Any) -> None:
    found = [(where, schema) for where, schema, _ in numbers(document)]
    assert len(found) >= 24
    for where, schema in found:
        assert {"minimum", "exclusiveMinimum"} & set(schema), where
        assert {"maximum", "exclusiveMaximum"} & set(schema), where


def test_every_number_out_of_range_is_422(door: Door, document: Any) -> None:
    tried = 0
    with door.client() as http:
        for where, schema, send in numbers(document):
            for name, said in {**BAD, **beyond(schema)}.items():
                if name == "text" and schema.get("orText"):
                    continue
                answer = send(http, said)
                assert answer.status_code == 422, (where, name, said, answer.status_code, answer.text)
                assert answer.json().get("exit_code") == 2 or answer.json()["error"]["type"] == "invalid_request_error"
                tried += 1
    assert tried >= 200


Send = Callable[[httpx2.Client, str], httpx2.Response]


def operations(document: Any) -> Iterator[tuple[str, str, Any]]:
    for path, methods in document["paths"].items():
        for method in METHODS:
            if method in methods:
                yield path, method, methods[method]


def numbers(document: Any) -> Iterator[tuple[str, Any, Send]]:
    """Every number that a request can hold: what it is called, its schema, and how to send a text in its place."""
    for path, method, operation in operations(document):
        body = body_of(document, operation)
        for parameter in operation.get("parameters", ()):
            if (schema := number_in(document, parameter["schema"])) is not None:
                yield f"{method} {path} {parameter['name']}", schema, parameter_sender(path, method, parameter, body)
        for keys, schema in number_fields(document, body):
            yield f"{method} {path} {'.'.join(keys)}", schema, body_sender(document, path, method, body, keys)


def parameter_sender(path: str, method: str, parameter: Any, body: Any) -> Send:
    name = parameter["name"]

    def send(http: httpx2.Client, said: str) -> httpx2.Response:
        target = filled(path, **({name: said} if parameter["in"] == "path" else {}))
        query = {name: said} if parameter["in"] == "query" else {}
        content = b"{}" if body is not None else None
        headers = {"Content-Type": "application/json"} if content else {}
        return http.request(method, target, params=query, content=content, headers=headers)

    return send


def body_sender(document: Any, path: str, method: str, body: Any, keys: tuple[str, ...]) -> Send:
    def send(http: httpx2.Client, said: str) -> httpx2.Response:
        whole: Any = example(document, body)
        inner = whole
        for key in keys[:-1]:
            inner = inner.setdefault(key, {})
        inner[keys[-1]] = "HERE"
        content = json.dumps(whole).replace('"HERE"', said).encode()
        return http.request(method, filled(path), content=content, headers={"Content-Type": "application/json"})

    return send


def filled(path: str, **names: str) -> str:
    """A path with something plain in place of what is not given."""
    for name in ("name", "program", "turn", "call"):
        path = path.replace(f"{{{name}}}", names.get(name, "1"))
    return path


def body_of(document: Any, operation: Any) -> Any:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    return None if content is None else resolved(document, content["schema"])


def resolved(document: Any, schema: Any) -> Any:
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def options(document: Any, schema: Any) -> list[Any]:
    return [resolved(document, one) for one in schema.get("anyOf", [schema])]


def number_in(document: Any, schema: Any) -> Any:
    """The number among what a schema allows, if any; `orText` where a text will do too."""
    kinds = options(document, schema)
    texts = any(one.get("type") == "string" for one in kinds)
    found = [one for one in kinds if one.get("type") in ("integer", "number")]
    return found[0] | {"orText": texts} if found else None


def number_fields(document: Any, schema: Any, keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, inner in (schema or {}).get("properties", {}).items():
        if (found := number_in(document, inner)) is not None:
            yield (*keys, name), found
        for one in options(document, inner):
            yield from number_fields(document, one, (*keys, name))


def example(document: Any, schema: Any) -> Any:
    """The least that a schema asks for."""
    schema = options(document, schema)[0]
    if "enum" in schema or "const" in schema:
        return schema.get("enum", [schema.get("const")])[0]
    match schema.get("type"):
        case "object":
            return {name: example(document, schema["properties"][name]) for name in schema.get("required", ())}
        case "array":
            return [example(document, schema["items"])] * schema.get("minItems", 0)
        case "string":
            return "x"
    return schema.get("minimum", 1)


def beyond(schema: Any) -> dict[str, str]:
    """The nearest numbers on the wrong sides of the bounds."""
    step = 1 if schema["type"] == "integer" else 0.001
    below = schema["minimum"] - step if "minimum" in schema else schema["exclusiveMinimum"]
    above = schema["maximum"] + step if "maximum" in schema else schema["exclusiveMaximum"]
    return {"below": as_json(schema, below), "above": as_json(schema, above)}


def as_json(schema: Any, value: float) -> str:
    return str(int(value)) if schema["type"] == "integer" else json.dumps(value)
