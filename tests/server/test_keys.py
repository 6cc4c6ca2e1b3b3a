"""The keys of a serving process: what it accepts, for how long, and how soon it sees a change."""

import time
from datetime import timedelta

import httpx
import pytest
from keyed import make_key
from servers import Server, until
from sqlalchemy import text, update

from zap.db.api_keys import list_keys, revoke_keys, rotate_key
from zap.db.engine import write_transaction
from zap.db.key_tables import ApiKey
from zap.db.tables import utc_now
from zap.errors import DatabaseUnavailable, KeyRefused, NotFound
from zap.formats.api_key import is_whole, new_key
from zap.scopes import SCOPES
from zap.server import keys as module
from zap.server.keys import Keys
from zap.server.request_rate import RequestRate

KEY = "correct horse battery"
# A change has to count on all servers after this time (seconds).
SOON = 2.0


def known(engine, setting=None):
    keys = Keys(setting)
    keys.look(engine)
    return keys


def test_it_finds_each_key_with_its_scopes(engine):
    made = {scope: make_key(engine, scope, requests_per_second=2.5) for scope in ("read", "admin")}

    keys = known(engine, KEY)

    assert keys.find(made["read"].encode()).scopes == {"read"}
    assert keys.find(made["admin"].encode()).scopes == {*SCOPES}
    assert keys.find(KEY.encode()).scopes == {*SCOPES}
    assert keys.find(KEY.encode()).own_name is None
    assert keys.find(made["read"].encode()).rate.limit == 2.5
    assert keys.find(new_key().key.encode()) is None
    assert keys.find(b"") is keys.with_id("") is None


def test_it_is_closed_from_the_first_key_on(engine):
    keys = Keys(None)
    assert keys.is_closed
    keys.look(engine)
    assert not keys.is_closed

    make_key(engine, "read", name="only")
    keys.look(engine)
    assert keys.is_closed
    # A server whose last key has ended is not open to everybody.
    revoke_keys(engine, "only")
    keys.look(engine)
    assert keys.is_closed


def test_a_key_ends_by_the_clock_and_after_a_rotation(engine, monkeypatch):
    key = make_key(engine, "read", name="app", expires="30d")
    new = rotate_key(engine, "app", timedelta(hours=1))
    keys, now = known(engine), time.time()

    assert is_whole(new.key)
    assert new.row["expires_at"] - new.row["created_at"] == timedelta(days=30)
    for after, valid in ((0, (True, True)), (3700, (False, True)), (30 * 86_400 + 60, (False, False))):
        monkeypatch.setattr(module.time, "time", lambda after=after: now + after)
        assert (keys.find(key.encode()) is not None, keys.find(new.key.encode()) is not None) == valid
    with pytest.raises(KeyRefused, match="already"):
        make_key(engine, "read", name="app")
    revoked = revoke_keys(engine, "app")
    assert {one["status"] for one in revoked} == {"revoked"}
    assert len(revoked) == 2
    with pytest.raises(NotFound):
        rotate_key(engine, "app", timedelta(hours=1))
    make_key(engine, "read", name="app")


def test_without_the_database_keys_are_accepted_for_a_while(engine, monkeypatch):
    key, keys = make_key(engine, "read").encode(), Keys(KEY)
    keys.look(engine)
    now = time.monotonic()

    monkeypatch.setattr(module.time, "monotonic", lambda: now + module.FRESH_SECONDS - 0.5)
    assert keys.find(key) is not None
    monkeypatch.setattr(module.time, "monotonic", lambda: now + module.FRESH_SECONDS + 0.5)
    with pytest.raises(DatabaseUnavailable):
        keys.find(key)
    # Nobody can revoke the key of the settings in the database.
    assert keys.find(KEY.encode()) is not None
    assert keys.find(b"wrong") is None


@pytest.mark.parametrize(
    "damage",
    [
        {"digest": "not hexadecimal"},
        {"scopes": '{"read": 1}'},
        {"scopes": "no JSON"},
        {"scopes": '["root"]'},
        {"expires_at": "some day"},
        {"requests_per_second": "many"},
        {"requests_per_second": 0},
        {"batch_rows_per_day": "many"},
    ],
    ids=str,
)
def test_a_damaged_row_lets_nobody_in_and_stops_no_other_key(sqlite_engine, damage):
    key, other = make_key(sqlite_engine, "read"), make_key(sqlite_engine, "train")
    (column, value) = next(iter(damage.items()))
    with write_transaction(sqlite_engine) as connection:
        connection.execute(text(f"UPDATE api_keys SET {column} = :value WHERE name = 'read'"), {"value": value})

    keys = known(sqlite_engine)

    found = keys.find(key.encode())
    assert found is None or not found.scopes
    assert keys.find(other.encode()).scopes == {"train"}
    assert {one["name"] for one in list_keys(sqlite_engine, 10, ended=True)} == {"read", "train"}


def test_uses_are_stored(engine):
    key, keys = make_key(engine, "read").encode(), known(engine)
    keys.find(key)
    keys.look(engine)
    assert list_keys(engine, 1)[0]["last_used_at"] is None
    keys.store_uses(engine)
    used = list_keys(engine, 1)[0]["last_used_at"]
    assert utc_now() - timedelta(minutes=2) < used <= utc_now()
    with write_transaction(engine) as connection:
        connection.execute(update(ApiKey).values(last_used_at=None))
    # It was not used since.
    keys.store_uses(engine)
    assert list_keys(engine, 1)[0]["last_used_at"] is None


def test_the_limit_of_requests_is_a_bucket(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("zap.server.request_rate.time.monotonic", lambda: clock[0])
    rate = RequestRate(10)
    assert [rate.take() for _ in range(12)] == [True] * 10 + [False] * 2
    assert rate.headers() == {
        "Retry-After": "1",
        "RateLimit-Policy": '"requests";q=10;w=1',
        "RateLimit": '"requests";r=0;t=1',
    }
    clock[0] += 0.35
    assert [rate.take() for _ in range(4)] == [True] * 3 + [False]
    clock[0] += 100
    assert sum(rate.take() for _ in range(100)) == 10
    seldom = RequestRate(0.1)
    assert [seldom.take(), seldom.take()] == [True, False]
    assert seldom.headers()["Retry-After"] == "10"
    assert seldom.headers()["RateLimit-Policy"] == '"requests";q=1;w=10'


def answers(servers, key, times):
    """Return the statuses of replies of all processes: each request is a connection of its own."""
    found = []
    for _ in range(times):
        for server in servers:
            with httpx.Client(base_url=server.url) as client:
                found.append(client.get("/models", headers={"X-API-Key": key}).status_code)
    return {*found}


@pytest.mark.parametrize("trained", [pytest.param("sqlite", marks=pytest.mark.long), "postgresql"], indirect=True)
def test_all_processes_of_all_servers_see_a_change_within_two_seconds(trained):
    """Two servers of two workers: a key is made, used, rotated and revoked, and outlives a restart."""
    from zap.db.engine import create_engine  # noqa: PLC0415

    settings = trained.model_copy(update={"workers": 2, "follow": False})
    engine, servers = create_engine(trained.database_url), [Server(settings), Server(settings)]
    try:
        for server in servers:
            server.wait()
        assert answers(servers, "", 4) == {200}
        key = make_key(engine, "read", name="reader")
        time.sleep(SOON)
        assert answers(servers, "", 4) == {401}
        assert answers(servers, key, 4) == {200}
        new = rotate_key(engine, "reader", timedelta(hours=1)).key
        time.sleep(SOON)
        assert answers(servers, key, 4) == answers(servers, new, 4) == {200}
        revoke_keys(engine, "reader")
        time.sleep(SOON)
        assert answers(servers, key, 8) == answers(servers, new, 8) == {401}
        servers.pop().close()
        (left,) = servers
        made = make_key(engine, "read", name="reader")
        servers.append(Server(settings).wait())
        # The server that was just started need not be waited for.
        assert answers(servers[1:], made, 4) == {200}
        until(lambda: answers([left], made, 4) == {200}, seconds=10)
        for server in servers:
            for secret in (key, new, made):
                assert secret not in server.log()
    finally:
        for server in servers:
            server.close()
        engine.dispose()
