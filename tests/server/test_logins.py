"""The signed cookie of a login: who can make it, and when it ends."""

import pytest

from zap.server import logins as module
from zap.server.logins import SECONDS, Logins

KEY = "correct horse battery"


def test_every_process_with_the_key_accepts_it():
    assert Logins(KEY).is_valid(Logins(KEY).begin())


def test_another_key_ends_it():
    assert not Logins(f"{KEY}2").is_valid(Logins(KEY).begin())


def test_it_expires(monkeypatch):
    logins = Logins(KEY)
    cookie = logins.begin()
    now = module.time.time()

    monkeypatch.setattr(module.time, "time", lambda: now + SECONDS - 5)
    assert logins.is_valid(cookie)
    monkeypatch.setattr(module.time, "time", lambda: now + SECONDS + 5)
    assert not logins.is_valid(cookie)


@pytest.mark.parametrize("change", ["later", "signature", "cut", "empty", "dots", "long", "ukrainian"])
def test_nobody_can_change_it(change):
    logins = Logins(KEY)
    expires, nonce, signature = (cookie := logins.begin()).split(".")
    changed = {
        "later": f"{int(expires) + 1}.{nonce}.{signature}",
        "signature": f"{expires}.{nonce}.{signature[:-1]}{'0' if signature[-1] != '0' else '1'}",
        "cut": cookie[:-1],
        "empty": "",
        "dots": "..",
        "long": cookie + "0" * 1000,
        "ukrainian": "їжак",
    }[change]

    assert logins.is_valid(cookie)
    assert not logins.is_valid(changed)


def test_two_logins_differ():
    assert Logins(KEY).begin() != Logins(KEY).begin()


def test_without_a_key_no_cookie_is_a_login():
    logins = Logins(None)

    assert not logins.is_needed
    assert not logins.is_valid(logins.begin())
    assert not logins.is_key("")
