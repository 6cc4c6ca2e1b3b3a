"""The replies of /alarms."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta, Struct

from zap.monitoring.alarm_kinds import advice_for


class AlarmRecord(Struct, omit_defaults=True):
    """One alarm, from when it was raised until it was resolved."""

    alarm_id: int
    kind: Annotated[str, Meta(description="what is wrong, such as harm; the manual lists the kinds")]
    subject: Annotated[str, Meta(description="its subject, such as version 7; empty if the kind has only one subject")]
    since: Annotated[datetime, Meta(description="when it was raised")]
    until: Annotated[datetime | None, Meta(description="when it was resolved; null while it stands")]
    message: Annotated[str, Meta(description="what is wrong, as a sentence for people")]
    advice: Annotated[str, Meta(description="what to do; empty for a kind that this zap does not know")]
    evidence: Annotated[dict[str, Any] | None, Meta(description="the newest figures")]
    acknowledged_by: Annotated[
        str | None, Meta(description="who has seen the alarm; null if nobody has acknowledged it")
    ]
    acknowledged_at: datetime | None
    unreadable: Annotated[
        list[str],
        Meta(description="stored parts that are null or left out, because another program has changed them"),
    ] = []


class Alarms(Struct):
    alarms: Annotated[list[AlarmRecord], Meta(description="newest first")]


def alarm_record(row: Mapping[str, Any]) -> AlarmRecord:
    """Return an alarm with what to do about it.

    Args:
        row: the columns of the alarm.
    """
    return AlarmRecord(advice=advice_for(row["kind"]), **row)
