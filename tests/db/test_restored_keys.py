"""Keys and logins that have ended stay ended after the restore of an older backup, on both engines."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from keyed import make_key
from sqlalchemy import func, select

from zap.db.api_keys import create_key, keys_in_use, list_keys, remove_all_keys, revoke_keys, rotate_key
from zap.db.audit_tables import AuditRow
from zap.db.engine import create_engine
from zap.db.login_tables import Login
from zap.db.logins import begin_login
from zap.db.schema import check_at_head
from zap.flows.database_backup import back_up
from zap.flows.database_restore import RestoreOptions, restore
from zap.formats.key_options import KeyOptions
from zap.server.keys import Keys

REPLACE = RestoreOptions(replace=True)


def test_a_key_that_was_revoked_after_the_backup_stays_revoked(database_url, tmp_path):
    engine = create_engine(database_url)
    made = {
        name: create_key(engine, KeyOptions.read({"name": name, "scopes": ["read"]}))
        for name in ("revoked", "rotated", "ann", "gone")
    }
    begin_login(engine, "digest of a login", made["ann"].row["key_id"], timedelta(hours=12))
    back_up(database_url, tmp_path / "backup")
    revoke_keys(engine, "revoked")
    new = rotate_key(engine, "rotated", timedelta(hours=1))
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM api_keys WHERE name = 'gone'")
    make_key(engine, "admin", name="later")
    engine.dispose()

    notes = restore(tmp_path / "backup", database_url, REPLACE).notes

    ids = {name: one.row["key_id"] for name, one in made.items()}
    ended, again = notes
    assert ended == (
        f"keys revoked ({ids['revoked']}), rotated ({ids['rotated']}): ended after the backup was made, and ended again"
    )
    assert again.startswith(f"key gone ({ids['gone']}): valid again, because the database that was replaced says")
    rows = {row["name"]: row for row in list_keys(engine, 10, ended=True)}
    assert {name: row["status"] for name, row in rows.items()} == {
        "revoked": "revoked",
        "rotated": "replaced",
        "ann": "active",
        "gone": "active",
    }
    assert rows["rotated"]["replaced_by"] == new.row["key_id"]
    assert rows["rotated"]["expires_at"] < datetime.now(UTC) + timedelta(hours=1)
    keys = Keys(None)
    keys.look(engine)
    assert keys.find(made["revoked"].key.encode()) is None
    assert keys.find(made["ann"].key.encode()).name == "ann"
    with engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(Login)) == 0
        noted = select(AuditRow.subject).where(AuditRow.action == "key.revoke")
        assert set(connection.scalars(noted)) == {f"key {ids[name]}" for name in ("revoked", "rotated")}
    check_at_head(engine)
    engine.dispose()


def test_a_backup_whose_keys_nobody_knows_names_them(sqlite_engine, tmp_path):
    url = str(sqlite_engine.url)
    for number in range(22):
        make_key(sqlite_engine, "read", name=f"program {number}")
    back_up(url, tmp_path / "backup")
    sqlite_engine.dispose()
    Path(sqlite_engine.url.database).write_bytes(b"damaged" * 1000)

    (note,) = restore(tmp_path / "backup", url, REPLACE).notes

    assert note.startswith("keys program ")
    assert note.count("program ") == 20
    assert " and 2 more: valid again, " in note
    with sqlite_engine.connect() as connection:
        assert len(keys_in_use(connection)) == 22


def test_a_backup_without_keys_says_that_the_routes_are_open(sqlite_engine, tmp_path):
    url = str(sqlite_engine.url)
    back_up(url, tmp_path / "backup")
    make_key(sqlite_engine, "admin")
    sqlite_engine.dispose()

    (note,) = restore(tmp_path / "backup", url, REPLACE).notes

    assert "every route is open to everybody" in note
    assert remove_all_keys(sqlite_engine) == 0
