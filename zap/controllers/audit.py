"""GET /audit: who changed what."""

from datetime import datetime
from typing import Annotated, Any

from litestar import Controller, get
from litestar.datastructures import State
from litestar.params import QueryParameter
from msgspec import Meta, Struct

from zap.controllers.parameters import Before, Limit
from zap.controllers.problems import problem_specs
from zap.controllers.time_parameters import FromMoment, ToMoment, check_range, moment_parameter
from zap.db.audit_list import WantedChanges, list_changes
from zap.formats.json_body import TEXT_PATTERN
from zap.formats.time_range import wrong_moments
from zap.formats.values import LARGEST_ID, LONGEST_TEXT
from zap.scopes import ADMIN, needs

# The empty text, which is the default, stands for all: a parameter that may be null would also accept "null".
_TEXT: Any = {"max_length": LONGEST_TEXT, "pattern": TEXT_PATTERN}


class AuditEntry(Struct):
    """One change."""

    audit_id: Annotated[int, Meta(description="1, 2, 3 and so on, without gaps")]
    happened_at: Annotated[datetime | None, Meta(description="on the clock of the database")]
    who: Annotated[str, Meta(description="the name of the key, or of the system user who typed a command")]
    origin: Annotated[
        str, Meta(description="the address of the client; `command line`, or `server` for what zap does by itself")
    ]
    action: Annotated[str, Meta(description="what was done, such as version.promote")]
    subject: Annotated[str, Meta(description="on what, such as version 5")]
    before: Annotated[dict[str, Any] | None, Meta(description="what was there before")]
    after: Annotated[dict[str, Any] | None, Meta(description="what is there now")]
    previous_hash: Annotated[str, Meta(description="the hash of the row before")]
    hash: Annotated[str, Meta(description="the SHA-256 of this row and of the hash of the row before")]
    unreadable: Annotated[list[str], Meta(description="what another program has damaged")]


class AuditHead(Struct):
    """The newest row. Somebody who writes it down can prove later that no row before it was changed."""

    count: Annotated[int, Meta(description="how many rows the audit has")]
    hash: Annotated[str, Meta(description="the hash of the newest row; 64 zeros if there is none")]


class Audit(Struct):
    audit: Annotated[list[AuditEntry], Meta(description="newest first")]
    next_before: Annotated[
        int | None,
        Meta(
            description="the parameter `before` of the next page; null if there are no more rows. A page may have fewer"
            " rows than its limit, or none, and still have a next page"
        ),
    ]
    head: AuditHead


class AuditController(Controller):
    tags = ("audit",)

    @get(
        "/audit",
        operation_id="listAudit",
        summary="Who changed what",
        responses=problem_specs(400, 503),
        opt=needs(ADMIN),
    )
    async def list(  # noqa: PLR0913, PLR0917 - one for each parameter
        self,
        state: State,
        since: FromMoment = "",
        until: ToMoment = "",
        who: Annotated[str, QueryParameter(description="who made the change", **_TEXT)] = "",
        action: Annotated[
            str,
            QueryParameter(
                description="what was done, such as version.promote, or the kind of the subject, such as version",
                **_TEXT,
            ),
        ] = "",
        subject: Annotated[str, QueryParameter(description="on what, such as version 5", **_TEXT)] = "",
        limit: Limit = 20,
        before: Before = LARGEST_ID,
    ) -> Audit:
        """List the changes, newest first. All parameters can be combined.

        To read on, ask again with `before` set to `next_before`, until it is null. The audit has no requests, answers
        and reports of sessions. `zap audit verify` checks that no row was changed or removed.
        """
        wanted = WantedChanges(
            since=moment_parameter("from", since),
            until=moment_parameter("to", until),
            who=who or None,
            action=action or None,
            subject=subject or None,
        )
        check_range(wrong_moments(wanted.since, wanted.until))
        page = await state.threads.run(state.reads.read, list_changes, wanted, limit, before)
        head = AuditHead(page.head.rows, str(page.head.hash))
        return Audit([AuditEntry(**row) for row in page.rows], page.before, head)
