"""GET /quality: what versions scored on the sessions that followed their answers."""

import msgspec
import pytest
from outcomes import applied, asked_about, last_sessions

from zap.controllers.quality_replies import QualityReply
from zap.flows.quality import BLIND_SPOT

SPRING = {"from": "2024-04-01", "to": "2024-05-31"}


def test_it_works(client, trained):
    """Ask about sessions of spring, whose outcomes are known, and read the quality in several ways."""
    changes = asked_about(client, last_sessions(trained, 60))
    applied(client.app.state.engine, changes)

    reply = client.get("/quality", params=SPRING | {"by": "week", "version": 1})

    assert reply.status_code == 200
    quality = msgspec.json.decode(reply.content, type=QualityReply)
    (version,) = quality.versions
    assert (quality.kind, quality.by, quality.from_, quality.to) == ("live", "week", "2024-04-01", "2024-05-31")
    assert quality.final_until == "2024-05-31"
    assert quality.blind_spot == BLIND_SPOT
    assert version.model_version == 1
    assert version.final.scores.sessions == sum(one.scores.sessions for one in version.periods) == 60
    assert version.final.answers.label_coverage == 1
    assert list(version.final.scores.baselines) == list(version.final.scores.baseline_differences)
    promised = client.get("/models/1").json()["evaluation"]
    assert version.promise.log_loss == promised["log_loss"]
    assert version.promise.weighted_f1 == promised["test_f1_score"]
    assert client.get("/quality", params=SPRING | {"kind": "backtest"}).json()["versions"] == []
    assert client.get("/quality").json()["versions"] == []


@pytest.mark.parametrize(
    ("asked", "status", "said"),
    [
        ({"by": "hour"}, 400, "is 'hour'; must be one of day, week, month, total"),
        ({"kind": "all"}, 400, "must be one of live, backtest"),
        ({"version": "-1"}, 400, "version"),
        ({"version": "newest"}, 400, "version"),
        ({"from": "yesterday"}, 400, "#/from"),
        ({"to": "2024-4-1"}, 400, "give a day such as"),
        ({"to": "2024-02-30"}, 400, "#/to"),
        ({"from": "2024-02-30"}, 400, "#/from"),
        ({"from": "2024-02-02", "to": "2024-02-01"}, 400, "is 2024-02-02; it must not be after 2024-02-01"),
        ({"from": "2000-01-01"}, 400, "at most 1,099 days before"),
        ({"version": "99"}, 404, "there is no model version 99"),
        ({"from": "9999-12-31"}, 200, "9999-12-31"),
        ({"to": "0001-01-01"}, 200, "0001-01-01"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_what_is_wrong(shared_client, asked, status, said):
    reply = shared_client.get("/quality", params=asked)

    assert reply.status_code == status
    assert said in reply.text
    if status != 200:
        assert reply.headers["content-type"] == "application/problem+json"


def test_without_a_model_there_are_no_versions(untrained_client):
    reply = untrained_client.get("/quality")

    assert reply.status_code == 200
    assert reply.json()["versions"] == []
