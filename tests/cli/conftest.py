"""Fixtures of the tests of commands."""

import pytest

from zap.db.engine import create_engine
from zap.db.versions.production import Production
from zap.flows.file_prediction import FilePrediction


@pytest.fixture
def files(trained):
    """Predictions for files, on each engine."""
    yield from _files(trained)


@pytest.fixture
def sqlite_files(trained_sqlite):
    yield from _files(trained_sqlite)


def _files(settings):
    engine = create_engine(settings.database_url)
    production = Production(engine, settings.model_file)
    production.refresh()
    files = FilePrediction(engine, production.predictor, settings.wall_time)
    files.engine = engine
    yield files
    engine.dispose()
