"""The export of a driver: one ZIP with all that an erasure would remove, and a README that explains every column."""

import io
import json
import zipfile

import pytest
from erased import BY_VEHICLE, NAMED, TEXT_ID, driver_with_everything, traces
from sqlmodel import SQLModel

from zap.db.engine import create_engine
from zap.db.erasure.held_rows import COLUMNS
from zap.errors import NotFound
from zap.flows.driver_erasure import erase_driver
from zap.flows.driver_export import export_driver, export_to_file


def test_an_export_has_all_that_an_erasure_removes(trained, tmp_path):
    engine = create_engine(trained.database_url)
    user_id = driver_with_everything(engine, trained)
    file = tmp_path / "driver.zip"

    counts = export_to_file(engine, trained, user_id, file)

    assert file.stat().st_mode & 0o777 == 0o600
    with zipfile.ZipFile(file) as zipped:
        assert zipped.testzip() is None
        names = {one.removesuffix(".ndjson") for one in zipped.namelist()} - {"README.txt"}
        rows = {name: [json.loads(one) for one in zipped.read(f"{name}.ndjson").splitlines()] for name in names}
        readme = zipped.read("README.txt").decode()
    assert {name: len(some) for name, some in rows.items()} == dict(counts)
    assert {one["user_id"] for one in rows["Users"]} == {user_id}
    assert rows["session_text_ids"][0]["text_id"] == TEXT_ID
    assert any(one["distance_driven_km"] == 123.456 for one in rows["ChargingSessions"])
    assert all(f"{user_id}0" not in json.dumps(one) for some in rows.values() for one in some)
    assert len(rows["outcomes"]) >= NAMED + BY_VEHICLE
    assert rows["predictions"][0]["features"] == [0.0]
    assert rows["predictions"][0]["probabilities"] == {"Level 1": 0.25, "Level 2": 0.75}
    assert rows["drift_samples"][0]["classes"] == [1, 2, 3]
    # Every column is explained, and none of a table that is gone.
    for name, columns in COLUMNS.items():
        assert set(columns) == set(SQLModel.metadata.tables[name].columns.keys()), name
        assert all(f"  {column}: " in readme for column in columns)

    report = erase_driver(engine, trained, user_id)
    for name in names & report.counts.keys() - {"session_changes"}:
        assert counts[name] == report.counts[name], name
    assert report.counts.keys() - names == {"model_versions", "monitor_states"}
    assert counts["examples"] == report.counts["model_versions"]
    # The audit has both, without the id.
    with engine.connect() as connection:
        noted = connection.exec_driver_sql("SELECT action, subject FROM audit ORDER BY audit_id").all()
    noted = [one for one in noted if one.action.startswith("driver.")]
    assert [one.action for one in noted] == ["driver.export", "driver.erase"]
    assert noted[0].subject == noted[1].subject
    assert "audit" not in traces(engine, user_id)

    with pytest.raises(NotFound):
        export_driver(engine, trained, user_id, io.BytesIO())
    with pytest.raises(NotFound):
        export_to_file(engine, trained, user_id, tmp_path / "none.zip")
    assert not list(tmp_path.glob("none*"))
    engine.dispose()
