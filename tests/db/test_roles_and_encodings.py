"""PostgreSQL as operators set it up: roles that may do little, and databases that are not in UTF-8."""

import re
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from alembic import command
from databases import LEAST_RIGHTS, REVISIONS, config_for, connect, postgresql, role_in
from faults.asking import ask
from followed import log_answers, outcomes, row_of
from servers import until
from sqlalchemy import make_url
from structlog.testing import capture_logs

import zap
from zap.db.engine import create_engine, write_transaction
from zap.db.monitoring.alarms import raise_alarm
from zap.db.monitoring.follower_lease import may_follow
from zap.db.schema import check_at_head, check_rights, upgrade
from zap.errors import DatabaseUnavailable
from zap.flows.looking_back import LookingBack
from zap.settings import Settings

USUAL = [
    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}",
    "GRANT USAGE, UPDATE ON ALL SEQUENCES IN SCHEMA public TO {role}",
]
LEAST = [*LEAST_RIGHTS]


def admin(url):
    return connect(url, autocommit=True)


@pytest.fixture
def role_of():
    """Makes a role with rights in a database, and gives the URL as that role."""
    with ExitStack() as roles:
        yield lambda url, *rights: roles.enter_context(role_in(url, *rights))


def test_a_role_that_may_not_create_is_refused_with_a_sentence(empty_postgresql_url, role_of, zap_command):
    done = zap_command("db", "upgrade", "--database-url", role_of(empty_postgresql_url))

    assert done.returncode == 15
    assert "permission denied for schema public" in done.stderr
    assert "An upgrade needs the owner of the tables" in done.stderr
    assert "Traceback" not in done.stderr
    assert "little" not in done.stderr


def test_a_role_that_is_not_the_owner_is_refused_and_nothing_changes(empty_postgresql_url, role_of, zap_command):
    before = REVISIONS[-2]
    command.upgrade(config_for(empty_postgresql_url), before)
    url = role_of(empty_postgresql_url, *USUAL)

    done = zap_command("db", "upgrade", "--database-url", url)
    served = zap_command("serve", "--port", "1", "--database-url", url)

    for one in (done, served):
        assert one.returncode == 15
        assert re.search("permission denied|must be owner", one.stderr)
        assert "Traceback" not in one.stderr
    with admin(empty_postgresql_url) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == (before,)


def test_a_role_that_only_reads_checks_a_database_and_backs_it_up_if_it_may_write_the_audit(
    empty_postgresql_url, role_of, zap_command, tmp_path
):
    upgrade(empty_postgresql_url)
    reads = [f"GRANT SELECT ON ALL {kind} IN SCHEMA public TO {{role}}" for kind in ("TABLES", "SEQUENCES")]
    page = (Path(zap.__file__).parent / "manual" / "operating.md").read_text(encoding="utf-8")
    audits = [
        one.replace("zap_serving", "{role}") for one in re.findall(r"GRANT [^;]+ ON audit(?:_head)? TO [^;]+;", page)
    ]
    assert len(audits) == 2
    url, audited = role_of(empty_postgresql_url, *reads), role_of(empty_postgresql_url, *reads, *audits)
    file = tmp_path / "zap.backup"

    assert zap_command("db", "check", "--database-url", url).returncode == 0
    refused = zap_command("db", "backup", str(file), "--database-url", url)
    assert "permission denied for table audit" in refused.stderr
    assert not file.exists()
    done = zap_command("db", "backup", str(file), "--database-url", audited)
    assert (done.returncode, done.stderr) == (0, "")
    assert file.exists()


def test_a_role_that_may_not_even_look_is_refused_with_a_sentence(empty_postgresql_url, role_of):
    upgrade(empty_postgresql_url)
    url = role_of(empty_postgresql_url)
    engine = create_engine(url)
    for refused in (lambda: upgrade(url), lambda: check_at_head(engine)):
        with pytest.raises(DatabaseUnavailable, match=r"permission denied for table alembic_version.*SELECT, INSERT"):
            refused()
    engine.dispose()


@pytest.mark.parametrize("rights", [USUAL, LEAST], ids=["usual", "least"])
def test_serving_needs_no_more_than_rows(serve, trained_postgresql, role_of, good_request, rights):
    settings = trained_postgresql.model_copy(update={"database_url": role_of(trained_postgresql.database_url, *rights)})
    server = serve(settings).wait()

    replies = ask(server.url, good_request, 20) + ask(server.url, good_request | {"user_id": "sample-1-00003"}, 5)
    assert {status for status, _, _ in replies} == {200}
    ready = httpx.get(f"{server.url}/health/ready")
    assert ready.status_code == 200, ready.text
    with admin(trained_postgresql.database_url) as connection:
        found = connection.execute("SELECT min(prediction_id) > 0, min(input_id) > 0 FROM predictions").fetchone()
    assert found == (True, True)
    trained = httpx.post(f"{server.url}/train-model", json={"hyper_parameters": {"n_estimators": 10}}, timeout=120)
    assert trained.status_code == (200 if rights is USUAL else 403), trained.text
    assert "Traceback" not in server.log()


@pytest.mark.parametrize(
    ("rights", "says"),
    [
        (USUAL[:1], ["USAGE of public.predictions_prediction_id_seq"]),
        (LEAST[:1] + LEAST[2:], ["INSERT into predictions"]),
        (
            ["GRANT SELECT ON alembic_version, predictions, inference_inputs TO {role}", *LEAST[1:]],
            ["SELECT from model_versions", 'SELECT from "Users"', "SELECT from outcomes", "SELECT from alarms"],
        ),
    ],
)
def test_a_role_that_could_answer_nobody_is_refused_at_the_start(
    trained_postgresql, role_of, zap_command, rights, says
):
    # Otherwise every request would get a 503 that can never succeed.
    url = role_of(trained_postgresql.database_url, *rights)
    engine = create_engine(url)
    with pytest.raises(DatabaseUnavailable) as refused:
        check_rights(engine)
    assert [one for one in says if one not in refused.value.message] == []
    settings = trained_postgresql.model_copy(update={"database_url": url})

    served = zap_command("serve", "--port", "1", settings=settings)
    assert served.returncode == 15
    assert says[0] in served.stderr
    assert "USAGE and UPDATE on all sequences" in served.stderr
    assert "Traceback" not in served.stderr

    workers = zap_command("serve", "--port", "1", "--workers", "2", settings=settings)
    assert workers.returncode == 15

    # The statements of the message are all that is needed.
    granted = re.findall(r"GRANT [^;]+;", refused.value.message)
    assert granted
    with admin(trained_postgresql.database_url) as connection:
        connection.execute(" ".join(granted))
    check_rights(engine)
    engine.dispose()


OLD_TABLES = (
    '"Users", "Vehicles", "ChargingSessions", alembic_version, inference_inputs, predictions, session_facts,'
    " session_text_ids, session_changes, training_runs, training_events, tunings, model_versions, promotions"
)


def test_the_manual_grants_what_the_tables_of_newer_revisions_need(empty_postgresql_url, role_of):
    upgrade(empty_postgresql_url)
    page = (Path(zap.__file__).parent / "manual" / "operating.md").read_text()
    newer = "serving_counts|ended_logins|audit|api_keys|erasures"
    statements = "".join(re.findall(rf"```sql\n((?:-- To start|GRANT[^;]* ON (?:{newer})).*?)```", page, re.DOTALL))
    url = role_of(empty_postgresql_url, f"GRANT SELECT ON {OLD_TABLES} TO {{role}}", *LEAST[1:])
    engine, owner = create_engine(url), create_engine(empty_postgresql_url)
    with pytest.raises(DatabaseUnavailable, match=r"GRANT SELECT ON [^;]*\btrial_predictions\b"):
        check_rights(engine)

    with admin(empty_postgresql_url) as connection:
        connection.execute(statements.replace("zap_serving", make_url(url).username))

    check_rights(engine)
    assert may_follow(engine)
    looking = LookingBack(engine, Settings(database_url=url, timezone="UTC"))
    log_answers(owner, row_of(1), row_of(2))
    with capture_logs() as logs:
        assert looking.look()
    with write_transaction(engine) as connection:
        raise_alarm(connection, "harm", "version 1", "…", {}, posts=True)
    looking.close()
    assert len(outcomes(owner)) == 2
    assert [one for one in logs if one["log_level"] != "info"] == []
    for one in (engine, owner):
        one.dispose()


# Encodings.


@contextmanager
def database_in(encoding):
    name = f"zap_test_{uuid4().hex}"
    with admin(postgresql()) as connection:
        connection.execute(
            f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'"
        )
    yield make_url(postgresql()).set(database=name).render_as_string(hide_password=False)
    with admin(postgresql()) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1", "EUC_JP"])
def test_a_database_that_is_not_in_utf_8_is_refused_with_a_sentence(postgresql_server, zap_command, encoding):
    with database_in(encoding) as url:
        engine = create_engine(url)
        for command in ("db upgrade", "serve --port 1", "models list"):
            done = zap_command(*command.split(), "--database-url", url)
            assert done.returncode == 15, done.stderr
            assert f"has the encoding {encoding}" in done.stderr
            assert "ENCODING 'UTF8' TEMPLATE template0" in done.stderr
            assert "Traceback" not in done.stderr
        for refused in (lambda: upgrade(url), lambda: check_at_head(engine)):
            with pytest.raises(DatabaseUnavailable, match="encoding"):
                refused()
        engine.dispose()
        with admin(url) as connection:
            tables = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
        assert tables[0] == 0


@pytest.mark.parametrize("how", ["role", "url"])
def test_what_a_client_would_choose_as_its_encoding_does_not_matter(
    serve, trained_postgresql, role_of, good_request, how
):
    url = role_of(trained_postgresql.database_url, *USUAL)
    if how == "role":
        with admin(url) as connection:
            connection.execute(f"ALTER ROLE {make_url(url).username} SET client_encoding = 'LATIN1'")
    elif how == "url":
        url += "?client_encoding=LATIN1"
    server = serve(trained_postgresql.model_copy(update={"database_url": url})).wait()

    (reply,) = until(lambda: ask(server.url, good_request | {"vehicle_model": "漢字 🚗"}, 1))

    assert reply[0] == 200
    found = httpx.get(f"{server.url}/predictions/{reply[1]['prediction_id']}").text
    assert "漢字 🚗" in found


# What a role or a database may have set.


@pytest.mark.parametrize("refusal", ["ALTER TABLE predictions ENABLE ROW LEVEL SECURITY", "columns"])
def test_a_role_whose_rows_the_log_would_not_take_is_refused_at_start(empty_postgresql_url, role_of, refusal):
    upgrade(empty_postgresql_url)
    columns = ["GRANT INSERT (prediction_id) ON predictions TO {role}", "GRANT INSERT ON inference_inputs TO {role}"]
    rights = [LEAST[0], *columns, LEAST[2]] if refusal == "columns" else [*USUAL, refusal]
    engine = create_engine(role_of(empty_postgresql_url, *rights))

    with pytest.raises(DatabaseUnavailable, match="insert a row of the log"):
        check_rights(engine)
    engine.dispose()


@pytest.mark.parametrize(
    "setting", ["synchronous_commit=off", "synchronous_commit=remote_apply", "datestyle='German, DMY'"]
)
def test_settings_of_the_role_break_no_promise(trained_postgresql, role_of, serve, good_request, setting):
    url = role_of(trained_postgresql.database_url, *USUAL)
    name, _, value = setting.partition("=")
    with admin(trained_postgresql.database_url) as connection:
        connection.execute(f"ALTER ROLE {make_url(url).username} SET {name} = {value}")
    engine = create_engine(url)
    with engine.connect() as connection:
        commits = connection.exec_driver_sql("SHOW synchronous_commit").scalar()
    engine.dispose()
    server = serve(trained_postgresql.model_copy(update={"database_url": url})).wait()

    # A setting that asks for more than a durable commit is kept.
    assert commits == ("remote_apply" if "remote_apply" in setting else "on")
    answered = httpx.post(f"{server.url}/predict", json=good_request).json()["prediction_id"]
    for path in (f"/predictions/{answered}", "/models/1", "/models/history", "/training-runs/1", "/health/ready"):
        assert httpx.get(f"{server.url}{path}").status_code == 200, path
    report = {"session_id": 9_000_001, "user_id": "u", "charger_type": "Level 2"}
    report["charging_start_time"] = "2024-05-01T10:00:00"
    assert httpx.post(f"{server.url}/charging-sessions", json=report).status_code == 200
