"""The OpenAPI 3.1 document of the collector's endpoints."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any, TypeAlias

from streams.collector.calls import PATHS
from streams.collector.limits import Limits

Plain: TypeAlias = dict[str, Any]

_OBJECT: Plain = {"type": "object"}
_COUNT: Plain = {"type": "integer", "minimum": 0}
_ERROR = {
    "type": "object",
    "required": ["error", "detail", "hint"],
    "properties": {
        "error": {"type": "string", "description": "a word for programs; never renamed"},
        "detail": {"type": "string"},
        "hint": {"type": "string"},
        "index": {**_COUNT, "description": "which part of the request is meant, from 0"},
        "refused": {
            "type": "array",
            "description": "the first records that cannot be used; an index is that of the line, or in the array",
            "items": {
                "type": "object",
                "required": ["index", "reason", "detail"],
                "properties": {"index": _COUNT, "reason": {"type": "string"}, "detail": {"type": "string"}},
            },
        },
    },
}
_REFUSALS = {
    "400": "not what this endpoint reads; `detail` says where",
    "401": "no key, or a wrong one",
    "408": "the body did not come in time",
    "413": "too large, or too many at once",
    "415": "neither the media types named here nor gzip",
    "429": "too much is waiting for Kafka: send the same later",
    "503": "Kafka did not acknowledge: send the same later; some of it may be there",
}
_LATER = {"Retry-After": {"schema": {"type": "integer"}, "description": "seconds"}}


def document(limits: Limits) -> Plain:
    """As plain data, ready for JSON."""
    paths = {f"/v1/{path}": {"post": _call(kind, path, limits)} for kind in PATHS for path in (kind, PATHS[kind])}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Isotherm's collector",
            "version": version("isotherm"),
            "description": "Every 2xx says that Kafka has all of the request. Bodies may be gzipped.",
        },
        "paths": {
            **paths,
            "/v1/events": {"post": _records(limits)},
            "/v1/hubspot": {"post": _notifications(limits)},
            "/healthz": {"get": _get("healthz", "The process answers.")},
            "/readyz": {"get": _get("readyz", "Kafka answers.", "503")},
            "/openapi.json": {"get": _get("openapi", "This document.")},
        },
        "components": {
            "schemas": {"Error": _ERROR},
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic", "description": "the key is the user name"},
                "bearer": {"type": "http", "scheme": "bearer"},
                "hubspot": {"type": "apiKey", "in": "header", "name": "X-HubSpot-Signature-v3"},
            },
        },
    }


def _call(kind: str, path: str, limits: Limits) -> Plain:
    batch = kind == "batch"
    own: Plain = {"batch": {"type": "array", "items": _OBJECT, "maxItems": limits.messages}} if batch else {}
    schema = {
        "type": "object",
        "properties": {"writeKey": {"type": "string", "description": "in place of the header"}, **own},
        **({"required": ["batch"]} if batch else {}),
    }
    size = f"{limits.batch:,} bytes, each call {limits.call:,}" if batch else f"{limits.call:,} bytes"
    return {
        "operationId": path,
        "summary": f"Segment's `{kind}`. At most {size}.",
        "security": [{"basic": []}, {"bearer": []}, {}],
        "requestBody": _body({"application/json": schema, "text/plain": schema}),
        "responses": _responses("200", {"success": {"const": True}, "accepted": _COUNT}),
    }


def _records(limits: Limits) -> Plain:
    one = {
        **_OBJECT,
        "description": "a canonical record, see rules/schema/record.json",
        "required": ["kind", "at"],
    }
    return {
        "operationId": "events",
        "summary": f"Canonical records, all or none. At most {limits.records:,} bytes, each {limits.record:,}.",
        "security": [{"basic": []}, {"bearer": []}],
        "requestBody": _body(
            {
                "application/json": {"oneOf": [one, {"type": "array", "items": one, "maxItems": limits.messages}]},
                "application/x-ndjson": {"type": "string", "description": "a record on each line"},
            }
        ),
        "responses": _responses("202", {"accepted": _COUNT}),
    }


def _notifications(limits: Limits) -> Plain:
    responses = _responses("202", {"accepted": _COUNT})
    return {
        "operationId": "hubspot",
        "summary": f"HubSpot's webhooks, signed by HubSpot. At most {limits.notifications:,} bytes.",
        "security": [{"hubspot": []}],
        "parameters": [
            {
                "name": "X-HubSpot-Request-Timestamp",
                "in": "header",
                "required": True,
                "schema": {"type": "string"},
                "description": "UTC milliseconds; not older than five minutes",
            }
        ],
        "requestBody": _body({"application/json": {"oneOf": [_OBJECT, {"type": "array", "items": _OBJECT}]}}),
        "responses": responses | {"404": _refusal("no HubSpot app is configured")},
    }


def _get(name: str, summary: str, *others: str) -> Plain:
    body = {"description": "as said", "content": {"application/json": {"schema": _OBJECT}}}
    return {"operationId": name, "summary": summary, "responses": {"200": body} | dict.fromkeys(others, body)}


def _body(content: Plain) -> Plain:
    return {"required": True, "content": {kind: {"schema": schema} for kind, schema in content.items()}}


def _responses(good: str, properties: Plain) -> Plain:
    schema = {"type": "object", "required": list(properties), "properties": properties}
    accepted = {"description": "Kafka has all of it", "content": {"application/json": {"schema": schema}}}
    return {good: accepted} | {status: _refusal(why, status) for status, why in _REFUSALS.items()}


def _refusal(why: str, status: str = "") -> Plain:
    told: Plain = {
        "description": why,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    }
    return told | ({"headers": _LATER} if status in ("429", "503") else {})
