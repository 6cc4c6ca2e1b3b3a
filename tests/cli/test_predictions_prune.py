"""zap predictions prune."""

import json

from followed import log_answers, row_of
from sqlalchemy import text

from zap.db.engine import create_engine
from zap.flows.looking_back import LookingBack
from zap.settings import Settings


def logged(settings):
    """How many predictions there are, by source and version."""
    engine = create_engine(settings.database_url)
    counted = "SELECT source, model_version, count(*) FROM predictions GROUP BY source, model_version"
    with engine.connect() as connection:
        rows = {(row[0], row[1]): row[2] for row in connection.execute(text(counted))}
    engine.dispose()
    return rows


def follow(engine):
    looking = LookingBack(engine, Settings(database_url=engine.url.render_as_string(hide_password=False)))
    looking.following.look()
    looking.close()
    # On PostgreSQL ids are missing, and ten minutes later no transaction has them any more.
    with engine.begin() as connection:
        connection.execute(text("UPDATE follower SET missing = NULL"))


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


def test_old_requests_are_removed_with_a_bound(zap_command, trained):
    engine = create_engine(trained.database_url)
    log_answers(engine, row_of(10**6), row_of(10**6 + 1, after=24 * 365 * 200))
    follow(engine)
    before = logged(trained)

    def prune(*arguments):
        return zap_command("predictions", "prune", "--source", "inference", *arguments, settings=trained)

    too_soon = prune("--keep-days", 13)
    assert too_soon.returncode != 0
    assert "14 to 36500" in too_soon.stderr
    assert logged(trained) == before

    done = prune("--keep-days", 14)
    assert (done.returncode, done.stdout) == (0, "removed 1 request\n"), done.stderr
    assert logged(trained)["inference", 1] == before["inference", 1] - 1
    assert json.loads(prune("--keep-days", 14, "--json").stdout) == {"source": "inference", "removed": 0, "kept": 0}

    listed = zap_command("predictions", "list", settings=trained)
    assert "were removed" in listed.stdout
    gone = zap_command("explain-prediction", 10**6, settings=trained)
    assert f"there is no prediction {10**6}; requests from before " in gone.stderr
    unknown = zap_command("explain-prediction", 10**7, settings=trained)
    assert f"there is no prediction {10**7}" in unknown.stderr
    assert "were removed" not in unknown.stderr
    engine.dispose()


def test_each_source_has_its_own_bound(zap_command, trained_sqlite):
    add_rows(trained_sqlite, 2)
    before = logged(trained_sqlite)

    for arguments, needed in (
        (["inference", "--keep-versions", 0], "--keep-days"),
        (["train"], "--keep-versions"),
        (["train", "--keep-versions", 0, "--keep-days", 20], "--keep-days"),
    ):
        refused = zap_command("predictions", "prune", "--source", *arguments, settings=trained_sqlite)
        assert refused.returncode == 2
        assert needed in refused.stderr
    assert logged(trained_sqlite) == before
