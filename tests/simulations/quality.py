"""Compare live quality with the evaluation of a training, on the test sessions of a real history.

`python tests/simulations/quality.py HISTORY` imports a file of sessions into a database of its own, trains a version,
asks over HTTP about the sessions on which it was tested, takes their types as outcomes, and prints the largest
difference between a figure of live quality and the same figure of the evaluation (minutes).
"""

import argparse
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from litestar.testing import TestClient
from outcomes import applied, asked_about, last_sessions

from zap.app import create_app
from zap.db.engine import create_engine
from zap.db.schema import upgrade
from zap.db.versions.model_registry import read_version
from zap.flows.history_import import import_history
from zap.flows.quality import Question, read_quality
from zap.flows.training import run_training
from zap.progress import no_progress
from zap.settings import Settings

# The intervals of live quality are over groups of drivers, so they are not compared.
COMPARED = (
    "macro_f1", "accuracy", "log_loss", "per_class", "confusion_matrix", "classes", "baselines", "best_baseline",
    "best_baseline_by_f1", "log_loss_difference", "unseen_type_sessions", "by_earlier_sessions", "by_types_used",
    "calibration",
)  # fmt: skip


def differences(found, expected, name="scores"):
    """Yield the name and the size of each difference between two documents; infinity if it is no number."""
    if isinstance(expected, dict):
        for key in {**found, **expected}:
            yield from differences(found.get(key), expected.get(key), f"{name}.{key}")
    elif isinstance(expected, list) and isinstance(found, list) and len(found) == len(expected):
        for place, value in enumerate(expected):
            yield from differences(found[place], value, f"{name}[{place}]")
    elif isinstance(expected, float) and isinstance(found, float):
        yield name, abs(found - expected)
    elif found != expected:
        yield name, float("inf")


def measured(file):
    """Return the number of test sessions, and the differences by name."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(database_url=f"sqlite:///{folder}/zap.sqlite", models_dir=Path(folder), batch_rows=100_000)
        upgrade(settings.database_url)
        engine = create_engine(settings.database_url)
        import_history(engine, file, wall_time=settings.wall_time)
        run_training(engine, settings, no_progress)
        version = read_version(engine, 1)
        evaluation = version["evaluation"]
        with TestClient(create_app(settings), base_url="http://127.0.0.1:8000") as client:
            tested = last_sessions(settings, version["test_samples"], evaluation["classes"])
            changes = asked_about(client, tested)
        applied(engine, changes)
        first, last = (changes[place].after.asked_at for place in (0, -1))
        question = Question(first.date(), last.date())
        (found,) = read_quality(engine, question, last + timedelta(days=9), timedelta(days=1))["versions"]
        engine.dispose()
    scores = found["final"]["scores"]
    live = {name: scores[name] for name in COMPARED} | {"weighted_f1": scores["weighted_f1"]}
    expected = {name: evaluation[name] for name in COMPARED} | {"weighted_f1": evaluation["test_f1_score"]}
    return scores["sessions"], dict(differences(live, expected))


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("history", type=Path)
    sessions, found = measured(options.parse_args().history)
    print(f"{len(found):,} figures on {sessions:,} sessions")
    for name in sorted(found, key=found.__getitem__)[-5:]:
        print(f"{found[name]:.2e}  {name}")


if __name__ == "__main__":
    main()
