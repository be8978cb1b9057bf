"""The OpenAPI document: problems where they can happen, and how to show an API key."""

from dataclasses import asdict
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from batch_assets.serving.gate import is_guarded
from batch_assets.serving.problems import KINDS, MEDIA_TYPE

PROBLEM = {
    "title": "Problem",
    "type": "object",
    "description": "What went wrong, and what to change (RFC 9457).",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "description": "Which kind of problem."},
        "title": {"type": "string", "description": "Its name."},
        "status": {"type": "integer", "description": "The status of the answer."},
        "detail": {"type": "string", "description": "What to change."},
        "errors": {
            "type": "array",
            "description": "By field.",
            "items": {
                "type": "object",
                "required": ["field", "detail"],
                "properties": {"field": {"type": "string"}, "detail": {"type": "string"}},
            },
        },
    },
}
OF_ANY = ("malformed", "too-large", "wrong-host", "headers", "busy", "timeout")
OF_BODIES = ("media-type",)
WITH_KEYS = ("unauthorised", "forbidden", "rate")


def describe(app: FastAPI, with_keys: bool) -> None:
    """Let the application describe itself, problems included."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app, with_keys)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _document(app: FastAPI, with_keys: bool) -> dict[str, Any]:
    found = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    schemas = found.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["Problem"] = PROBLEM
    found["x-problems"] = [{"kind": name, **asdict(kind)} for name, kind in KINDS.items()]
    if with_keys:
        found["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for path, methods in found["paths"].items():
        guarded = with_keys and is_guarded(path)
        for operation in methods.values():
            _add_problems(path, operation, guarded)
            if guarded:
                operation["security"] = [{"key": []}]
    return found


def _add_problems(path: str, operation: dict[str, Any], guarded: bool) -> None:
    kinds = list(OF_ANY)
    if "requestBody" in operation:
        kinds += OF_BODIES
    if "422" in operation["responses"]:
        kinds.append("invalid")
    if path.startswith("/v1/") and path != "/v1/freshness":
        kinds += ["not-scored", "store"]
    if path.endswith("/score"):
        kinds += ["conflict", "starting"]
    if path == "/readyz":
        kinds.append("starting")
    if guarded:
        kinds += WITH_KEYS
    for kind in kinds:
        operation["responses"][str(KINDS[kind].status)] = {
            "description": KINDS[kind].title,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
