"""/keys: make, list, rotate and revoke keys, with a key that has the scope admin."""

from functools import partial
from typing import Annotated, Any

from litestar import Controller, Request, delete, get, post
from litestar.datastructures import State
from litestar.params import FromPath, QueryParameter

from zap.controllers.key_replies import KeyRecord, KeyRecords, NewKeyRecord, key_record, new_key_record
from zap.controllers.parameters import Limit, check_json_or_nothing, media_type
from zap.controllers.problems import problem_specs
from zap.db.api_keys import list_keys
from zap.formats.key_options import KeyOptions, Rotation
from zap.scopes import ADMIN, needs
from zap.server.bodies import read_body
from zap.server.key_changes import KeyChanges

_LARGEST_BODY = 65536
All = Annotated[bool, QueryParameter(name="all", description="true: also the keys that were revoked or have expired")]


class KeyController(Controller):
    path = "/keys"
    tags = ("keys",)
    opt = needs(ADMIN)

    @get("/", operation_id="listKeys", summary="The keys in use", responses=problem_specs(400, 503))
    async def list(self, state: State, *, every: All = False, limit: Limit = 100) -> KeyRecords:
        rows = await state.threads.run(partial(list_keys, state.engine, limit, ended=every))
        return KeyRecords([key_record(row) for row in rows])

    @post(
        "/",
        status_code=200,
        operation_id="createKey",
        summary="Make a key",
        responses=problem_specs(400, 409, 413, 415, 422, 503),
    )
    async def create(self, request: Request[Any, Any, State], state: State) -> NewKeyRecord:
        """Make a key, and show it. Nobody can see it again, because zap stores only its SHA-256.

        This server process accepts it at once, and all others within two seconds. As long as there is no key at all,
        the first one is made on the command line.
        """
        body = await read_body(request.scope, request.receive, _LARGEST_BODY)
        media_type(request, "application/json")
        options = KeyOptions.parse(body)
        return new_key_record(*await state.threads.to_its_end(KeyChanges(state).create, options))

    @post(
        "/{key_id:str}/rotate",
        status_code=200,
        operation_id="rotateKey",
        summary="Make a new key for an old one",
        responses=problem_specs(400, 404, 409, 413, 415, 422, 503),
    )
    async def rotate(self, request: Request[Any, Any, State], key_id: FromPath[str], state: State) -> NewKeyRecord:
        """Make a new key with the name, scopes, limits and length of life of an old one. No body is needed.

        The old key lives on for 24 hours, or as long as `keep` says.
        """
        body = await read_body(request.scope, request.receive, _LARGEST_BODY)
        check_json_or_nothing(request, body)
        keep = Rotation.parse(body).keep
        return new_key_record(*await state.threads.to_its_end(KeyChanges(state).rotate, key_id, keep))

    @delete(
        "/{key_id:str}",
        status_code=200,
        operation_id="revokeKey",
        summary="End a key",
        responses=problem_specs(404, 409, 503),
    )
    async def revoke(self, key_id: FromPath[str], state: State) -> KeyRecord:
        """End a key and its logins, within two seconds on all servers.

        The last key with the scope admin can be revoked on the command line only, so that nobody locks everybody out.
        """
        return key_record(await state.threads.to_its_end(KeyChanges(state).revoke, key_id))
