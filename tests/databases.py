"""Databases that tests make on PostgreSQL, and the revisions of the migrations."""

import os
from contextlib import contextmanager, suppress
from functools import cache
from uuid import uuid4

import own_postgresql
import psycopg
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import make_url

from zap.db.schema import migrations_folder

USUAL_POSTGRESQL = "postgresql+psycopg://postgres@127.0.0.1:5432/postgres"
# From the oldest to the newest.
REVISIONS = tuple(script.revision for script in ScriptDirectory(str(migrations_folder())).walk_revisions())[::-1]
HEAD = REVISIONS[-1]
# What all workers of pytest-xdist have in common. They get their environment from the process that starts them.
RUN = os.environ.setdefault("ZAP_TEST_RUN", uuid4().hex)


@cache
def postgresql():
    """Return the URL of a server: what ZAP_TEST_POSTGRESQL says, or the tests' own server, or the usual one."""
    return os.environ.get("ZAP_TEST_POSTGRESQL") or own_postgresql.start() or USUAL_POSTGRESQL


def connect(url, **options):
    """Return a connection to PostgreSQL that is not one of zap's."""
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(plain, **{"connect_timeout": 3} | options)


@contextmanager
def postgresql_database(template="template1"):
    """Yield the URL of a new PostgreSQL database, a copy of the database `template`."""
    name = f"zap_test_{uuid4().hex}"
    yield _created(name, template)
    _drop(name)


def shared_name(name):
    """Return the name of a database on PostgreSQL that all workers of this run use as a template."""
    return f"zap_test_{RUN}_{name}"


def shared_database(name):
    """Return the URL of a new database with a shared name, which `drop_shared` drops. One worker makes it."""
    _drop(shared_name(name))
    return _created(shared_name(name))


def drop_shared():
    """Drop the databases with shared names, if this process has used PostgreSQL."""
    if postgresql.cache_info().currsize:
        with suppress(psycopg.OperationalError), connect(postgresql(), autocommit=True) as admin:
            like = "SELECT datname FROM pg_database WHERE starts_with(datname, %s)"
            for (name,) in admin.execute(like, [shared_name("")]).fetchall():
                admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def _created(name, template="template1"):
    with connect(postgresql(), autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" {_strategy(admin)}')
    return make_url(postgresql()).set(database=name).render_as_string(hide_password=False)


def _drop(name):
    with connect(postgresql(), autocommit=True) as admin:
        admin.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def _strategy(connection):
    """Return how to copy a database: as files where nothing waits for the disk, which takes half the time."""
    waits = connection.execute("SHOW fsync").fetchone()[0] == "on"
    return "" if waits or connection.info.server_version < 150000 else "STRATEGY FILE_COPY"


# The rights of a role that answers predictions and changes nothing else. Nobody may change the log afterwards.
LEAST_RIGHTS = (
    "GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}",
    "GRANT INSERT ON inference_inputs, predictions TO {role}",
    "GRANT USAGE ON SEQUENCE inference_inputs_input_id_seq, predictions_prediction_id_seq TO {role}",
)


@contextmanager
def role_in(url, *rights):
    """Make a role with rights in a PostgreSQL database. Yield the URL of the database as this role."""
    role = f"zap_role_{uuid4().hex[:12]}"
    with connect(url, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'little'")
    try:
        with connect(url, autocommit=True) as admin:
            # As PostgreSQL has it from version 15 on.
            admin.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
            for right in rights:
                admin.execute(right.format(role=role))
        yield make_url(url).set(username=role, password="little").render_as_string(hide_password=False)
    finally:
        with connect(url, autocommit=True) as admin:
            admin.execute(f"DROP OWNED BY {role}")
            admin.execute(f"DROP ROLE {role}")


def config_for(url, folder=None, report=lambda _line: None):
    """Return Alembic's configuration for a database, with zap's migrations or with the migrations in `folder`."""
    config = Config(attributes={"url": url, "report": report})
    config.set_main_option("script_location", str(folder or migrations_folder()))
    return config
