"""What an erasure of a driver would remove, for the question before it. It changes nothing."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import Engine, func, select

from zap.db.erasure.driver_rows import OtherRequests, rows_of_driver
from zap.db.erasure.kept_examples import examples_of, samples_of
from zap.db.erasure.learned_versions import versions_that_learned
from zap.db.erasure.removal import starts_of
from zap.db.history.drivers import named_drivers
from zap.db.tables import InferenceInput
from zap.flows.driver_erasure import check_id, databases_beside
from zap.settings import Settings


class ErasurePreview(NamedTuple):
    """What an erasure would remove.

    Attributes:
        user_id: the driver as the database has the id.
        counts: the number of rows by table, of the tables that people ask about; zeros are left out.
        versions: the model versions that may have learned from the driver.
        other_databases: the names of other SQLite files that may hold the driver.
    """

    user_id: str
    counts: Mapping[str, int]
    versions: Sequence[int]
    other_databases: Sequence[str]


def preview_erasure(engine: Engine, settings: Settings, user_id: str) -> ErasurePreview:
    """Return what an erasure of a driver would remove, as far as it is known in little time.

    Of the requests that the index of the follower does not have, only the newest are read.

    Args:
        engine: on a database at head.
        settings: where files are.
        user_id: the driver as somebody has written the id.

    Raises:
        NotFound: no driver can have this id.
    """
    check_id(user_id)
    with engine.connect() as connection:
        named = named_drivers(connection, [user_id]).get(user_id, user_id)
        newest = connection.scalar(select(func.max(InferenceInput.__table__.c.input_id))) or 0  # type: ignore[attr-defined]
        rows = rows_of_driver(connection, named, OtherRequests(frozenset(), newest))
        starts = starts_of(connection, rows.sessions)
        counts = {
            "ChargingSessions": len(rows.sessions),
            "Vehicles": len(rows.vehicles),
            "inference_inputs": len(rows.inputs),
            "predictions": len(rows.predictions),
            "model_versions": sum(len(one.theirs) for one in examples_of(connection, starts)),
            "monitor_states": sum(1 for _ in samples_of(connection, named)),
        }
        versions = versions_that_learned(connection, starts)
    shown = {name: count for name, count in counts.items() if count}
    return ErasurePreview(named, shown, versions, databases_beside(settings))
