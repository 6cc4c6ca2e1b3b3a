"""zap predictions prune."""

import json

from sqlalchemy import create_engine, text


def logged(settings):
    """How many predictions there are, by source and version."""
    engine = create_engine(settings.database_url)
    counted = "SELECT source, model_version, count(*) FROM predictions GROUP BY source, model_version"
    with engine.connect() as connection:
        rows = {(row[0], row[1]): row[2] for row in connection.execute(text(counted))}
    engine.dispose()
    return rows


def add_rows(settings, *versions):
    """Three rows of a training for each version, which is a copy of version 1, and an answer of each."""
    engine = create_engine(settings.database_url)
    names = "run_id, created_at, artefact, sha256, hyper_parameters, contract"
    with engine.begin() as connection:
        for version in versions:
            if version is not None:
                connection.execute(
                    text(
                        f"INSERT INTO model_versions (status, {names})"
                        f" SELECT 'archived', {names} FROM model_versions WHERE model_version = 1"
                    )
                )
            for source in ("train", "train", "train", "inference"):
                connection.execute(
                    text(
                        "INSERT INTO predictions (prediction_timestamp, source, predicted_class, model_version)"
                        " VALUES ('2026-01-01T00:00:00+00:00', :source, 'Level 1', :version)"
                    ),
                    {"source": source, "version": version},
                )
    engine.dispose()


def test_it_works(zap_command, trained):
    # Remove the training rows of old versions. Production's rows, rows from before zap and all answers stay.
    add_rows(trained, 2, 3, 4, None)
    before = logged(trained)

    done = zap_command("predictions", "prune", "--source", "train", "--keep-versions", 1, settings=trained)

    assert (done.returncode, done.stdout) == (0, "removed 6 predictions of 2 versions\n"), done.stderr
    gone = {("train", 2), ("train", 3)}
    assert before[("train", 1)] > 1000
    assert logged(trained) == {kind: count for kind, count in before.items() if kind not in gone}

    again = zap_command("predictions", "prune", "--source", "train", "--keep-versions", 0, "--json", settings=trained)
    assert json.loads(again.stdout) == {"source": "train", "versions": [4], "removed": 3}


def test_answers_to_requests_cannot_be_removed(zap_command, trained_sqlite):
    add_rows(trained_sqlite, 2)
    before = logged(trained_sqlite)

    asked = zap_command("predictions", "prune", "--source", "inference", "--keep-versions", 0, settings=trained_sqlite)
    unsaid = zap_command("predictions", "prune", "--source", "train", settings=trained_sqlite)

    assert (asked.returncode, unsaid.returncode) == (2, 2)
    assert "inference" in asked.stderr
    assert "--keep-versions" in unsaid.stderr
    assert logged(trained_sqlite) == before
