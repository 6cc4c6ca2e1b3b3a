"""/keys: what a key with the scope admin may do with keys, and who cannot lock everybody out."""

from conftest import client_of
from keyed import make_key
from pydantic import SecretStr
from sqlalchemy import text

from zap.formats.api_key import is_whole


def opened(client, key):
    """Let a client send a key that was made elsewhere."""
    client.app.state.api_keys.look(client.app.state.engine)
    client.headers["X-API-Key"] = key


def test_the_whole_life_of_a_key(client):
    opened(client, make_key(client.app.state.engine, "admin", name="ann"))

    made = client.post("/keys", json={"name": "backend", "scopes": ["predict"], "expires": "90d"})

    assert made.status_code == 200
    assert made.headers["cache-control"] == "no-store"
    key, key_id = made.json()["key"], made.json()["key_id"]
    assert is_whole(key)
    assert made.json()["created_by"] == "ann"
    # This process knows it at once.
    assert client.get("/openapi.json", headers={"X-API-Key": key}).status_code == 200
    assert client.get("/keys", headers={"X-API-Key": key}).status_code == 403
    listed = client.get("/keys").json()["keys"]
    assert [(one["name"], one["status"]) for one in listed] == [("backend", "active"), ("ann", "active")]
    assert key not in client.get("/keys", params={"all": True}).text

    new = client.post(f"/keys/{key_id}/rotate", json={"keep": "1h"}).json()
    assert client.get("/openapi.json", headers={"X-API-Key": new["key"]}).status_code == 200
    old = next(one for one in client.get("/keys").json()["keys"] if one["key_id"] == key_id)
    assert (old["status"], old["replaced_by"]) == ("replaced", new["key_id"])
    assert client.post(f"/keys/{key_id}/rotate").status_code == 409
    ended = client.delete(f"/keys/{new['key_id']}")
    assert (ended.status_code, ended.json()["status"]) == (200, "revoked")
    assert client.get("/openapi.json", headers={"X-API-Key": new["key"]}).status_code == 401
    # Over HTTP an id ends one key.
    assert client.get("/openapi.json", headers={"X-API-Key": key}).status_code == 200
    assert client.delete(f"/keys/{new['key_id']}").status_code == 404
    for unknown in ("backend", "0" * 8, "%27", "a" * 5000):
        assert client.delete(f"/keys/{unknown}").status_code == 404
    with client.app.state.engine.connect() as connection:
        audit = connection.execute(text("SELECT action, who, after FROM audit ORDER BY audit_id")).all()
    changes = [(action, who) for action, who, _ in audit if action.startswith("key.")]
    # The first key was made without a request.
    assert changes[1:] == [("key.create", "ann"), ("key.rotate", "ann"), ("key.revoke", "ann")]
    assert not any(key in str(row) or key.split("_")[2][:10] in str(row) for row in audit)


def test_nobody_locks_everybody_out_over_http(trained_sqlite):
    with client_of(trained_sqlite.model_copy(update={"follow": False})) as client:
        engine = client.app.state.engine
        refused = client.post("/keys", json={"name": "mine", "scopes": ["admin"]})
        assert refused.status_code == 409
        assert "zap keys create" in refused.json()["detail"]
        assert client.get("/models").status_code == 200

        opened(client, make_key(engine, "admin", name="ann"))
        make_key(engine, "predict")
        (own,) = (one["key_id"] for one in client.get("/keys").json()["keys"] if one["name"] == "ann")
        assert client.delete(f"/keys/{own}").status_code == 409
        # An old key that lives on for a while is none that is left.
        rotated = client.post(f"/keys/{own}/rotate").json()
        assert client.delete(f"/keys/{rotated['key_id']}").status_code == 409
        make_key(engine, "admin", name="bob")
        assert client.delete(f"/keys/{rotated['key_id']}").status_code == 200
    # The key of the settings is another way in.
    keyed = trained_sqlite.model_copy(update={"follow": False, "api_key": SecretStr("correct horse battery")})
    with client_of(keyed) as client:
        opened(client, "correct horse battery")
        for one in client.get("/keys").json()["keys"]:
            assert client.delete(f"/keys/{one['key_id']}").status_code == 200
        assert client.get("/keys").json()["keys"] == []


def test_the_name_of_a_key_says_who_changes_something(client):
    opened(client, make_key(client.app.state.engine, "admin", name="ann"))

    client.post("/models/1/trial", json={})
    client.post("/models/1/promote", json={})
    with client.app.state.engine.begin() as connection:
        connection.execute(
            text("INSERT INTO alarms (kind, subject, since, message) VALUES ('harm', '', :now, 'x')"),
            {"now": "2026-03-02T00:00:00.000000+00:00"},
        )
    number = client.get("/alarms").json()["alarms"][0]["alarm_id"]
    seen = client.post(f"/alarms/{number}/acknowledge")
    assert (seen.status_code, seen.json()["acknowledged_by"]) == (200, "ann")
    other = client.post(f"/alarms/{number}/acknowledge", json={"who": "bob"})
    assert other.json()["acknowledged_by"] == "bob"


def test_a_wrong_body_changes_nothing(client):
    opened(client, make_key(client.app.state.engine, "admin", name="ann"))

    refused = client.post("/keys", json={"name": "zap", "scopes": ["predict", "root"], "expires": "1y", "scope": "x"})

    assert refused.status_code == 422
    assert {one["pointer"] for one in refused.json()["errors"]} == {"#/name", "#/scopes", "#/expires", "#/scope"}
    assert client.post("/keys", json={"name": "ann", "scopes": ["predict"]}).status_code == 409
    # `zap keys revoke` would end both keys.
    (ann,) = client.get("/keys").json()["keys"]
    assert client.post("/keys", json={"name": ann["key_id"], "scopes": ["predict"]}).status_code == 409
    assert len(client.get("/keys").json()["keys"]) == 1
