"""Engines on databases with a version in production."""

import pytest

from zap.db.engine import create_engine


@pytest.fixture
def registry(trained):
    engine = create_engine(trained.database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def sqlite_registry(trained_sqlite):
    engine = create_engine(trained_sqlite.database_url)
    yield engine
    engine.dispose()
