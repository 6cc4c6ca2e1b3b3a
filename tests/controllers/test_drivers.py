"""DELETE /drivers/{id} and GET /drivers/{id}/export, and what the other processes forget."""

import io
import json
import zipfile
from urllib.parse import quote

import httpx
from erased import TEXT_ID, driver_with_everything, traces
from servers import until

from zap.db.engine import create_engine
from zap.db.erasure.erasure_watch import ErasureWatch
from zap.db.history.driver_histories import DriverHistories
from zap.flows.driver_erasure import erase_driver


def path_of(user_id):
    return f"/drivers/{quote(user_id, safe='')}"


def test_a_driver_is_exported_and_erased(client, good_request):
    state = client.app.state
    user_id = driver_with_everything(state.engine, state.settings)

    exported = client.get(f"{path_of(user_id)}/export")
    assert exported.status_code == 200
    assert exported.headers["content-type"] == "application/zip"
    assert exported.headers["cache-control"] == "no-store"
    with zipfile.ZipFile(io.BytesIO(exported.content)) as zipped:
        assert TEXT_ID.encode() in zipped.read("session_text_ids.ndjson")

    erased = client.delete(path_of(user_id))
    assert erased.status_code == 200, erased.text
    assert erased.json()["versions"] == [1]
    assert erased.json()["counts"]["Users"] == 1
    assert traces(state.engine, f"{user_id}'", f'{user_id}"') == []
    for again in (client.delete(path_of(user_id)), client.get(f"{path_of(user_id)}/export")):
        assert again.status_code == 404
    assert "was erased already" in client.delete(path_of(user_id)).json()["detail"]

    # A new request of the driver is a new driver.
    assert client.post("/predict", json=good_request | {"user_id": user_id}).json()["history_sessions"] == 0
    # The slash at the end is no part of the id.
    erased = client.delete(f"{path_of(user_id)}/")
    assert erased.json()["counts"] == {"inference_inputs": 1, "predictions": 1, "outcomes": 1}


IDS = ("a/b", "%2F", "007", "Zoë 🚗", "x" * 1000, "..x", "a?b=c&d#e", "-1", "driver export", "a/export")


def test_ids_of_any_form(serve, trained_sqlite, good_request):
    server = serve(trained_sqlite).wait()
    with httpx.Client(base_url=server.url, timeout=30) as http:
        for user_id in IDS:
            asked = http.post("/predict", json=good_request | {"user_id": user_id})
            # /predict takes only short ids.
            assert asked.status_code == (422 if len(user_id) > 500 else 200), asked.text
            if asked.status_code == 200:
                assert http.get(f"{path_of(user_id)}/export").status_code == 200, user_id
                assert http.delete(path_of(user_id)).json()["counts"]["inference_inputs"] == 1, user_id
            assert http.delete(path_of(user_id)).status_code == 404
        # A server decodes each wrong byte as this character, and it names its driver only as itself.
        assert http.post("/predict", json=good_request | {"user_id": "\ufffd"}).status_code == 200
        for nobody in ("%20", "%ED%A0%BD", "a%00b", "%FF"):
            sent = http.delete(f"/drivers/{nobody}")
            assert sent.status_code == 404, sent.text
            assert sent.headers["content-type"] == "application/problem+json"
        assert http.delete(path_of("\ufffd")).json()["counts"]["inference_inputs"] == 1
    server.stop()


def test_another_process_forgets_the_driver(serve, trained, zap_command, good_request):
    """Two server processes remember a driver whom a command erases. Both forget within two seconds."""
    server = serve(trained.model_copy(update={"workers": 2})).wait()
    engine = create_engine(trained.database_url)
    with engine.connect() as connection:
        asked = 'SELECT user_id FROM "ChargingSessions" GROUP BY user_id ORDER BY count(*) DESC LIMIT 1'
        user_id = connection.exec_driver_sql(asked).scalar()

    def sessions_known():
        # Each request is a connection of its own, so both processes are asked.
        asked = [httpx.post(f"{server.url}/predict", json=good_request | {"user_id": user_id}) for _ in range(6)]
        return {one.json()["history_sessions"] for one in asked}

    assert min(sessions_known()) > 0

    done = zap_command("drivers", "erase", user_id, "--yes", "--json", settings=trained)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["counts"]["Users"] == 1
    until(lambda: sessions_known() == {0}, 2.5)
    assert httpx.delete(f"{server.url}{path_of(user_id)}", timeout=30).json()["counts"]["inference_inputs"] >= 6
    server.stop()
    assert traces(engine, f"{user_id}'", f'{user_id}"') == []
    engine.dispose()
    assert '"level": "error"' not in server.log()


def test_the_watch_forgets_what_was_remembered(trained_sqlite):
    engine = create_engine(trained_sqlite.database_url)
    histories = DriverHistories(engine)
    watch = ErasureWatch(engine, histories)
    watch.look()
    with engine.connect() as connection:
        user_id = connection.exec_driver_sql('SELECT user_id FROM "ChargingSessions" LIMIT 1').scalar()
    histories.read(user_id, 2_000_000_000, ("Level 1", "Level 2"))
    histories._long._pasts[user_id] = object()
    watch.look()
    assert user_id in histories._states

    erase_driver(engine, trained_sqlite, user_id)
    watch.look()

    assert not histories._states
    assert not histories._long._pasts
    histories.close()
    engine.dispose()
