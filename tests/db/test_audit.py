"""The audit: a chain that shows every row that was changed, removed or inserted, on both engines."""

import hashlib
import json
import multiprocessing
from datetime import UTC, datetime

import pytest
from every_table import TEXTS
from sqlalchemy import insert, select, text
from sqlalchemy.exc import DBAPIError
from structlog.testing import capture_logs

from zap.actor import ACTOR, Actor
from zap.db.audit import note
from zap.db.audit_chain import NO_HASH, Head, stored_head, verify
from zap.db.audit_list import WantedChanges, list_changes
from zap.db.audit_tables import AuditHead, AuditRow
from zap.db.engine import create_engine, write_transaction
from zap.db.triggers import drop_triggers

AUDIT, HEAD = AuditRow.__table__, AuditHead.__table__


def add(engine, rows):
    for number in range(rows):
        with write_transaction(engine) as connection:
            note(connection, "version.promote", f"version {number}", before={"version": None}, after={"n": number})


def stored(engine):
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(select(AUDIT).order_by(AUDIT.c.audit_id)).mappings()]


def tamper(engine, *statements):
    """Change rows as somebody does who owns the database, and takes the triggers away first."""
    with write_transaction(engine) as connection:
        drop_triggers(connection)
        for statement in statements:
            connection.execute(text(statement) if isinstance(statement, str) else statement)


def test_a_row_says_who_did_what_on_what_and_holds_the_row_before(engine):
    """The hash is computed here again from the manual's words, so that anybody can check the chain."""
    present = ACTOR.set(Actor("backend", "203.0.113.9"))
    for name in (*TEXTS, "half \ud83d and \0 zero", "x" * 5000):
        with write_transaction(engine) as connection:
            note(connection, "key.create", name, before={"name": name}, after={"a": [1, None, "ü"], "long": name * 9})
    ACTOR.reset(present)
    with write_transaction(engine) as connection:
        note(connection, "training.start", "run 1")

    rows, before = stored(engine), "0" * 64
    for number, row in enumerate(rows, 1):
        assert row["audit_id"] == number
        assert row["previous_hash"] == before
        form = [
            number,
            row["happened_at"].strftime("%Y-%m-%dT%H:%M:%S.%f+00:00"),
            *(row[name] for name in ("who", "origin", "action", "subject", "before", "after", "previous_hash")),
        ]
        assert row["hash"] == hashlib.sha256(json.dumps(form, separators=(",", ":")).encode()).hexdigest()
        before = row["hash"]
    assert {row["who"] for row in rows[:-1]} == {"backend"}
    assert (rows[-1]["who"], rows[-1]["origin"]) == ACTOR.get()
    assert (rows[-1]["before"], rows[-1]["after"]) == (None, None)
    assert json.loads(rows[2]["after"]) == {"a": [1, None, "ü"], "long": TEXTS[2] * 9}
    assert rows[5]["subject"] == "half ? and ␀ zero"
    assert len(rows[6]["subject"]) == 300
    assert json.loads(rows[6]["after"])["characters"] > 45_000
    assert abs((datetime.now(UTC) - rows[-1]["happened_at"]).total_seconds()) < 60
    assert verify(engine).head == Head(8, before)
    with engine.connect() as connection:
        assert stored_head(connection) == Head(8, before)


def fail_after_note(engine):
    with write_transaction(engine) as connection:
        note(connection, "version.promote", "version 1")
        raise ZeroDivisionError


def test_a_row_is_only_written_and_logged_with_its_change(engine):
    with capture_logs() as logged, pytest.raises(ZeroDivisionError):
        fail_after_note(engine)
    assert logged == []
    assert stored(engine) == []

    with capture_logs() as logged:
        add(engine, 1)
    (event,) = logged
    (row,) = stored(engine)
    assert (event["event"], event["audit_id"], event["head"]) == ("a change was written down", 1, row["hash"])


REFUSED = {
    "sqlite": [
        "UPDATE audit SET who = 'nobody'",
        "UPDATE audit SET audit_id = 9 WHERE audit_id = 3",
        "DELETE FROM audit WHERE audit_id = 3",
        "INSERT OR REPLACE INTO audit SELECT * FROM audit WHERE audit_id = 3",
    ],
    "postgresql": [
        "UPDATE audit SET who = 'nobody'",
        "DELETE FROM audit WHERE audit_id = 3",
        "TRUNCATE audit",
        # As a program that works as a replica.
        "SET session_replication_role = replica; DELETE FROM audit",
    ],
}


def test_the_database_refuses_to_change_rows(engine):
    add(engine, 3)
    before = stored(engine)
    for statements in REFUSED[engine.dialect.name]:
        with pytest.raises(DBAPIError, match="rows of audit are only added"):
            run(engine, *statements.split("; "))
    assert stored(engine) == before
    assert verify(engine).why is None


def run(engine, *statements):
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


COPY = """INSERT INTO audit
          (audit_id, happened_at, who, origin, action, subject, "before", "after", previous_hash, hash)
          SELECT {}, happened_at, who, origin, action, subject, "before", "after", previous_hash, hash FROM audit
          WHERE audit_id = 5"""
# What somebody does to five rows, the first broken row, and what the check says.
FOUND = {
    "changed": (["UPDATE audit SET who = 'nobody' WHERE audit_id = 3"], 3, "was changed"),
    "changed, with its hash": (
        ["UPDATE audit SET who = 'nobody', hash = '{hash}' WHERE audit_id = 3"],
        4,
        "does not follow the row before it",
    ),
    "another time": (["UPDATE audit SET happened_at = '2020-01-01 00:00+00:00' WHERE audit_id = 2"], 2, "was changed"),
    "removed": (["DELETE FROM audit WHERE audit_id IN (2, 3)"], 2, "the rows 2 to 3 are missing"),
    "removed at the start": (["DELETE FROM audit WHERE audit_id = 1"], 1, "row 1 is missing"),
    "removed at the end": (["DELETE FROM audit WHERE audit_id = 5"], 5, "row 5 is missing at the end"),
    "removed, and numbered again": (
        [
            "DELETE FROM audit WHERE audit_id = 3",
            "UPDATE audit SET audit_id = 3 WHERE audit_id = 4",
            "UPDATE audit SET audit_id = 4 WHERE audit_id = 5",
        ],
        3,
        "was changed",
    ),
    "exchanged": (
        [
            "UPDATE audit SET audit_id = 99 WHERE audit_id = 2",
            "UPDATE audit SET audit_id = 2 WHERE audit_id = 3",
            "UPDATE audit SET audit_id = 3 WHERE audit_id = 99",
        ],
        2,
        "was changed",
    ),
    "inserted at the end": ([COPY.format(6)], 6, "was changed"),
    "inserted at the start": ([COPY.format(0)], 1, "row 0 was inserted"),
    "inserted with the largest number": ([COPY.format(2**63 - 1)], 6, "the rows 6 to 9223372036854775806 are missing"),
    "all removed": (["DELETE FROM audit"], 1, "the rows 1 to 5 are missing at the end"),
    "the head removed": (["DELETE FROM audit_head"], 1, "row 1 comes after the head"),
    "another head": (["UPDATE audit_head SET hash = 'x'"], 5, "does not have the hash of the head"),
    "another count": (["UPDATE audit_head SET count = 7"], 6, "the rows 6 to 7 are missing at the end"),
}


def test_every_change_behind_the_back_of_zap_is_found(engine):
    """Each change is rolled back after the check, by making the table as it was."""
    add(engine, 5)
    whole = stored(engine)
    fitting = _hash({**whole[2], "who": "nobody"})
    for what, (statements, broken, says) in FOUND.items():
        tamper(engine, *(statement.replace("{hash}", fitting) for statement in statements))

        found = verify(engine)
        assert (found.broken, says in str(found.why)) == (broken, True), (what, found)

        # What is damaged keeps no change from happening, and stays visible.
        add(engine, 1)
        assert verify(engine).broken is not None, what
        tamper(
            engine,
            "DELETE FROM audit",
            "DELETE FROM audit_head",
            insert(AUDIT).values(whole),
            insert(HEAD).values(head_id=1, count=5, hash=whole[-1]["hash"]),
        )
        assert verify(engine).why is None, what


@pytest.mark.parametrize("count", ["'many'", "x'00'", "1.5", "-3", str(2**63 - 1)])
def test_a_head_without_a_number_of_rows_is_found_and_keeps_no_change_from_happening(sqlite_engine, count):
    """SQLite lets another program store a value of any type."""
    add(sqlite_engine, 5)
    tamper(sqlite_engine, f"UPDATE audit_head SET count = {count}, hash = x'ff'")

    found = verify(sqlite_engine)

    assert (found.broken, found.head.rows) == (5, 5)
    assert "does not say how many rows there are" in found.why
    assert list_changes(sqlite_engine, WantedChanges(), 1).head.rows == 0
    add(sqlite_engine, 1)
    assert [row["audit_id"] for row in stored(sqlite_engine)] == [1, 2, 3, 4, 5, 6]
    assert verify(sqlite_engine).broken == 6


def _hash(row):
    names = ("who", "origin", "action", "subject", "before", "after", "previous_hash")
    moment = row["happened_at"].strftime("%Y-%m-%dT%H:%M:%S.%f+00:00")
    form = [row["audit_id"], moment, *(row[name] for name in names)]
    return hashlib.sha256(json.dumps(form, separators=(",", ":")).encode()).hexdigest()


def test_a_chain_that_was_made_anew_lacks_the_hash_that_was_written_down(engine):
    add(engine, 3)
    written_down = stored(engine)[1]["hash"]
    assert verify(engine, written_down) == (verify(engine).head, None, None, 2)
    assert verify(engine, NO_HASH).known_at == 0
    tamper(engine, "DELETE FROM audit", "DELETE FROM audit_head")
    add(engine, 5)

    found = verify(engine, written_down)
    assert found.why is None
    assert found.known_at is None


def _add_in_process(url, rows, name):
    ACTOR.set(Actor(name, "command line"))
    engine = create_engine(url)
    add(engine, rows)
    engine.dispose()


def test_writers_in_several_processes_make_one_chain(database_url):
    """Also the first row, which nobody has made yet."""
    # One process imports zap, and the writers are forked from it.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["zap.db.audit", "zap.db.engine"])
    writers = [context.Process(target=_add_in_process, args=(database_url, 30, f"writer {n}")) for n in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0

    engine = create_engine(database_url)
    rows = stored(engine)
    assert [row["audit_id"] for row in rows] == list(range(1, 91))
    assert {row["who"] for row in rows[:89]} == {"writer 0", "writer 1", "writer 2"}
    assert verify(engine).head == Head(90, rows[-1]["hash"])
    engine.dispose()
