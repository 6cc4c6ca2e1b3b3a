"""The preview of an import: what would be added and changed."""

import shutil

import pytest
from sqlalchemy import select

from zap.db.history.history_rows import SESSION_FACTS, SESSIONS, USERS, VEHICLES
from zap.db.history.history_store import Count
from zap.db.history.session_ids import TEXT_IDS
from zap.errors import BadHistoryFile
from zap.flows.history_import import import_history
from zap.flows.history_preview import preview_files
from zap.formats.history_file import Choices

HEADER = "session_id,user_id,user_type,vehicle_model,charger_type,charging_start_time,energy_consumed_kwh\n"
STORED = (
    "1,ann,Taxi,Kia EV6,Level 2,2024-01-01 10:00,5.5\ntx-1,bob,,,Level 1,2024-01-02 10:00,6.5\n"
    ",cem,Taxi,Kia EV6,Level 2,2024-01-03 10:00,7.5\n,,,,Level 2,2024-01-04 10:00,7.5\n"
)


def utc(moment):
    return moment.replace(tzinfo=None)


def write(tmp_path, rows, name="history.csv"):
    (tmp_path / name).write_text(HEADER + rows)
    return tmp_path / name


def url_of(engine):
    return engine.url.render_as_string(hide_password=False)


def preview(url, *paths):
    return [*preview_files(url, paths, wall_time=utc, choices=Choices(skip_bad_rows=True))]


def load(engine, path):
    return import_history(engine, path, wall_time=utc, choices=Choices(skip_bad_rows=True))


def content(engine):
    with engine.connect() as connection:
        return [
            connection.execute(select(table)).all() for table in (SESSIONS, SESSION_FACTS, USERS, VEHICLES, TEXT_IDS)
        ]


@pytest.mark.parametrize(
    ("rows", "sessions", "refused"),
    [
        (STORED, Count(unchanged=4), 0),
        # A session with another energy, a new vehicle, another type of the user, and another spelling.
        ("1,ann,Taxi,Kia EV6,Level 2,2024-01-01 10:00,5.6\n", Count(updated=1), 0),
        (",cem,Taxi,Fiat 500e,Level 2,2024-01-03 10:00,7.5\n", Count(updated=1), 0),
        ("1,ann,Guest,Kia EV6,Level 2,2024-01-01 10:00,5.5\n", Count(updated=1), 0),
        (",cem,TAXI,kia ev6,LEVEL 2,2024-01-03 10:00,7.5\n", Count(unchanged=1), 0),
        # New sessions: a number, a text, a driver, and twice nobody.
        ("2,ann,,,A,2024-02-01 10:00,1.5\n", Count(added=1), 0),
        ("tx-2,ann,,,A,2024-02-01 10:00,1\ntx-1,bob,,,Level 1,2024-01-02 10:00,\n", Count(added=1, unchanged=1), 0),
        (",dan,,,A,2024-02-01 10:00,1.5\n", Count(added=1), 0),
        (",,,,A,2024-01-04 10:00,1.5\n,,,,A,2024-01-04 10:00,1.5\n", Count(added=1, repeated=1), 0),
        # The ids of other sessions.
        ("1,eve,,,A,2024-03-01 10:00,1.5\ntx-1,eve,,,A,2024-03-01 10:00,1.5\n3,eve,,,A,2024-03-01 10:00,1.5\n",
         Count(added=1), 2),
    ],
)  # fmt: skip
def test_a_preview_counts_what_an_import_then_does_and_changes_nothing(engine, tmp_path, rows, sessions, refused):
    load(engine, write(tmp_path, STORED))
    path, before = write(tmp_path, rows, "later.csv"), content(engine)

    (report,) = preview(url_of(engine), path)

    assert content(engine) == before
    assert (report.stored, report.counts.sessions, len(report.refused)) == (False, sessions, refused)
    stored = load(engine, path)
    assert (stored.stored, stored.counts, stored.refused) == (True, report.counts, report.refused)


def test_without_a_database_all_rows_are_new_and_no_file_is_made(tmp_path):
    path = write(tmp_path, STORED + STORED)

    first, second = preview(f"sqlite:///{tmp_path}/none.sqlite", path, path)

    assert first == second
    assert first.counts.sessions == Count(added=4, repeated=4)
    assert [file.name for file in tmp_path.iterdir()] == ["history.csv"]


def test_an_empty_database_of_postgresql_is_like_none(empty_postgresql_url, tmp_path):
    (report,) = preview(empty_postgresql_url, write(tmp_path, STORED))

    assert report.counts.sessions == Count(added=4)


def test_a_database_that_must_be_upgraded_is_not_compared_and_not_changed(zapapp_database, tmp_path):
    shutil.copy(zapapp_database, tmp_path / "old.sqlite")
    before = (tmp_path / "old.sqlite").read_bytes()

    (report,) = preview(f"sqlite:///{tmp_path}/old.sqlite", write(tmp_path, STORED))

    assert report.counts is None
    assert report.notes[-1].startswith("not compared with the stored sessions: the database is not at revision")
    assert (tmp_path / "old.sqlite").read_bytes() == before


def test_a_file_that_is_no_database_is_not_compared(tmp_path):
    (tmp_path / "text.sqlite").write_text("this is no database" * 100)

    (report,) = preview(f"sqlite:///{tmp_path}/text.sqlite", write(tmp_path, STORED))

    assert report.counts is None
    assert "not a database" in report.notes[-1]


def test_a_file_that_an_import_would_refuse_is_shown_and_then_refused(tmp_path):
    path, seen = write(tmp_path, STORED + "9,ann,,,,2024-01-01 10:00,5.5\n"), []
    skipping = preview_files(f"sqlite:///{tmp_path}/none", [path], wall_time=utc, choices=Choices(skip_bad_rows=True))

    with pytest.raises(BadHistoryFile, match="1 of 5 rows cannot be imported, so nothing would be") as refused:
        seen.extend(preview_files(f"sqlite:///{tmp_path}/none", [path], wall_time=utc))

    assert seen == [*skipping]
    assert refused.value.details == seen[0].as_dict()
