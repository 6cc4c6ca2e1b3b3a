"""Settings: read from ZAP_* and .env once, and refused with a hint."""

from pathlib import Path

import pytest

from zap.errors import InvalidSettings
from zap.settings import Settings, read_settings, service_link


def test_it_works(monkeypatch):
    monkeypatch.setenv("ZAP_PORT", "9000")
    monkeypatch.setenv("ZAP_DATABASE_URL", "postgresql+psycopg://zap@db/zap")

    settings = read_settings(port=None, host="0.0.0.0")

    assert (settings.port, settings.host, settings.url.database) == (9000, "0.0.0.0", "zap")


def test_the_defaults_need_no_environment():
    settings = read_settings()

    assert settings.database_url == "sqlite:///data/charge_database_alt.sqlite"
    assert settings.model_file == Path("models/production_model.joblib")
    assert (settings.host, settings.port, settings.workers) == ("127.0.0.1", 8000, 1)
    assert settings.sqlite_synchronous == "FULL"


def test_a_dotenv_file_is_read_and_the_environment_wins(tmp_path, monkeypatch):
    (tmp_path / ".env").write_text("ZAP_PORT=9001\nZAP_WORKERS=3\nOTHER=1\n")
    monkeypatch.setenv("ZAP_PORT", "9002")

    settings = read_settings()

    assert (settings.port, settings.workers) == (9002, 3)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("ZAP_PORT=9001\nZAP_MODELS_DIR=mod\xe8les\n".encode("latin-1"), "line 2 has the byte 0xe8"),
        ("ZAP_PORT=9001\n".encode("utf-16"), "line 1 has the byte 0xff"),
        (b"ZAP_PORT=9001\nZAP_HOST=a\0b\n", "line 2 has the byte 0x00"),
    ],
)
def test_a_dotenv_file_that_is_no_text_in_utf_8_is_refused(tmp_path, content, said):
    (tmp_path / ".env").write_bytes(content)

    with pytest.raises(InvalidSettings, match=f".env is not a text in UTF-8: {said}"):
        read_settings()


def test_the_mark_of_utf_8_is_no_part_of_the_first_name(tmp_path):
    (tmp_path / ".env").write_bytes(b"\xef\xbb\xbfZAP_PORT=9001\n")

    assert read_settings().port == 9001


def test_what_kubernetes_sets_for_a_service_called_zap_is_ignored(monkeypatch, tmp_path):
    address = "10.0.0.1"
    links = {
        "ZAP_SERVICE_HOST": address, "ZAP_SERVICE_PORT": "8000", "ZAP_SERVICE_PORT_HTTP": "8000",
        "ZAP_PORT": f"tcp://{address}:8000", "ZAP_PORT_8000_TCP": f"tcp://{address}:8000",
        "ZAP_PORT_8000_TCP_PROTO": "tcp", "ZAP_PORT_8000_TCP_PORT": "8000", "ZAP_PORT_8000_TCP_ADDR": address,
    }  # fmt: skip
    assert service_link() is None
    for name, value in links.items():
        monkeypatch.setenv(name, value)

    assert read_settings() == Settings(port=8000)
    assert service_link() == links["ZAP_PORT"]
    # The port of the file is used, because the environment has none.
    (tmp_path / ".env").write_text("ZAP_PORT=9001\n")
    assert read_settings().port == 9001
    assert read_settings(port=9002).port == 9002


@pytest.mark.parametrize("value", ["tcp://10.0.0.1", "http://10.0.0.1:8000", "tcp://10.0.0.1:8000 "])
def test_a_port_that_only_looks_like_a_link_is_refused(monkeypatch, value):
    monkeypatch.setenv("ZAP_PORT", value)

    with pytest.raises(InvalidSettings, match="ZAP_PORT"):
        read_settings()


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("PORT", "many", "ZAP_PORT"),
        ("PORT", "70000", "65535"),
        ("WORKERS", "0", "ZAP_WORKERS"),
        ("DATABASE_URL", "mysql://root@db/zap", "sqlite and postgresql"),
        ("DATABASE_URL", "postgresql://zap@db/zap", "postgresql+psycopg"),
        ("DATABASE_URL", "sqlite://", "name a file"),
        ("DATABASE_URL", "sqlite:///:memory:", "name a file"),
        ("DATABASE_URL", "data.sqlite", "sqlite:///FILE"),
        ("SQLITE_SYNCHRONOUS", "OFF", "ZAP_SQLITE_SYNCHRONOUS"),
        ("TIMEZONE", "Mars/Olympus", "Europe/London"),
        ("TIMEZONE", "../etc/passwd", "Europe/London"),
        ("ROOT_PATH", "zap", "/zap"),
        ("ROOT_PATH", '/"><script>', "/zap"),
        ("TRUSTED_PROXIES", "127.0.0.1, proxy", "10.0.0.0/8"),
        ("CORS_ORIGINS", "https://app.example.com/", "without a path"),
        ("CORS_ORIGINS", "*", "without a path"),
        ("CONNECTIONS", "0", "ZAP_CONNECTIONS"),
        ("HEAD_SECONDS", "0", "ZAP_HEAD_SECONDS"),
        ("LOG_FORMAT", "xml", "ZAP_LOG_FORMAT"),
    ],
)
def test_an_unusable_value_is_refused_by_name(monkeypatch, name, value, hint):
    monkeypatch.setenv(f"ZAP_{name}", value)

    with pytest.raises(InvalidSettings, match=hint.replace("+", r"\+")) as caught:
        read_settings()

    assert f"ZAP_{name}" in caught.value.message


# A wrong value for each setting, what the message says about it, and the settings that take any text.
WRONG = {
    "api_key": ("short", "has 5 characters; use at least 16"),
    "erasure_key": ("short", "is too short; use at least 32 characters"),
    "database_url": ("data.sqlite", "is not a database URL; write sqlite:///FILE"),
    "read_database_url": ("data.sqlite", "is not a database URL; write sqlite:///FILE"),
    "port": ("87430", "is '87430'; zap accepts a whole number from 0 to 65535"),
    "workers": ("0", "is '0'; zap accepts a whole number from 1 to 64"),
    "log_level": ("verbose", "is 'verbose'; zap accepts one of DEBUG, INFO, WARNING, ERROR"),
    "log_format": ("xml", "is 'xml'; zap accepts one of auto, console, json"),
    "sqlite_synchronous": ("OFF", "is 'OFF'; zap accepts one of FULL, NORMAL, EXTRA"),
    "follow": ("many", "is 'many'; zap accepts true or false"),
    "access_log": ("many", "is 'many'; zap accepts true or false"),
    "otel": ("many", "is 'many'; zap accepts true or false"),
    "unread_bytes": ("1", "is '1'; zap accepts a whole number of at least 1048576"),
    "least_type_share": ("much", "is 'much'; zap accepts a number from 0 to 0.5"),
    "retrain_every": ("7x", "is '7x'; write a number of days, 1 to 3650, or harm_or_drift"),
    "retrain_promote": ("always", "is 'always'; zap accepts one of trial, if_better"),
    "timezone": ("Mars/Olympus", "'Mars/Olympus' is not a time zone"),
    "root_path": ("zap", "'zap' is not a path"),
    "trusted_proxies": ("proxy", "holds 'proxy'"),
    "allowed_hosts": ("a b", "holds 'a b'"),
    "cors_origins": ("*", "holds '*'"),
    "alarm_secret": ("whsec_short", "is not whsec_ and 24 to 64 bytes in base64"),
    "alarm_url": ("http://alarms.example.com", "begins with http://"),
}
ANY = {"models_dir", "host", "metrics_host"}


@pytest.mark.parametrize("name", sorted(set(Settings.model_fields) - ANY))
def test_a_wrong_value_of_each_setting_is_told_in_words_of_zap(monkeypatch, name):
    value, said = WRONG.get(name, ("many", "is 'many'; zap accepts a "))
    monkeypatch.setenv(f"ZAP_{name.upper()}", value)

    with pytest.raises(InvalidSettings) as caught:
        read_settings()

    assert caught.value.message.startswith(f"ZAP_{name.upper()} {said}")
    assert "Input should" not in caught.value.message


@pytest.mark.parametrize("value", ["abc", "8000.5", "", " ", "9" * 5000, "-1", "nan"])
def test_any_port_that_is_none_is_told_with_what_is_accepted(monkeypatch, value):
    monkeypatch.setenv("ZAP_PORT", value)
    if not value:
        assert read_settings().port == 8000
        return

    with pytest.raises(InvalidSettings, match="zap accepts a whole number from 0 to 65535") as caught:
        read_settings()

    assert len(caught.value.message) < 200


def test_no_message_shows_a_password(monkeypatch):
    monkeypatch.setenv("ZAP_DATABASE_URL", "mysql://root:secret@db/zap")

    with pytest.raises(InvalidSettings) as caught:
        read_settings()

    assert "secret" not in str(caught.value)
    monkeypatch.delenv("ZAP_DATABASE_URL")
    assert "secret" not in Settings(database_url="postgresql+psycopg://zap:secret@db/zap").shown_url
    assert "sixteen" not in repr(Settings(api_key="a secret of sixteen"))


def test_what_zap_starts_has_the_same_settings(monkeypatch, tmp_path):
    settings = Settings(
        database_url=f"sqlite:///{tmp_path}/x.sqlite",
        api_key="a secret of sixteen",
        timezone="Europe/London",
        port=9003,
        workers=2,
    )
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)

    assert read_settings() == settings


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("", "is empty"),
        ("a", "at least 16"),
        ("fifteen letters", "at least 16"),
        ("a key with a\nline break", "header"),
    ],
)
def test_a_key_that_protects_nothing_is_refused(monkeypatch, key, said):
    monkeypatch.setenv("ZAP_API_KEY", key)

    with pytest.raises(InvalidSettings) as caught:
        read_settings()

    assert "ZAP_API_KEY" in str(caught.value)
    assert said in str(caught.value)
    assert len(key) < 2 or key not in str(caught.value)


def test_an_empty_key_in_the_file_is_refused_too(tmp_path):
    (tmp_path / ".env").write_text("ZAP_API_KEY=\nZAP_PORT=\n")

    with pytest.raises(InvalidSettings, match="ZAP_API_KEY is empty"):
        read_settings()


@pytest.mark.parametrize("hosts", ["http://zap", "zap:8000", "*.", "a b", "**", "*.*.com", "zap/"])
def test_hosts_are_names(hosts):
    with pytest.raises(InvalidSettings, match="ZAP_ALLOWED_HOSTS holds"):
        read_settings(allowed_hosts=hosts)


SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.mark.parametrize(
    "url", ["https://alarms.example.com/zap?team=1", "http://127.0.0.1:9/x", "http://[::1]:9", "http://localhost:9/x"]
)
def test_alarms_are_posted_over_https_or_to_this_machine(monkeypatch, url):
    monkeypatch.setenv("ZAP_ALARM_URL", url)
    monkeypatch.setenv("ZAP_ALARM_SECRET", SECRET)

    assert read_settings().alarm_url == url


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://example.com", "write https://"),
        ("http://127.0.0.1.example.com/x", "write https://"),
        ("http://10.0.0.1/x", "write https://"),
        ("https://ann:pass@example.com", "the name of a user"),
        ("https://example.com/#a", "a fragment"),
        ("https://example.com/a b", "a space"),
        ("https://example.com/a\nHost: x", "is not a URL"),
        ("https:///zap", "is not a URL"),
        ("https://example.com:99999", "is not a URL"),
        ("ftp://example.com", "is not a URL of https"),
        ("file:///etc/passwd", "is not a URL of https"),
        ("alarms.internal", "is not a URL of https"),
    ],
)
def test_an_address_that_is_not_safe_is_refused_and_not_shown(monkeypatch, url, said):
    monkeypatch.setenv("ZAP_ALARM_URL", url)
    monkeypatch.setenv("ZAP_ALARM_SECRET", SECRET)

    with pytest.raises(InvalidSettings, match=f"ZAP_ALARM_URL .*{said}") as caught:
        read_settings()

    # Its path may be a password.
    assert url not in caught.value.message


def test_alarms_are_signed(monkeypatch):
    monkeypatch.setenv("ZAP_ALARM_URL", "https://example.com/zap")
    with pytest.raises(InvalidSettings, match="ZAP_ALARM_URL needs ZAP_ALARM_SECRET"):
        read_settings()

    monkeypatch.setenv("ZAP_ALARM_SECRET", "whsec_!!!")
    with pytest.raises(InvalidSettings) as caught:
        read_settings()
    assert caught.value.message.startswith("ZAP_ALARM_SECRET is not whsec_")
    assert "ZAP_ALARM_URL" not in caught.value.message


def test_servers_get_the_secret_and_trainings_do_not(monkeypatch):
    settings = Settings(alarm_url="https://example.com/zap", alarm_secret=SECRET)

    assert SECRET not in repr(settings)
    assert settings.environment()["ZAP_ALARM_SECRET"] == SECRET
    training = settings.training_environment({"ZAP_ALARM_URL": "https://example.com/zap", "PATH": "/bin"})
    assert [name for name in training if "ALARM" in name] == []
    assert training["PATH"] == "/bin"
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    assert read_settings() == settings
