"""POST /train-model: one training in a process of its own, and its report."""

import asyncio
import contextlib
import json
import os
import sys
from asyncio.subprocess import Process
from collections.abc import Sequence
from typing import Any

import structlog
from litestar import Controller, Request, Response, post
from litestar.datastructures import State
from litestar.params import RawBody
from sqlalchemy.exc import SQLAlchemyError

from zap.controllers.problems import problem_specs
from zap.controllers.schemas import TrainReply
from zap.db.training_runs import refuse_if_running
from zap.errors import InvalidRequest, TrainingFailed, UnsupportedMediaType, ZapError
from zap.ml.json_body import Expected, kind_of, load_json, malformed, read_fields, unknown_field
from zap.settings import Settings

log = structlog.get_logger(__name__)

# What the body may ask for: the options of `zap train`.
_OPTIONS = {
    "tune": "search the hyper-parameters first; this training and later ones use what was found",
    "windows": "evaluate over five rolling windows of the history too",
}
_BODY = Expected(
    "no body, or one JSON object",
    _OPTIONS,
    wrong_value=lambda _, value: None if isinstance(value, bool) else f"must be true or false, not {kind_of(value)}",
    unknown=lambda name: unknown_field(name, _OPTIONS),
)


class ReportedError(ZapError):
    """An error that the training process reported as problem details."""

    def __init__(self, problem: dict[str, Any]) -> None:
        super().__init__(problem["detail"])
        self._problem = problem
        # The instance's status, not the class's: it is what the other process said.
        self.status_code = problem["status"]  # type: ignore[misc]

    def problem(self) -> dict[str, Any]:
        return self._problem


class TrainingController(Controller):
    tags = ("training",)

    @post(
        "/train-model",
        status_code=200,
        operation_id="trainModel",
        summary="Train on the whole history and serve the new model",
        request_max_body_size=65536,
        responses=problem_specs(400, 401, 409, 413, 415, 422, 500, 503),
    )
    async def train(self, request: Request[Any, Any, State], body: RawBody, state: State) -> Response[TrainReply]:
        """Needs no body. Answers when the training is over: seconds for thousands of sessions.

        With `"windows": true` the model is also tried on five rolling windows of the history, and `beats_baseline`
        follows from them. With `"tune": true` hyper-parameters are searched first, on the first 90 % only: minutes for
        thousands of sessions. This training and later ones use what was found.

        The charger type that is learned is the one that drivers used, not the one that would have been best. The
        scores are those of the last 10 % of the sessions, beside what guessing scores on the same sessions. Where the
        history is the synthetic one of `zap sample-history`, the reply says so: its scores mean nothing elsewhere.
        """
        options = _options(request, body)
        await asyncio.to_thread(refuse_if_running, state.engine)
        report = await run_in_child(state.settings, state.children, options)
        try:
            await asyncio.to_thread(state.production.refresh)
        except SQLAlchemyError as error:
            # The training succeeded; the watch looks again in a moment.
            log.warning("the new version is not served here yet", error=type(error).__name__)
        # The bytes go out as `zap train --json` printed them: one report, however it was asked for.
        return Response(report, media_type="application/json")  # type: ignore[arg-type]


async def run_in_child(settings: Settings, children: set[Process], options: Sequence[str]) -> bytes:
    """Run `zap train --json` with more options and return what it printed: the report.

    A process, so that neither its threads nor its memory disturb this one's predictions; spawned, never forked, because
    LightGBM's threads do not survive a fork. While it runs it is in `children`, for `end_children`.

    Raises:
        ZapError: what the training reported.
    """
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "zap", "train", "--json", "--no-upgrade", *options,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **settings.environment()},
    )  # fmt: skip
    children.add(child)
    printed, _ = await child.communicate()
    children.discard(child)
    if child.returncode == 0:
        return printed.rstrip(b"\n")
    try:
        raise ReportedError(json.loads(printed))
    except (ValueError, KeyError):
        log.error("the training process died", exit_code=child.returncode)
        raise TrainingFailed("its process died; the log says more, and the model that served still does") from None


async def end_children(children: set[Process]) -> None:
    """End the trainings that run when the server stops: asked first, so that they clean up behind themselves."""
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            child.terminate()
        try:
            await asyncio.wait_for(child.wait(), timeout=3)
        except TimeoutError:
            child.kill()


def train_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the body."""
    properties = {
        name: {"type": "boolean", "default": False, "description": description}
        for name, description in _OPTIONS.items()
    }
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _options(request: Request[Any, Any, State], body: bytes) -> list[str]:
    """The options of `zap train` that a body asks for."""
    if not body.strip():
        return []
    if request.content_type[0] != "application/json":
        raise UnsupportedMediaType("send no body, or an object with the header Content-Type: application/json")
    try:
        fields = load_json(body.decode(), _BODY.words)
    except UnicodeDecodeError as error:
        raise malformed(body, error, _BODY.words) from None
    errors: list[dict[str, str]] = []
    values = read_fields(fields, _BODY, errors)
    if errors:
        raise InvalidRequest(errors)
    return [f"--{name}" for name, value in values.items() if value]
