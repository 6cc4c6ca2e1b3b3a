"""The OpenAPI document: the routes with the fields, the examples and the errors that this server has."""

import copy
import json
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Litestar
from litestar.handlers import BaseRouteHandler
from litestar.routes import ASGIRoute, HTTPRoute

from zap.controllers.answers import add_answers
from zap.controllers.batches import CSV, JSON, RefusedRow
from zap.controllers.guard import needed_scopes
from zap.controllers.line_stream import NDJSON
from zap.controllers.parameters import MOST_ENTRIES
from zap.controllers.prediction import OPERATION, REFUSALS
from zap.controllers.prediction_reply import PredictReply
from zap.controllers.problems import MEDIA_TYPE
from zap.controllers.request_examples import (
    ACKNOWLEDGEMENTS,
    EXPLAINED,
    KEYS,
    REASONS,
    ROTATIONS,
    TRAININGS,
    TRIALS,
    Known,
    batches,
    path_values,
    predictions,
    reports,
)
from zap.formats.acknowledgement import Acknowledgement
from zap.formats.body_model import BodyModel, body_schemas
from zap.formats.key_options import KeyOptions, Rotation
from zap.formats.promotion_reason import Reason
from zap.formats.request import request_schema
from zap.formats.request_rows import INPUTS
from zap.formats.session_report import ChargingSession, report_schema
from zap.formats.training_options import TrainingOptions
from zap.formats.trial_options import TrialOptions
from zap.formats.values import LARGEST_ID
from zap.scopes import ADMIN, SCOPES

_PROBLEM = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
# The groups of routes in the order in which a new reader needs them: a sentence, and the page of the manual.
_GROUPS = {
    "predictions": (
        "**Start here.** Ask which charger type fits a driver's next session, and look at an answer again.",
        "predicting",
    ),
    "sessions": (
        "Report charging sessions. Predictions for their drivers use them, and the next training learns from them.",
        "reporting",
    ),
    "drivers": ("Give a driver all that is stored about the driver, or erase it.", "drivers"),
    "training": ("Learn from the history, and see whether the model is better than simple rules.", "training"),
    "models": ("Choose the version that answers, and go back to an earlier one.", "versions"),
    "quality": ("See what happened after the answers, and what the requests were like.", "quality"),
    "serving": ("See how many requests are answered, how fast, and how many fail.", "operating"),
    "alarms": ("See what is wrong, and say who has seen it.", "alarms"),
    "audit": ("See who changed what.", "audit"),
    "keys": ("Give each program a key of its own, with what it may do.", "keys"),
    "health": ("Ask whether the server is alive and can predict.", "operating"),
}
# All paths in the order in which their groups show them: what a reader needs first comes first.
_ORDER = (
    *("/predict", "/predict/batch", "/predictions", "/predictions/{prediction_id}"),
    *("/predictions/{prediction_id}/explanation", "/charging-sessions", "/charging-sessions/{session_id}"),
    *("/drivers/{user_id}", "/drivers/{user_id}/export"),
    *("/train-model", "/training-runs", "/training-runs/{run_id}", "/training-runs/{run_id}/events"),
    *("/models", "/models/{model_version}", "/models/{model_version}/promote", "/models/rollback", "/models/history"),
    *("/models/{model_version}/trial", "/models/{model_version}/trial/end", "/trials", "/trials/{trial_id}"),
    *("/quality", "/quality/data", "/serving", "/metrics", "/alarms", "/alarms/{alarm_id}/acknowledge", "/audit"),
    *("/keys", "/keys/{key_id}/rotate", "/keys/{key_id}"),
    *("/health/live", "/health/ready"),
)
# Headers that handlers read without Litestar. They have no examples, because Swagger UI sends examples by default.
_HEADERS = {
    ("post", "/train-model"): ("Prefer", "respond-async: answer at once, with the address of the training run", {}),
    ("get", "/training-runs/{run_id}/events"): (
        "Last-Event-ID",
        "send the events after this one: its number, or end (no more events follow; the reply is 204)",
        {"pattern": "^([0-9]{1,18}|end)$"},
    ),
}
# Where the numbers in a reply lead. For an operation and a status: the name of the link, the operation that it names,
# that operation's parameter, and the field of the reply.
_LINKS = {
    ("predict", "200"): [
        ("look at it again", "getPrediction", "prediction_id", "prediction_id"),
        ("why it was predicted", "explainPrediction", "prediction_id", "prediction_id"),
    ],
    ("trainModel", "200"): [
        ("the version", "getModel", "model_version", "model_version"),
        ("the training run", "getTrainingRun", "run_id", "training_run"),
    ],
    ("trainModel", "202"): [
        ("the progress", "getTrainingRun", "run_id", "run_id"),
        ("its events", "followTrainingRun", "run_id", "run_id"),
        ("cancel it", "cancelTrainingRun", "run_id", "run_id"),
    ],
    ("promoteModel", "200"): [("the version", "getModel", "model_version", "to_version")],
    ("tryModel", "200"): [
        ("the trial", "getTrial", "trial_id", "trial_id"),
        ("end it", "endTrial", "model_version", "model_version"),
        ("the version", "getModel", "model_version", "model_version"),
    ],
    ("rollBack", "200"): [("the version", "getModel", "model_version", "to_version")],
    ("getPrediction", "200"): [
        ("the version", "getModel", "model_version", "model_version"),
        ("why it was predicted", "explainPrediction", "prediction_id", "prediction_id"),
    ],
    ("explainPrediction", "200"): [("the version", "getModel", "model_version", "model_version")],
}
# Both ways to send a key.
_SCHEMES = {
    "ApiKey": {
        "type": "apiKey",
        "name": "X-API-Key",
        "in": "header",
        "description": f"A key of `zap keys create`. Its scopes are of {', '.join(SCOPES)}; {ADMIN} is all of them.",
    },
    "Bearer": {"type": "http", "scheme": "bearer", "description": "The key as `Authorization: Bearer KEY`."},
}
_BATCH_REPLIES = "PredictReply", "RefusedRow"
_RUN_REPORTS = "TrainReply", "Problem"


def openapi_document(app: Litestar, known: Known, prefix: str) -> dict[str, Any]:
    """Return the OpenAPI document, with the request bodies, the examples, and every error as problem details.

    Args:
        app: the application whose routes are described.
        known: what the examples depend on.
        prefix: the path prefix under which clients reach zap.
    """
    document: dict[str, Any] = copy.deepcopy(app.openapi_schema.to_schema())
    manual = f"{prefix}/manual"
    document["servers"] = [{"url": prefix or "/"}]
    document["externalDocs"] = {"url": manual, "description": "The manual"}
    document["tags"] = [
        {"name": name, "description": said, "externalDocs": {"url": f"{manual}/{page}", "description": "The manual"}}
        for name, (said, page) in _GROUPS.items()
    ]
    _add_predict(document)
    _add_bodies(document, known)
    _add_parameters(document, path_values(known))
    for methods in document["paths"].values():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                if status == "200":
                    # Litestar has one sentence for all replies: "Request fulfilled, document follows".
                    response["description"] = "The answer"
                if links := _LINKS.get((operation["operationId"], status)):
                    response["links"] = {
                        name.replace(" ", "-"): {
                            "operationId": target,
                            "parameters": {parameter: f"$response.body#/{field}"},
                            "description": name,
                        }
                        for name, target, parameter, field in links
                    }
                # Litestar describes the errors that it adds by itself, but not as problem details.
                content = response.get("content", {})
                if int(status) >= 400 and "$ref" not in content.get("application/json", {}).get("schema", {"$ref": ""}):
                    response["content"] = _PROBLEM
    _add_access(document, app)
    add_answers(document)
    return document


def _schema(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _add_predict(document: dict[str, Any]) -> None:
    """Add /predict, which Litestar leaves out because the route is plain ASGI."""
    operation = copy.deepcopy(OPERATION)
    operation["responses"] |= _problems(*REFUSALS)
    found = {"/predict": {"post": operation}, **document["paths"]}
    document["paths"] = {path: found[path] for path in (*_ORDER, *found) if path in found}
    _, structs = msgspec.json.schema_components([PredictReply, RefusedRow], ref_template="#/components/schemas/{name}")
    document["components"]["schemas"] = structs | document["components"]["schemas"]


def _problems(*statuses: int) -> dict[str, Any]:
    return {str(status): {"description": HTTPStatus(status).phrase, "content": _PROBLEM} for status in statuses}


def _add_bodies(document: dict[str, Any], known: Known) -> None:
    """Add the bodies of requests, each with a name of its own, and the elements of the replies to a batch."""
    schemas, paths = document["components"]["schemas"], document["paths"]
    inputs = {
        "type": "array",
        "items": _schema("PredictRequest"),
        "description": "the requests; their predictions have the same order",
    }
    models: tuple[type[BodyModel], ...]
    models = (Acknowledgement, ChargingSession, KeyOptions, Reason, Rotation, TrainingOptions, TrialOptions)
    # pydantic also describes the tuple that a time is read into.
    described = {name: one for name, one in body_schemas(*models).items() if not name.startswith("_")}
    schemas |= {name: _with_defaults_in_words(one) for name, one in described.items()} | {
        "PredictRequest": request_schema(known.contract),
        "BatchRequest": {
            "type": "object",
            "properties": {INPUTS: inputs},
            "required": [INPUTS],
            "additionalProperties": False,
        },
        "SessionReport": report_schema(_schema(ChargingSession.__name__)),
        "BatchOutcome": {"anyOf": [_schema(name) for name in _BATCH_REPLIES]},
    }
    schemas["BatchReply"]["properties"]["predictions"]["items"] = _schema("BatchOutcome")
    report = schemas["RunDetail"]["properties"]["report"]
    # The object is the result of a search, or a report of an older zap.
    results = [*map(_schema, _RUN_REPORTS), {"type": "object", "additionalProperties": True}, {"type": "null"}]
    schemas["RunDetail"]["properties"]["report"] = {"anyOf": results, "description": report["description"]}
    for path, required, name, examples in (
        ("/predict", True, "PredictRequest", predictions(known)),
        ("/charging-sessions", True, "SessionReport", reports(known)),
        ("/train-model", False, TrainingOptions.__name__, TRAININGS),
        ("/models/{model_version}/promote", False, Reason.__name__, REASONS),
        ("/models/rollback", False, Reason.__name__, REASONS),
        ("/alarms/{alarm_id}/acknowledge", True, Acknowledgement.__name__, ACKNOWLEDGEMENTS),
        ("/models/{model_version}/trial", False, TrialOptions.__name__, TRIALS),
        ("/models/{model_version}/trial/end", False, Reason.__name__, REASONS),
        ("/keys", True, KeyOptions.__name__, KEYS),
        ("/keys/{key_id}/rotate", False, Rotation.__name__, ROTATIONS),
    ):
        body = {"required": required, "content": {JSON: _content(_schema(name), examples)}}
        paths[path]["post"]["requestBody"] = body
    lines = {"type": "string", "description": "a request of /predict on each line"}
    table = {
        "type": "string",
        "description": "a line of field names, then a line for each request. An empty cell is null; a missing column is"
        " a field that is left out. The separator is a comma, a semicolon or a tab",
    }
    batch = batches(known)
    operation = paths["/predict/batch"]["post"]
    operation["requestBody"] = {
        "required": True,
        "content": {
            JSON: _content(_schema("BatchRequest"), {"two sessions": batch["json"]}),
            CSV: _content(table, {"two sessions": batch["csv"]}),
            NDJSON: _content(lines, {"two sessions": batch["ndjson"]}),
        },
    }
    operation["responses"]["200"]["content"][NDJSON] = {
        "schema": {"type": "string", "description": "for each line, a line with the reply of /predict or the errors"}
    }


def _with_defaults_in_words(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a body with each default in the description: some generators require a field with a default.

    Such a client would refuse to compile without fields that zap does not require.
    """
    properties = copy.deepcopy(schema.get("properties", {}))
    for field in properties.values():
        if "default" in field:
            field["description"] += f"; default: {json.dumps(field.pop('default'))}"
    return schema | ({"properties": properties} if properties else {})


def _content(schema: Mapping[str, Any], examples: Mapping[str, Any]) -> dict[str, Any]:
    return {"schema": schema, "examples": {name: {"value": value} for name, value in examples.items()}}


def _add_parameters(document: dict[str, Any], values: Mapping[str, int | str]) -> None:
    """Add the headers, and to the numbers their ranges and examples.

    Litestar loses the range of an optional number, and writes the ranges of others as 1000.0.
    """
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parameters = operation.setdefault("parameters", [])
            # Only predictions for requests can be explained.
            own = {**values, "prediction_id": values[EXPLAINED]} if path.endswith("/explanation") else values
            for one in parameters:
                _describe_parameter(one, own)
            if header := _HEADERS.get((method, path)):
                name, description, limits = header
                schema = {"type": "string", **limits}
                parameters.append({"name": name, "in": "header", "description": description, "schema": schema})
            if not parameters:
                del operation["parameters"]


def _describe_parameter(one: dict[str, Any], values: Mapping[str, int | str]) -> None:
    """Add to a parameter its range, and to a parameter of a path its example."""
    if one["name"] == "before":
        one["schema"] = {"type": "integer", "minimum": 1, "maximum": LARGEST_ID}
    elif one["name"] == "limit":
        one["schema"] |= {"minimum": 1, "maximum": MOST_ENTRIES}
    elif one["name"] in {"version", "input_id"}:
        one["schema"] |= {"minimum": 0, "maximum": LARGEST_ID}
    elif one["in"] == "path":
        if one["name"] in values:
            one["example"] = values[one["name"]]
        if one["schema"].get("type") == "integer":
            one["schema"] = {"type": "integer", "minimum": 0, "maximum": LARGEST_ID}


def _add_access(document: dict[str, Any], app: Litestar) -> None:
    """Add to every route which scopes a key needs for it, and the errors that a route does not name."""
    needs_key = app.state.api_keys.is_closed
    scopes = {(path, method): needed_scopes(handler) for path, method, handler in _operations(app)}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            refusals = _problems(400, 415, 421)
            # 403: a page of another site may change nothing, the key may lack a scope, and the role of zap may lack a
            # right in the database.
            if method != "get" or operation.get("tags") != ["health"]:
                refusals |= _problems(403)
            if method == "post":
                refusals |= _problems(408)
            needed = scopes[path, method]
            if needed is not None:
                names = sorted(needed)
                said = f"Needs a key with the scope {' and '.join(names)}." if names else "Needs a key."
                operation["description"] = "\n\n".join(filter(None, (operation.get("description"), said)))
                if needs_key:
                    refusals |= _problems(401, 429)
                    operation["security"] = [{scheme: names} for scheme in _SCHEMES]
            operation["responses"] = dict(sorted({**refusals, **operation["responses"]}.items()))
    if needs_key:
        document["components"]["securitySchemes"] = copy.deepcopy(_SCHEMES)


def _operations(app: Litestar) -> Iterator[tuple[str, str, BaseRouteHandler]]:
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for handler in route.route_handlers:
                yield from ((route.path_format, method.lower(), handler) for method in handler.http_methods)
        elif isinstance(route, ASGIRoute):
            yield route.path_format, "post", route.route_handler
