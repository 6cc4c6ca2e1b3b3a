"""The login of a browser: who has its cookie, and when it ends."""

import pytest
from keyed import make_key
from sqlalchemy import text

from zap.db.api_keys import revoke_keys
from zap.server.keys import Keys
from zap.server.logins import Logins

KEY = "correct horse battery"


def opened(engine, setting=KEY):
    """Return the keys and the logins of a server process."""
    keys = Keys(setting)
    keys.look(engine)
    return keys, Logins(keys)


def login_of(logins, engine, cookie):
    key = logins.key_of(cookie)
    return key if key is not None and logins.is_valid(engine, cookie, key) else None


def test_every_process_accepts_it_until_its_key_is_changed(engine):
    keys, logins = opened(engine)
    cookie = logins.begin(engine, keys.find(KEY.encode()))

    assert login_of(opened(engine)[1], engine, cookie).name == "ZAP_API_KEY"
    assert login_of(opened(engine, f"{KEY}2")[1], engine, cookie) is None
    assert login_of(opened(engine, None)[1], engine, cookie) is None


def test_it_ends_with_its_key_or_by_a_person(engine):
    made = make_key(engine, "read", name="reader"), make_key(engine, "train")
    keys, logins = opened(engine)
    cookies = [logins.begin(engine, keys.find(key.encode())) for key in made]
    assert [login_of(logins, engine, one).name for one in cookies] == ["reader", "train"]

    revoke_keys(engine, "reader")
    keys.look(engine)
    assert login_of(logins, engine, cookies[0]) is None
    logins.end(engine, cookies[1], logins.key_of(cookies[1]))
    assert login_of(logins, engine, cookies[1]) is None


@pytest.mark.parametrize("change", ["secret", "key", "cut", "empty", "dot", "long", "ukrainian", "what is stored"])
def test_nobody_can_make_one_up(engine, change):
    made = make_key(engine, "read"), make_key(engine, "admin")
    keys, logins = opened(engine)
    of_read, of_admin = (keys.find(key.encode()) for key in made)
    cookie = logins.begin(engine, of_read)
    with engine.connect() as connection:
        (stored,) = connection.execute(text("SELECT login FROM logins")).one()
    secret = cookie.partition(".")[2]
    changed = {
        "secret": f"{of_read.key_id}.{'a' * len(secret)}",
        "key": f"{of_admin.key_id}.{secret}",
        "cut": cookie[:-1],
        "empty": "",
        "dot": ".",
        "long": cookie + "0" * 1000,
        "ukrainian": "їжак",
        "what is stored": f"{of_read.key_id}.{stored}",
    }[change]

    assert login_of(logins, engine, cookie) is of_read
    assert login_of(logins, engine, changed) is None
