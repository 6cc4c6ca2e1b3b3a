"""Errors about an option: a command names the option, not the field of a body that the option becomes."""

import json

import pytest

from zap.settings import Settings

BACK = ("--from", "2026-03-02", "--to", "2026-03-01")
CONTROL = "an\tn"


@pytest.fixture
def settings(_sqlite_at_head, tmp_path):
    return Settings(database_url=f"sqlite:///{_sqlite_at_head}", models_dir=tmp_path / "models")


@pytest.mark.parametrize(
    ("command", "options", "said"),
    [
        (("quality",), BACK, "--from is 2026-03-02; it must not be after 2026-03-01"),
        (("quality",), ("--from", "2000-01-01"), "--from is 2000-01-01; it must be at most 1,099 days before"),
        (("quality",), ("--to", "yesterday"), "--to"),
        (("data-quality",), BACK, "--from is 2026-03-02; it must not be after 2026-03-01"),
        (("data-quality",), ("--to", "2026-02-30"), "--to"),
        (("predictions", "list"), BACK, "--from is 2026-03-02T00:00:00+00:00; it must not be after 2026-03-01"),
        (("predictions", "export", "out.csv"), BACK, "--from is 2026-03-02T00:00:00+00:00; it must not be after"),
        (("predictions", "list"), ("--from", "25:00"), "--from"),
        (("models", "try", "1"), ("--who", CONTROL), "--who holds a control character"),
        (("models", "try", "1"), ("--why", "x" * 501), "--why has 501 characters"),
        (("models", "promote", "1"), ("--who", CONTROL), "--who holds a control character"),
        (("models", "rollback"), ("--why", CONTROL), "--why holds a control character"),
        (("models", "end-trial", "1"), ("--who", CONTROL), "--who holds a control character"),
        (("alarms", "acknowledge", "1"), ("--who", " "), "--who is empty"),
    ],
)
def test_a_command_names_its_options(zap_command, settings, command, options, said):
    done = zap_command(*command, *options, settings=settings)

    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "#/" not in done.stderr
    assert "Traceback" not in done.stderr


def test_json_names_the_fields_as_http_does(zap_command, settings):
    done = zap_command("models", "promote", 1, "--who", CONTROL, "--json", settings=settings)

    assert done.returncode == 2
    assert [one["pointer"] for one in json.loads(done.stdout)["errors"]] == ["#/who"]
