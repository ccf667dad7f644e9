"""The description of the server's interface (OpenAPI 3.1), its settings made from the fields of the configurations."""

from __future__ import annotations

import types
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from mv3d.app.job import Job, Kind, State
from mv3d.app.job_settings import TRAJECTORIES, offered_fields
from mv3d.core.version import __version__

_PLAIN: dict[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}


def schema_of(hint: Any) -> dict[str, Any]:
    """The JSON schema of a field's type."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return {"anyOf": [schema_of(each) for each in get_args(hint)]}
    if origin is Literal:
        return {"enum": list(get_args(hint))}
    if origin is tuple:
        return {"type": "array", "items": schema_of(get_args(hint)[0])}
    return {"type": _PLAIN[hint]}


def settings_schema(kind: Kind, models: Sequence[str]) -> dict[str, Any]:
    """The JSON schema of the settings of a kind of job."""
    found = {name: schema_of(hint) for name, hint in offered_fields(kind).items()}
    found["format"] = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
    if kind == "photo":
        found |= {"model": {"enum": list(models)}, "trajectory": {"enum": list(TRAJECTORIES)}}
    return {"type": "object", "properties": found, "additionalProperties": False}


def document(models: Sequence[str], *, needs_token: bool) -> dict[str, Any]:
    """The whole description."""
    settings = [settings_schema("photo", models), settings_schema("views", models)]
    job_id = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
    name = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
    upload = {
        "type": "object",
        "properties": {
            "photo": {"type": "string", "format": "binary"},
            "views": {"type": "array", "items": {"type": "string", "format": "binary"}},
            "settings": {"anyOf": settings},
        },
    }
    summary = {each.name: {} for each in fields(Job)} | _job_properties()
    listed = {"type": "array", "items": {"$ref": "#/components/schemas/Summary"}}
    jobs = {"type": "object", "properties": {"jobs": listed}}
    created = {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]}
    paths = {
        "/v1/jobs": {
            "post": {
                "summary": "A photo or views in, a job in the queue",
                "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": upload}}},
                "responses": {"201": _json("The job's id", created)} | _errors(400, 413, 415, 422, 429, 507),
            },
            "get": {
                "summary": "All jobs, the newest first",
                "responses": {"200": _json("The jobs without their files", jobs)},
            },
        },
        "/v1/jobs/{id}": {
            "parameters": [job_id],
            "get": {"summary": "A job as it stands", "responses": {"200": _job()} | _errors(404)},
            "delete": {"summary": "Cancel a job", "responses": {"200": _job()} | _errors(404, 409)},
        },
        "/v1/jobs/{id}/files/{name}": {
            "parameters": [job_id, name],
            "get": {
                "summary": "A file that a job has made",
                "responses": {"200": {"description": "The file"}} | _errors(404),
            },
        },
        "/v1/jobs/{id}/events": {
            "parameters": [job_id],
            "get": {
                "summary": "The job at each change, until it has ended, as server-sent events named job",
                "responses": {"200": {"description": "Events", "content": {"text/event-stream": {}}}}
                | _errors(404),
            },
        },
    }
    schemas = {
        "Summary": {"type": "object", "properties": summary},
        "Job": {
            "type": "object",
            "properties": summary | {"files": {"type": "object", "additionalProperties": {"type": "string"}}},
        },
        "Error": {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]},
    }
    security = {"token": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "mv3d", "version": __version__, "summary": "A photo or views in, a 3D asset out"},
        "paths": paths,
        "components": {"schemas": schemas, **({"securitySchemes": security} if needs_token else {})},
        **({"security": [{"token": []}]} if needs_token else {}),
    }


def _job_properties() -> dict[str, Any]:
    hints = get_type_hints(Job)
    found = {name: schema_of(hint) for name, hint in hints.items() if name not in ("settings", "warnings")}
    found |= {"settings": {"type": "object"}, "warnings": {"type": "array", "items": {"type": "string"}}}
    return found | {"kind": {"enum": list(get_args(Kind))}, "state": {"enum": list(get_args(State))}}


def _json(what: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": what, "content": {"application/json": {"schema": schema}}}


def _job() -> dict[str, Any]:
    return _json("The job", {"$ref": "#/components/schemas/Job"})


def _errors(*codes: int) -> dict[str, Any]:
    error = {"$ref": "#/components/schemas/Error"}
    return {str(code): _json("One sentence: what is wrong, and the way out", error) for code in codes}
