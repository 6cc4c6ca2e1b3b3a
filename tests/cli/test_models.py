"""zap models."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import create_engine, text

from zap.cli.shown import SHORT, print_versions
from zap.ml.evaluation import LAST_PART, NESTED_WINDOWS, WINDOWS

COPIED = (
    "run_id, created_at, artefact, sha256, hyper_parameters, contract, evaluation, features, columns, classes, golden,"
    " trained_samples, trees_sha256, rows_sha256, rows_by_month, libraries, code_version"
)


def run(settings, *statements):
    engine = create_engine(settings.database_url)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def add_candidates(settings, *notes):
    """Copies of version 1 that never served."""
    run(
        settings,
        *(
            f"INSERT INTO model_versions (status, note, {COPIED})"
            f" SELECT 'candidate', '{note}', {COPIED} FROM model_versions WHERE model_version = 1"
            for note in notes
        ),
    )


def printed(done):
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    return json.loads(done.stdout)


def problem(done, exit_code):
    """What --json says of an error, which a person is told too."""
    assert done.returncode == exit_code
    assert "Traceback" not in done.stderr
    told = json.loads(done.stdout)
    assert told["detail"] in done.stderr
    return told["type"].removeprefix("urn:zap:problem:")


def test_it_works(zap_command, trained):
    """Promote a version and roll it back, and keep the reasons of both."""
    add_candidates(trained, "the second")
    trained.model_file.unlink()

    promoted = zap_command("models", "promote", 2, "--who", "ann", "--why", "it is better", settings=trained)
    assert (promoted.returncode, promoted.stdout) == (0, "version 2 serves now, instead of 1\n"), promoted.stderr
    # The file follows, also where no server runs.
    assert trained.model_file.exists()
    back = zap_command("models", "rollback", "--who", "bob", "--json", settings=trained)
    assert printed(back) == {"status": "success", "from_version": 2, "to_version": 1, "changed": True}

    engine = create_engine(trained.database_url)
    with engine.connect() as connection:
        kept = connection.execute(text("SELECT action, from_version, to_version, who, why FROM promotions")).all()
    engine.dispose()
    assert [tuple(one) for one in kept[1:]] == [
        ("promote", 1, 2, "ann", "it is better"),
        ("rollback", 2, 1, "bob", None),
    ]


def test_versions_are_listed_and_shown(zap_command, trained_sqlite, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    add_candidates(trained_sqlite, "[red]second", "third")
    run(trained_sqlite, "UPDATE model_versions SET artefact = NULL, evaluation = NULL WHERE model_version = 2")

    listed = printed(zap_command("models", "list", "--json", "--limit", 2, settings=trained_sqlite))["models"]
    assert [(one["model_version"], one["note"], one["artefact_bytes"] is None) for one in listed] == [
        (3, "third", False),
        (2, "[red]second", True),
    ]
    assert listed[0]["scores"]["log_loss"] > 0

    table = zap_command("models", "list", settings=trained_sqlite).stdout
    for shown in ("[red]second", "third", "production", "candidate, pruned", listed[0]["created_at"][:10]):
        assert shown in table
    # Every score is shown beside the best baseline's, and the verdict with the sessions that decide it.
    scores = listed[0]["scores"]
    assert f"{scores['test_f1_score']:.3f} ({scores['best_baseline_f1_score']:.3f})" in table
    assert f"{scores['log_loss']:.3f} ({scores['best_baseline_log_loss']:.3f})" in table
    assert "last part" in table

    known = printed(zap_command("models", "show", 1, "--json", settings=trained_sqlite))
    assert known["status"] == "production"
    assert datetime.fromisoformat(known["created_at"]).utcoffset() == timedelta(0)
    # A wall time has no zone.
    assert known["trained_from"] == "2024-01-01T10:34:40"
    assert len(known["golden"]) == 8
    assert known["artefact_bytes"] > 0
    assert "artefact" not in known

    of_first = zap_command("models", "show", 1, settings=trained_sqlite).stdout
    assert f"{scores['log_loss']:.3f} ({scores['best_baseline_log_loss']:.3f})" in of_first
    assert f"{scores['judged_on']['sessions']:,}: the last part" in of_first
    # All of its sessions are synthetic, which nobody must overlook.
    assert known["synthetic_sessions"] == listed[0]["synthetic_sessions"] > 1000
    assert "production, synthetic" in table
    assert "synthetic: trained on the sample, so its scores say nothing about real drivers" in table
    assert f"{known['synthetic_sessions']:,} sessions of the history (zap sample-history)" in of_first
    shown = zap_command("models", "show", 2, settings=trained_sqlite).stdout
    for part in (
        "[red]second",
        "candidate",
        "blend",
        "num_leaves 40",
        "no bytes",
        "DC Fast Charger",
        known["trees_sha256"],
    ):
        assert part in shown


def test_a_version_takes_two_lines_at_most_on_a_narrow_screen(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert set(SHORT) == {LAST_PART, WINDOWS, NESTED_WINDOWS}
    scores = {
        "test_f1_score": 0.5934, "best_baseline_f1_score": 0.4102, "log_loss": 0.9134, "best_baseline_log_loss": 1.0213,
        "verdict": "not_shown",
    }  # fmt: skip
    unseen = f"the sessions of {LAST_PART} that the search has not seen"
    judged = [(name, 1234) for name in (*SHORT, unseen)]
    made = datetime(2026, 11, 25, 12, 30, tzinfo=UTC)

    print_versions(
        [
            {
                "model_version": 17, "status": "candidate", "artefact_bytes": None, "created_at": made,
                "note": "tuned", "synthetic_sessions": 0,
                "scores": scores | {"judged_on": {"sessions_of": name, "sessions": sessions}},
            }
            for name, sessions in judged
        ]
    )  # fmt: skip

    table = capsys.readouterr().out
    heads, _, *rows = table[
        : table.index("* serves") if "* serves" in table else table.index("in brackets")
    ].splitlines()
    assert len(rows) == 2 * len(judged)
    # The heads fit into one line, and a date is not torn from its time.
    assert heads.split() == ["no.", "status", "F1", "log", "loss", "beats", "baselines", "made", "note"]
    assert all("0.593 (0.410) 0.913 (1.021) not shown" in row and "2026-11-25" in row for row in rows[::2])
    for shown in ("last part", "windows", "nested windows", "unseen: 1,234"):
        assert all(any(word in row for row in rows) for word in shown.split())
    assert not any("…" in line for line in table.splitlines())


def test_what_is_not_there_or_cannot_serve_is_told_and_changes_nothing(zap_command, trained_sqlite):
    add_candidates(trained_sqlite, "second")
    run(trained_sqlite, "UPDATE model_versions SET artefact = NULL WHERE model_version = 2")

    assert problem(zap_command("models", "show", 99, "--json", settings=trained_sqlite), 20) == "not-found"
    assert problem(zap_command("models", "rollback", "--json", settings=trained_sqlite), 24) == "not-promotable"
    pruned = zap_command("models", "promote", 2, settings=trained_sqlite)
    assert (pruned.returncode, pruned.stdout) == (24, "")
    assert "version 2 cannot serve: the artefact of version 2 was pruned" in pruned.stderr
    assert "Traceback" not in pruned.stderr
    same = zap_command("models", "promote", 1, settings=trained_sqlite)
    assert (same.returncode, same.stdout) == (0, "version 1 serves already\n")

    # Nothing changed since the training.
    (only,) = printed(zap_command("models", "history", "--json", settings=trained_sqlite))["promotions"]
    assert (only["action"], only["from_version"], only["to_version"], only["who"]) == ("promote", None, 1, None)
    assert datetime.fromisoformat(only["promoted_at"]).utcoffset() == timedelta(0)


def test_the_changes_are_shown_to_a_person(zap_command, trained_sqlite, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    run(
        trained_sqlite,
        "INSERT INTO promotions (promoted_at, action, from_version, to_version, who, why)"
        " VALUES ('2026-01-02T03:04:05.000000+00:00', 'rollback', 1, 1, '[red]ann', 'it was worse')",
    )

    table = zap_command("models", "history", "--limit", 1, settings=trained_sqlite).stdout

    for shown in ("2026-01-02 03:04", "rollback", "[red]ann", "it was worse"):
        assert shown in table
    assert "promote" not in table


def test_the_same_rows_give_the_same_trees(zap_command, trained_sqlite):
    done = zap_command("models", "reproduce", 1, settings=trained_sqlite)

    assert done.returncode == 0, done.stderr
    assert "The model is equal." in done.stdout
    assert "read ..." in done.stderr.splitlines()
    assert "fit ..." in done.stderr.splitlines()


@pytest.mark.parametrize("as_json", [False, True])
def test_a_history_that_changed_is_told_by_its_months(zap_command, trained_sqlite, as_json):
    run(
        trained_sqlite,
        'DELETE FROM "ChargingSessions" WHERE session_id = (SELECT min(session_id) FROM "ChargingSessions"'
        " WHERE charging_start_time BETWEEN '2024-02-10' AND '2024-02-20')",
    )

    done = zap_command("models", "reproduce", 1, *["--json"] * as_json, settings=trained_sqlite)

    assert done.returncode == 21
    assert "the history as this code reads it has changed in 2024-02" in done.stderr
    assert "Traceback" not in done.stderr
    if as_json:
        found = json.loads(done.stdout)
        assert found["reproduced"] is False
        change = found["changed_months"].pop("2024-02")
        assert change["now"] == change["then"] - 1
        assert found["changed_months"] == {}
    else:
        assert "sessions of 2024-02" in done.stdout
        assert "The model differs." in done.stdout


def test_a_database_that_is_not_there_is_told_and_not_made(zap_command, tmp_path):
    done = zap_command("models", "list", "--json", "--database-url", f"sqlite:///{tmp_path / 'zap.sqlite'}")

    assert problem(done, 15) == "database-unavailable"
    assert f"there is no file {tmp_path / 'zap.sqlite'}; check ZAP_DATABASE_URL" in done.stderr
    assert "zap db upgrade" in done.stderr
    assert not (tmp_path / "zap.sqlite").exists()


def test_two_versions_side_by_side(zap_command, trained_sqlite, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    done = zap_command(
        "train", "--set", "n_estimators=5", "--promote", "never", "--test-share", "0.2", settings=trained_sqlite
    )
    assert done.returncode == 0, done.stderr
    one, other = (
        printed(zap_command("models", "show", number, "--json", settings=trained_sqlite)) for number in (1, 2)
    )

    found = printed(zap_command("models", "compare", 1, 2, "--json", settings=trained_sqlite))

    assert found["versions"] == [1, 2]
    assert found["comparable"] is False
    assert "the versions were tested on different sessions, so their scores are not comparable" in found["why_not"]
    assert f"version 1 on {one['test_samples']} sessions from {one['tested']['from']}" in found["why_not"]
    assert found["scores"]["log_loss"] == [version["evaluation"]["log_loss"] for version in (one, other)]
    assert found["hyper_parameters"]["n_estimators"] == [60, 5]
    assert found["features"]["temperature_c"] == ["nullable", "nullable"]
    assert found["groups"]["habit"] == [
        version["importances"]["groups"]["habit"]["contribution"] for version in (one, other)
    ]
    shown = zap_command("models", "compare", 1, 2, settings=trained_sqlite).stdout
    assert f"{found['why_not'][0].upper()}{found['why_not'][1:]}." in " ".join(shown.split())
    for text_ in ("* n_estimators", "learning_rate", "the driver's habit", "log loss of the baseline prior"):
        assert text_ in shown
    assert "* learning_rate" not in shown


def test_versions_with_equal_test_sessions_are_comparable(zap_command, trained):
    add_candidates(trained, "the same")

    found = printed(zap_command("models", "compare", 1, 2, "--json", settings=trained))

    assert (found["comparable"], found["why_not"]) == (True, None)
    shown = zap_command("models", "compare", 1, 2, settings=trained).stdout
    assert "The versions were tested on the same sessions." in shown
    assert "not comparable" not in shown


def test_a_version_of_an_older_zap_is_compared_as_far_as_it_is_known(zap_command, trained_sqlite):
    add_candidates(trained_sqlite, "older")
    older = "json_remove(evaluation, '$.importances', '$.usual_values', '$.tested')"
    run(
        trained_sqlite,
        f"UPDATE model_versions SET evaluation = {older},"
        " (trained_until, test_samples) = (SELECT trained_until, test_samples FROM model_versions"
        " WHERE model_version = 1) WHERE model_version = 2",
    )

    found = printed(zap_command("models", "compare", 1, 2, "--json", settings=trained_sqlite))

    assert found["comparable"] is None
    assert "it is not known whether the versions were tested on the same sessions" in found["why_not"]
    assert found["groups"]["habit"][1] is None
    shown = zap_command("models", "show", 2, settings=trained_sqlite).stdout
    assert "The importances of the columns are not known: an older zap trained this version." in shown
    assert "not known" in zap_command("models", "compare", 1, 2, settings=trained_sqlite).stdout
    run(trained_sqlite, "UPDATE model_versions SET test_samples = 7 WHERE model_version = 2")
    assert printed(zap_command("models", "compare", 1, 2, "--json", settings=trained_sqlite))["comparable"] is False
    run(trained_sqlite, "UPDATE model_versions SET evaluation = NULL WHERE model_version = 2")
    found = printed(zap_command("models", "compare", 2, 1, "--json", settings=trained_sqlite))
    assert found["scores"]["log_loss"][0] is None


def test_the_importances_are_shown(zap_command, trained_sqlite, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    known = printed(zap_command("models", "show", 1, "--json", settings=trained_sqlite))["importances"]

    shown = zap_command("models", "show", 1, settings=trained_sqlite).stdout

    assert f"importances, measured on {known['sessions']} test sessions" in shown
    first = next(iter(known["columns"]))
    assert any(
        first in line and f"{known['columns'][first]['contribution']:.3f}" in line for line in shown.splitlines()
    )


def test_a_version_that_is_not_there_is_not_compared(zap_command, trained_sqlite):
    assert problem(zap_command("models", "compare", 1, 9, "--json", settings=trained_sqlite), 20) == "not-found"
