"""Variables ZAP_* that are no settings: a warning, and no server without the key that was meant."""

import pytest

from zap.app import create_app
from zap.errors import InvalidSettings
from zap.settings import Settings, read_settings
from zap.variables import refuse_missed_key, unknown_variables

KEY = "0123456789abcdef0123"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("ZAP_WORKRES", "write ZAP_WORKERS"),
        ("ZAP_DATABSE_URL", "write ZAP_DATABASE_URL"),
        ("ZAP_LOGLEVEL", "write ZAP_LOG_LEVEL"),
        ("ZAP_KEY", "write ZAP_API_KEY"),
        ("ZAP_QQQQ", "the manual lists all settings"),
    ],
)
@pytest.mark.parametrize("in_file", [False, True])
def test_an_unknown_variable_is_told_with_the_nearest_name(monkeypatch, tmp_path, name, hint, in_file):
    if in_file:
        (tmp_path / ".env").write_text(f"ZAP_PORT=9001\n{name}={KEY}\n")
    else:
        monkeypatch.setenv(name, KEY)

    (unknown,) = unknown_variables()

    assert unknown.name == name
    assert f"{name}{' in .env' * in_file} and ignores it: {hint}" in unknown.sentence
    assert KEY not in str(unknown)


def test_settings_and_variables_of_others_are_not_told(monkeypatch, tmp_path):
    for name, value in Settings(api_key=KEY, timezone="Europe/London").environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("zap_workers", "2")
    monkeypatch.setenv("ZAP_TEST_POSTGRESQL", "here")
    monkeypatch.setenv("_ZAP_COMPLETE", "bash_source")
    (tmp_path / ".env").write_text("OTHER=1\nzap_port=9001\n")
    # Of Services with the names zap and zap-web.
    for service in ("ZAP", "ZAP_WEB"):
        for name in (
            *("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT_8000_TCP", "PORT_8000_TCP_PROTO"),
            *("PORT_8000_TCP_PORT", "PORT_8000_TCP_ADDR", "PORT_53_UDP_ADDR"),
        ):
            monkeypatch.setenv(f"{service}_{name}", "10.0.0.1")
        monkeypatch.setenv(f"{service}_PORT", "tcp://10.0.0.1:8000")

    assert unknown_variables() == []
    refuse_missed_key(read_settings())


@pytest.mark.parametrize(
    "name",
    [
        "ZAP_APIKEY",
        "ZAPAPIKEY",
        "zap_apikey",
        "ZAP_API_KEYS",
        "ZAP_AP_KEY",
        "ZAP_API_KYE",
        "ZAP_APJ_KEY",
        "ZAP__API_KEY",
    ],
)
@pytest.mark.parametrize("in_file", [False, True])
def test_no_server_starts_open_if_the_key_has_a_typing_error_in_its_name(monkeypatch, tmp_path, name, in_file):
    if in_file:
        (tmp_path / ".env").write_text(f"{name}={KEY}\n")
    else:
        monkeypatch.setenv(name, KEY)

    with pytest.raises(InvalidSettings, match=f"{name.upper()}.*the server would answer without a key") as caught:
        refuse_missed_key(read_settings())

    assert KEY not in caught.value.message
    # With the key under its name, the other variable only gets a warning.
    refuse_missed_key(read_settings(api_key=KEY))


@pytest.mark.parametrize(
    "name", ["ZAP_API_TOKEN", "API_KEY", "ZAP_KEY", "ZAP_API_KEY_FILE", "MAP_API_KEY", "AP_API_KEY"]
)
def test_other_names_stop_no_server(monkeypatch, name):
    monkeypatch.setenv(name, KEY)

    refuse_missed_key(read_settings())


def test_a_server_of_uvicorn_is_refused_too(monkeypatch):
    monkeypatch.setenv("ZAP_APIKEY", KEY)

    with pytest.raises(InvalidSettings, match="ZAP_APIKEY"):
        create_app()


def test_commands_warn_and_serve_is_refused(zap_command, monkeypatch, tmp_path):
    monkeypatch.setenv("ZAP_APIKEY", KEY)
    monkeypatch.setenv("ZAP_WORKRES", "2")

    upgraded = zap_command("db", "upgrade")
    served = zap_command("serve", "--port", "1", "--database-url", f"sqlite:///{tmp_path / 'other.sqlite'}")

    assert upgraded.returncode == 0
    assert "warning: zap does not know the variable ZAP_WORKRES and ignores it: write ZAP_WORKERS" in upgraded.stderr
    assert served.returncode == 2
    assert "write ZAP_API_KEY" in served.stderr
    assert not (tmp_path / "other.sqlite").exists()
    assert KEY not in upgraded.stderr + served.stderr


def test_serve_warns_at_its_start(zap_command, monkeypatch):
    monkeypatch.setenv("ZAP_WORKRES", "2")

    served = zap_command("serve", "--host", "10.9.9.9", "--port", "0")

    assert served.returncode == 3
    assert served.stderr.count("zap does not know the variable ZAP_WORKRES") == 1
