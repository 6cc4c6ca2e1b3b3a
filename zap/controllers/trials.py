"""/trials, and the trial of a model version: begin it, end it, and see what it has found."""

from typing import Any

import msgspec
from litestar import Controller, Request, get, post
from litestar.datastructures import State
from litestar.params import FromPath

from zap.controllers.parameters import Before, Limit, check_json_or_nothing, check_number
from zap.controllers.problems import problem_specs
from zap.controllers.trial_replies import TrialRecord, TrialRecords
from zap.db.monitoring.trials import list_trials, read_trial
from zap.flows.trials import stop_trial, try_version
from zap.formats.promotion_reason import Reason
from zap.formats.trial_options import TrialOptions, needed_for
from zap.formats.values import LARGEST_ID
from zap.scopes import READ, TRAIN, needs
from zap.server.access import check_scopes, name_of
from zap.server.bodies import read_body

_LARGEST_BODY = 65536


class TrialController(Controller):
    tags = ("models",)

    @post(
        "/models/{model_version:int}/trial",
        status_code=200,
        operation_id="tryModel",
        opt=needs(TRAIN),
        summary="Let a version answer the same requests as the version in production, unseen",
        responses=problem_specs(400, 404, 409, 413, 415, 422, 503),
    )
    async def begin(self, request: Request[Any, Any, State], model_version: FromPath[int], state: State) -> TrialRecord:
        """Begin a trial of a version. No body is needed.

        From now on the version answers each request that the version in production answers, a few seconds later, and
        nobody sees its answers. At the end of each week, when the outcomes of the week are known, both versions are
        compared, for each driver by the mean over all sessions of the trial. The trial ends if one version is better,
        and after `weeks` at the latest. With `"on_better": "promote"`, the version serves after the trial if it is
        better.

        The probability that a version is promoted although it is not better is at most 5 % for four trials together,
        however often anybody looks. The drivers saw the answers of the version that serves, and this is an advantage
        for that version.
        """
        check_number(request, model_version, "model version", ending="/trial")
        body = await _body(request)
        options = TrialOptions.parse(body).said_by(name_of(request.scope))
        check_scopes(request.scope, needed_for(options.on_better), f"on_better: {options.on_better}")
        return _record(await state.threads.to_its_end(try_version, state.engine, model_version, options))

    @post(
        "/models/{model_version:int}/trial/end",
        status_code=200,
        operation_id="endTrial",
        opt=needs(TRAIN),
        summary="End the trial of a version",
        responses=problem_specs(400, 404, 413, 415, 422, 503),
    )
    async def end(self, request: Request[Any, Any, State], model_version: FromPath[int], state: State) -> TrialRecord:
        """End the running trial of a version, without a verdict. No body is needed."""
        check_number(request, model_version, "model version", ending="/trial/end")
        reason = Reason.parse(await _body(request)).said_by(name_of(request.scope))
        return _record(await state.threads.to_its_end(stop_trial, state.engine, model_version, reason))

    @get(
        "/trials",
        operation_id="listTrials",
        opt=needs(READ),
        summary="The newest trials",
        responses=problem_specs(400, 503),
    )
    async def list(self, state: State, limit: Limit = 20, before: Before = LARGEST_ID) -> TrialRecords:
        rows = await state.threads.run(state.reads.read, list_trials, limit, before)
        return TrialRecords([_record(row) for row in rows])

    @get(
        "/trials/{trial_id:int}",
        operation_id="getTrial",
        opt=needs(READ),
        summary="A trial, and what it has found",
        responses=problem_specs(404, 503),
    )
    async def read(self, request: Request[Any, Any, State], trial_id: FromPath[int], state: State) -> TrialRecord:
        check_number(request, trial_id, "trial")
        return _record(await state.threads.run(read_trial, state.engine, trial_id))


async def _body(request: Request[Any, Any, State]) -> bytes:
    body = await read_body(request.scope, request.receive, _LARGEST_BODY)
    check_json_or_nothing(request, body)
    return body


def _record(row: dict[str, Any]) -> TrialRecord:
    return msgspec.convert(row, TrialRecord)
