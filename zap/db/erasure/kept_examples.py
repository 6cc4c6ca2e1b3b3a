"""What versions and monitors keep of single drivers: examples of their training sessions, and samples of drivers.

A version keeps some requests of its training with their pasts, without ids, to be computed again when it is loaded.
The monitor of drift keeps hashes of the drivers of some weeks. They are hashes without a key, so they count as ids.
"""

import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table, select, update

from zap.db.monitoring_tables import MonitorState
from zap.db.stored_json import Damaged
from zap.db.tables import ModelVersion, utc_now
from zap.ml.cells import to_seconds
from zap.monitoring.driver_sample import driver_hash

_VERSIONS: Table = ModelVersion.__table__  # type: ignore[attr-defined]
_STATES: Table = MonitorState.__table__  # type: ignore[attr-defined]
_BITS = 64


class Examples(NamedTuple):
    """The examples of one version: those that are a driver's, and the others."""

    model_version: int
    theirs: list[dict[str, Any]]
    others: list[dict[str, Any]]


class Sampled(NamedTuple):
    """What a monitor of drift remembers of a driver.

    Attributes:
        model_version: the version whose requests are watched.
        hash: the hash of the driver's id.
        row: the driver's values of the current week, each as the number of a class; None if no row is kept.
        weeks: the earlier weeks in which the driver was counted.
        state: the whole state.
    """

    model_version: int
    hash: int
    row: list[int] | None
    weeks: list[int]
    state: dict[str, Any]


def examples_of(connection: Connection, starts: Collection[datetime]) -> Iterator[Examples]:
    """Yield the versions with examples of a driver. Examples have no ids, so they are found by the starts of sessions.

    An example of another driver with a session that started in the same second counts too.

    Args:
        connection: on a database at head.
        starts: when the driver's sessions started, as wall time.
    """
    seconds = {to_seconds(start) for start in starts}
    columns = _VERSIONS.c.model_version, _VERSIONS.c.golden
    stored = connection.execute(select(*columns).where(_VERSIONS.c.golden.is_not(None)).order_by(columns[0]))
    for number, golden in stored:
        if not isinstance(golden, list):
            # Another program has damaged them: nothing of anybody can be read.
            continue
        theirs = [one for one in golden if _has_start(one, seconds)]
        if theirs:
            yield Examples(number, theirs, [one for one in golden if one not in theirs])


def remove_examples(connection: Connection, found: Sequence[Examples]) -> int:
    """Remove the examples of a driver, and return their number. The artefacts of the versions do not change."""
    for one in found:
        this = update(_VERSIONS).where(_VERSIONS.c.model_version == one.model_version)
        connection.execute(this.values(golden=one.others))
    return sum(len(one.theirs) for one in found)


def samples_of(connection: Connection, user_id: str) -> Iterator[Sampled]:
    """Yield what the monitors of drift remember of a driver."""
    number = driver_hash(user_id)
    columns = _STATES.c.model_version, _STATES.c.state
    stored = connection.execute(select(*columns).where(_STATES.c.kind == "drift", _STATES.c.state.is_not(None)))
    for version, state in stored:
        if isinstance(state, Damaged) or not state:
            continue
        kept = _part(_part(state, "sample"), "rows").get(_key(number))
        kept = kept if isinstance(kept, str) else None
        weeks = [one["week"] for one in _weeks(state) if number in one["drivers"]]
        if kept is not None or weeks:
            row = None if kept is None else list(bytes.fromhex(kept[16:]))
            yield Sampled(version, number, row, weeks, state)


def remove_samples(connection: Connection, found: Sequence[Sampled]) -> int:
    """Remove what the monitors of drift remember of a driver, and return how many states have changed.

    In earlier weeks the driver was counted, so a random number takes the place of the hash: the counts stay as they
    were, and nobody can find out who it was.
    """
    for one in found:
        _part(_part(one.state, "sample"), "rows").pop(_key(one.hash), None)
        for week in _weeks(one.state):
            week["drivers"] = [secrets.randbits(_BITS) if number == one.hash else number for number in week["drivers"]]
        this = (_STATES.c.model_version == one.model_version) & (_STATES.c.kind == "drift")
        connection.execute(update(_STATES).where(this).values(state=one.state))
    # The process that follows may have counted the driver since the state was stored, and has this in memory. With
    # another time in the row, it drops its memory and counts from the stored state on, without the driver.
    connection.execute(update(_STATES).where(_STATES.c.kind == "drift").values(updated_at=utc_now()))
    return len(found)


def _has_start(golden: Any, seconds: Collection[int]) -> bool:
    """Return whether an example, or a session of its past, started in one of these seconds."""
    try:
        start = to_seconds(datetime.fromisoformat(golden["request"]["charging_start_time"]))
        return start in seconds or any(session[0] in seconds for session in golden.get("past", ()))
    except (AttributeError, KeyError, IndexError, TypeError, ValueError):
        return False


def _weeks(state: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the earlier weeks of a state that can be read: another program may have damaged them."""
    past = state.get("past")
    weeks = past if isinstance(past, list) else []
    return [one for one in weeks if isinstance(one, dict) and "week" in one and isinstance(one.get("drivers"), list)]


def _key(number: int) -> str:
    return f"{number:016x}"


def _part(value: Mapping[str, Any], name: str) -> dict[str, Any]:
    part = value.get(name)
    return part if isinstance(part, dict) else {}
