"""zap quality."""

import json

import pytest
from conftest import client_of
from outcomes import applied, asked_about, last_sessions

SPRING = ("--from", "2024-04-01", "--to", "2024-05-31")


@pytest.fixture
def answered(trained_sqlite):
    """Return settings of a database with outcomes of spring."""
    with client_of(trained_sqlite) as client:
        changes = asked_about(client, last_sessions(trained_sqlite, 80))
        applied(client.app.state.engine, changes)
    return trained_sqlite


def test_it_works(zap_command, answered):
    done = zap_command("quality", *SPRING, "--by", "week", settings=answered)

    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    for said in (
        "version 1: live answers about 2024-04-01 to 2024-05-31", "2024-04-22", "final", "test", "pooled shares",
        "DC Fast Charger", "20+ past sessions", "several types used",
    ):  # fmt: skip
        assert said in done.stdout
    found = zap_command("quality", *SPRING, "--version", 1, "--json", settings=answered)
    report = json.loads(found.stdout)
    assert report["versions"][0]["final"]["scores"]["sessions"] == 80
    (final,) = (line.split() for line in lines if line.startswith("final"))
    assert final[1] == "80"
    assert final[2] == f"{report['versions'][0]['final']['scores']['weighted_f1']:.3f}"


def test_without_outcomes_it_says_so(zap_command, trained_sqlite):
    done = zap_command("quality", *SPRING, settings=trained_sqlite)

    assert done.returncode == 0
    assert done.stdout.strip() == "There are no live answers about 2024-04-01 to 2024-05-31."


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--from", "2024-04-31"), 2, "2024-04-31"),
        (("--from", "2024-04-02", "--to", "2024-04-01"), 2, "--from is 2024-04-02; it must not be after 2024-04-01"),
        (("--version", "9"), 20, "there is no model version 9"),
        (("--by", "hour"), 2, "hour"),
    ],
)
def test_what_cannot_be_asked_is_refused(zap_command, trained_sqlite, options, code, said):
    done = zap_command("quality", *options, settings=trained_sqlite)

    assert done.returncode == code
    assert said in done.stderr
