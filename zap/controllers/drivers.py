"""/drivers: the rights of a driver: an export of all that is held, and the erasure."""

from typing import Annotated, Any
from urllib.parse import unquote

from litestar import Controller, Request, delete, get
from litestar.datastructures import State
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import PathParameter
from litestar.response import Stream
from msgspec import Meta, Struct

from zap.controllers.problems import problem_specs
from zap.flows.driver_erasure import as_plain
from zap.public import TAKES_ITS_TIME
from zap.scopes import ERASE, needs
from zap.server.driver_rights import EXPORT_HEADERS, ZIP

_Driver = Annotated[str, PathParameter(description="the id of the driver, as requests and sessions name it")]
_BELOW, _EXPORT = b"/drivers/", b"/export"


class ErasedDriver(Struct):
    """What was erased; it was committed before this reply is sent."""

    erased_at: Annotated[str, Meta(description="when (UTC)")]
    counts: Annotated[
        dict[str, int],
        Meta(
            description="for each table how many rows were removed, or changed so that the driver is no longer in them;"
            " tables without such rows are left out"
        ),
    ]
    versions: Annotated[list[int], Meta(description="the model versions that may have learned from the driver")]
    running_training: Annotated[
        int | None, Meta(description="the training that runs, which may have read the driver's sessions")
    ]
    other_databases: Annotated[
        list[str], Meta(description="the names of other SQLite files, such as backups, that may still hold the driver")
    ]
    wal_is_empty: Annotated[bool, Meta(description="on SQLite, whether the WAL was emptied")]
    places_in_file: Annotated[
        int | None,
        Meta(
            description="on SQLite, how often the id is still in unused bytes of the file; VACUUM removes them. null if"
            " the search did not come to its end"
        ),
    ]
    rewritten: Annotated[bool, Meta(description="on SQLite, whether the whole file was rewritten")]
    notes: Annotated[list[str], Meta(description="what people should do, in sentences")]


class DriverController(Controller):
    path = "/drivers"
    tags = ("drivers",)

    @delete(
        "/{user_id:str}",
        status_code=200,
        operation_id="eraseDriver",
        summary="Erase a driver",
        opt=needs(ERASE) | TAKES_ITS_TIME,
        responses=problem_specs(404, 503),
    )
    async def erase(self, request: Request[Any, Any, State], user_id: _Driver, state: State) -> ErasedDriver:
        """Remove everything that zap holds of a driver, in one transaction. This cannot be undone.

        Sessions, user, vehicles, requests, answers, outcomes, answers of trials and stored examples are removed, also
        of a driver whom only requests have named. Every server forgets the driver within two seconds. Sums over all
        drivers stay. A request of this driver that arrives later is a new request, and is stored again. zap remembers a
        keyed hash of the id, so that the driver is erased again if an older backup is restored.
        """
        report = await state.driver_rights.erase(_named(request, user_id))
        return ErasedDriver(**as_plain(report))

    @get(
        "/{user_id:str}/export",
        operation_id="exportDriver",
        summary="Export all that is held of a driver",
        opt=needs(ERASE) | TAKES_ITS_TIME,
        media_type=ZIP,
        responses={
            200: ResponseSpec(bytes, media_type=ZIP, description="a ZIP of NDJSON files with a README"),
            **problem_specs(404, 503),
        },
    )
    async def export(self, request: Request[Any, Any, State], user_id: _Driver, state: State) -> Stream:
        """Return one ZIP file with a file of NDJSON for each table, and a README that explains every column."""
        portions = await state.driver_rights.export(_named(request, user_id))
        return Stream(portions, media_type=ZIP, headers=EXPORT_HEADERS)


def _named(request: Request[Any, Any, Any], user_id: str) -> str:
    """Return the id in the path, which may have any characters, encoded."""
    # A slash in the id is still encoded in Litestar's path. A slash at the end of the path means nothing.
    sent = request.scope.get("raw_path", b"").partition(b"?")[0].partition(_BELOW)[2].rstrip(b"/")
    if request.method == "GET":
        sent = sent.removesuffix(_EXPORT)
    return unquote(sent.decode("ascii", "replace")) if sent else user_id
