"""Sessions of frames, inserted or updated: by their ids, or by their key."""

from collections.abc import Iterator

import pandas as pd
from sqlalchemy import Connection, select

from zap.db.history.history_rows import (
    SESSIONS,
    VEHICLES,
    Key,
    Row,
    compare_rows,
    continue_ids,
    stored_rows,
    write_sessions,
)
from zap.db.history.row_upsert import CHUNK, WORDS, Count, add_up, records, upsert_rows, values_of
from zap.db.history.session_ids import new_numbers, number_texts, numbers_of, taken_ids
from zap.db.history.session_matching import SESSION_KEY, arranged, chunks_of, match_rows
from zap.ml.features import FACTS
from zap.progress import Progress


def taken_rows(connection: Connection, sessions: pd.DataFrame) -> dict[int, str]:
    """Return the places of the rows whose id belongs to another stored session, each with the reason in words."""
    if not {"session_id", "session_text"}.intersection(sessions):
        return {}
    numbers, texts, users = (
        values_of(sessions[name]) if name in sessions else [None] * len(sessions)
        for name in ("session_id", "session_text", "user_id")
    )
    ids = [number if text is None else text for number, text in zip(numbers, texts, strict=True)]
    return taken_ids(connection, ids, users, values_of(sessions["charging_start_time"]))


def upsert_sessions(
    connection: Connection, sessions: pd.DataFrame, progress: Progress, unstored: pd.DataFrame | None = None
) -> Count:
    """Insert or update sessions; see `store_history`.

    Args:
        connection: a transaction.
        sessions: the sessions.
        progress: called after each chunk.
        unstored: vehicles that are not stored, as in `store_history`. If they are given, nothing is written: the
            function only counts what would be inserted or updated.
    """
    dry = unstored is not None
    # A vehicle's id is found by its model, so it tells nothing more about a session.
    compared = {*sessions, *SESSION_KEY} - {"session_id", "session_text", "vehicle_id"}
    absent = {"session_id", *SESSION_KEY, *FACTS}.difference(sessions)
    sessions = sessions.assign(**dict.fromkeys(absent))
    sessions["session_id"] = sessions["session_id"].astype("Int64")
    if "session_text" in sessions:
        sessions = _with_numbers(connection, sessions, dry=dry)
    sessions["vehicle_id"] = _vehicle_ids(connection, sessions, unstored)
    has_id = sessions["session_id"].notna()
    named = upsert_rows(connection, SESSIONS, ("session_id",), sessions[has_id], progress, dry=dry)
    if named.added and not dry and connection.dialect.name == "postgresql":
        continue_ids(connection, SESSIONS)
    rest = _upsert_unnamed(connection, sessions[~has_id].drop(columns="session_id"), compared, progress, dry=dry)
    return Count(
        added=named.added + rest.added,
        updated=named.updated + rest.updated,
        unchanged=named.unchanged + rest.unchanged,
        repeated=named.repeated + rest.repeated,
    )


def _with_numbers(connection: Connection, sessions: pd.DataFrame, *, dry: bool) -> pd.DataFrame:
    """Return the sessions with the numbers of their texts instead of the texts. New texts get numbers in time order."""
    texts = sessions["session_text"]
    ordered = texts[sessions["charging_start_time"].argsort(kind="stable").to_numpy()].dropna().unique().tolist()
    numbers = numbers_of(connection, ordered)
    new = [text for text in ordered if text not in numbers]
    numbers |= dict(zip(new, new_numbers(connection, len(new)), strict=True)) if dry else number_texts(connection, new)
    found = pd.array([numbers.get(text) for text in values_of(texts)], dtype="Int64")
    return sessions.assign(session_id=sessions["session_id"].fillna(pd.Series(found, index=sessions.index))).drop(
        columns="session_text"
    )


def _upsert_unnamed(
    connection: Connection, frame: pd.DataFrame, compared: set[str], progress: Progress, *, dry: bool
) -> Count:
    """Insert or update sessions without a session_id.

    Sorted by time, the rows of a chunk are close together in the table, and new ids do not depend on the order of the
    rows in the file.
    """
    rows, exact = arranged(frame)
    count = Count(repeated=len(frame) - len(rows))
    # The numbers of the sessions that this import adds.
    numbers = range(0)
    ids: Iterator[int] | None = None
    for place in chunks_of(rows, exact, CHUNK):
        chunk = records(rows.iloc[place])
        others: dict[Key, list[Row]] = {}
        stored = stored_rows(connection, SESSIONS, SESSION_KEY, chunk, others)
        found, theirs = match_rows(chunk, exact[place].tolist(), (stored, others), compared, numbers)
        count.repeated += len(chunk) - len(found)
        added, changes = compare_rows(found, theirs)
        if added and ids is None and not dry:
            # For the later chunks too, so that the numbers of all chunks are in the order of the rows.
            numbers = new_numbers(connection, len(added) + len(rows) - place.stop)
            ids = iter(numbers)
        if not dry:
            write_sessions(connection, added, changes, ids)
        add_up(count, added, changes, len(found))
        progress(WORDS[SESSIONS.name], place.stop, len(rows))
    return count


def _vehicle_ids(connection: Connection, sessions: pd.DataFrame, unstored: pd.DataFrame | None) -> pd.Series:
    """Return for each session the id of the vehicle with its user and model; missing if there is none.

    A vehicle that is not stored has a negative number here, which no stored session has.
    """
    owners = values_of(sessions["user_id"])
    users = sorted({owner for owner in owners if owner is not None})
    row = (VEHICLES.c.user_id, VEHICLES.c.vehicle_model, VEHICLES.c.vehicle_id)
    known: dict[Key, int] = {}
    if unstored is not None:
        pairs = zip(values_of(unstored["user_id"]), values_of(unstored["vehicle_model"]), strict=True)
        known.update({pair: -number for number, pair in enumerate(pairs, 1)})
    for touched in [
        VEHICLES.c.user_id.is_(None),
        *(VEHICLES.c.user_id.in_(users[start : start + CHUNK]) for start in range(0, len(users), CHUNK)),
    ]:
        found = connection.execute(select(*row).where(touched).order_by(VEHICLES.c.vehicle_id.desc()))
        known.update({(user, model): vehicle for user, model, vehicle in found})
    theirs = zip(owners, values_of(sessions["vehicle_model"]), strict=True)
    return pd.Series([known.get(pair) for pair in theirs], index=sessions.index, dtype="Int64")
