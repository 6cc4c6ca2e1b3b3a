"""/models: which versions there are, which one serves, and the way back."""

import json
from datetime import datetime, timedelta

import msgspec
import pytest
from conftest import counted
from sqlalchemy import insert, select, update

from zap.controllers.model_replies import ModelDetail, Models
from zap.controllers.promotion_replies import Changed, Promotions
from zap.db.engine import write_transaction
from zap.db.runs.training_runs import claim_run
from zap.db.tables import ModelVersion, Promotion, TrainingRun


@pytest.fixture
def versions(client):
    """Two more versions, with the bytes of the first; the third cannot be loaded."""
    with write_transaction(client.app.state.engine) as connection:
        row = dict(connection.execute(select(ModelVersion.__table__)).mappings().one())
        connection.execute(insert(ModelVersion), row | {"model_version": 2, "status": "candidate", "note": "second"})
        damaged = {"model_version": 3, "status": "candidate", "artefact": b"damaged"}
        connection.execute(insert(ModelVersion), row | damaged)
    return client


def promote(client, number, **options):
    return client.post(f"/models/{number}/promote", **options)


def serving(client, request):
    return client.post("/predict", json=request).json()["model_version"]


def test_it_works(versions, good_request, rows):
    """Read a version, promote it, and roll it back."""
    client = versions
    listed = msgspec.json.decode(client.get("/models").content, type=Models).models
    assert [(one.model_version, one.status) for one in listed] == [
        (3, "candidate"), (2, "candidate"), (1, "production")
    ]  # fmt: skip
    detail = msgspec.json.decode(client.get("/models/2").content, type=ModelDetail)
    assert detail.note == "second"
    # The rows themselves are sessions of drivers, and reading needs no key.
    assert detail.golden_rows == 8
    assert detail.artefact_bytes > 1000
    assert detail.synthetic_sessions == listed[1].synthetic_sessions > 1000

    reply = promote(client, 2, json={"who": "ann", "why": "a trial"})

    assert reply.status_code == 200
    assert msgspec.json.decode(reply.content, type=Changed) == Changed("success", 1, 2, changed=True)
    assert serving(client, good_request) == 2
    assert [row["status"] for row in rows(client.app, ModelVersion)] == ["archived", "production", "candidate"]

    back = client.post("/models/rollback", json={"who": "bob"})

    assert back.json() == {"status": "success", "from_version": 2, "to_version": 1, "changed": True}
    assert serving(client, good_request) == 1
    history = msgspec.json.decode(client.get("/models/history").content, type=Promotions).promotions
    assert [(one.action, one.from_version, one.to_version, one.who, one.why) for one in history[:2]] == [
        ("rollback", 2, 1, "bob", None),
        ("promote", 1, 2, "ann", "a trial"),
    ]


def test_promoting_what_serves_changes_and_records_nothing(versions):
    before = counted(versions.app, Promotion)

    reply = promote(versions, 1)

    assert reply.json() == {"status": "success", "from_version": 1, "to_version": 1, "changed": False}
    assert counted(versions.app, Promotion) == before


def test_a_version_that_cannot_serve_is_refused_by_what_is_wrong(versions, good_request, rows):
    reply = promote(versions, 3)

    assert reply.status_code == 409
    assert reply.json()["type"] == "urn:zap:problem:not-promotable"
    assert "SHA-256" in reply.json()["detail"]
    assert serving(versions, good_request) == 1
    assert [row["to_version"] for row in rows(versions.app, Promotion)] == [1]


def test_a_pruned_version_is_refused(versions):
    with write_transaction(versions.app.state.engine) as connection:
        connection.execute(update(ModelVersion).where(ModelVersion.model_version == 2).values(artefact=None))

    assert "was pruned" in promote(versions, 2).json()["detail"]
    assert versions.get("/models/2").json()["artefact_bytes"] is None


def test_a_version_whose_training_has_not_finished_is_refused(versions):
    engine = versions.app.state.engine
    run = claim_run(engine, "train", {})
    with write_transaction(engine) as connection:
        connection.execute(update(ModelVersion).where(ModelVersion.model_version == 2).values(run_id=run))

    assert "its training is running" in promote(versions, 2).json()["detail"]


def test_there_is_nothing_to_go_back_to_before_the_first_promotion(client):
    reply = client.post("/models/rollback")

    assert reply.status_code == 409
    assert "no version served before" in reply.json()["detail"]


@pytest.mark.parametrize("path", ["/models/99", "/models/1_0", f"/models/{2**63}"])
def test_a_version_that_is_not_there_is_not_found(shared_client, path):
    assert shared_client.get(path).status_code == 404
    assert shared_client.post(f"{path}/promote").status_code == 404


@pytest.mark.parametrize("path", ["/models/1/promote", "/models/rollback"])
@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b'{"who": 1}', "application/json", 422),
        (b'{"who": null}', "application/json", 422),
        (b'{"reason": "x"}', "application/json", 422),
        (b'{"why": "a", "why": "b"}', "application/json", 422),
        (b'{"who": "%s"}' % (b"x" * 501), "application/json", 422),
        (b"[]", "application/json", 422),
        (b"{", "application/json", 400),
        (b'{"who": "\xff"}', "application/json", 400),
        (b"who=ann", "application/x-www-form-urlencoded", 415),
        (b" " * 70_000, "application/json", 413),
    ],
)
def test_a_body_is_read_strictly(shared_client, path, body, content_type, status):
    reply = shared_client.post(path, content=body, headers={"Content-Type": content_type})

    assert reply.status_code == status
    assert reply.headers["content-type"] == "application/problem+json"


def test_versions_come_page_by_page(versions):
    page = versions.get("/models", params={"limit": 2}).json()["models"]
    rest = versions.get("/models", params={"before": page[-1]["model_version"]}).json()["models"]

    assert [one["model_version"] for one in page + rest] == [3, 2, 1]


def test_versions_of_before_say_what_they_can(versions):
    # Most columns of a version from an older zap are NULL.
    older = [column.name for column in ModelVersion.__table__.columns if column.nullable]
    with write_transaction(versions.app.state.engine) as connection:
        values = dict.fromkeys(name for name in older if name != "artefact")
        connection.execute(update(ModelVersion).where(ModelVersion.model_version == 2).values(values))

    assert versions.get("/models/2").status_code == 200
    assert versions.get("/models").status_code == 200
    assert promote(versions, 2).json()["changed"] is True


def test_every_time_of_a_reply_is_what_the_document_says(versions):
    # A date-time of OpenAPI has an offset, and clients that are generated from the document expect it.
    schemas = versions.get("/openapi.json").json()["components"]["schemas"]

    for path, name in (("/models/1", "ModelDetail"), ("/training-runs/1", "RunDetail")):
        reply, fields = versions.get(path).json(), schemas[name]["properties"]
        stamps = [field for field in fields if "date-time" in json.dumps(fields[field]) and reply[field]]
        assert stamps
        assert [datetime.fromisoformat(reply[field]).utcoffset() for field in stamps] == [timedelta(0)] * len(stamps)
    assert datetime.fromisoformat(versions.get("/models/1").json()["trained_from"]).tzinfo is None


def test_a_version_of_real_or_unknown_sessions_is_not_called_synthetic(client):
    """The mark comes from the report of the training, which versions of an older zap lack."""
    for report, says in (({"synthetic_sessions": 0}, 0), ({"detail": "none"}, None), (None, None)):
        with write_transaction(client.app.state.engine) as connection:
            connection.execute(update(TrainingRun).values(report=report))
        assert client.get("/models").json()["models"][0]["synthetic_sessions"] == says
        assert client.get("/models/1").json()["synthetic_sessions"] == says
