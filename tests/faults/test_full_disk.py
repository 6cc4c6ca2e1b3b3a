"""A disk without room: readiness says what predictions say, and the log of the server stays short."""

import shutil

import httpx
from faults.asking import ask, fill
from servers import until


def test_a_full_disk_is_not_ready_and_no_storm_in_the_log(serve, trained_sqlite, good_request, small_disk):
    file = shutil.copy(trained_sqlite.url.database, small_disk / "zap.sqlite")
    settings = trained_sqlite.model_copy(update={"database_url": f"sqlite:///{file}"})
    server = serve(settings).wait()
    assert ask(server.url, good_request, 1)[0][0] == 200
    assert httpx.get(f"{server.url}/health/ready").status_code == 200

    ballast = fill(small_disk)
    # What is in the WAL already has room; sooner or later there is none.
    until(lambda: {status for status, _, _ in ask(server.url, good_request, 20)} == {503})
    before = len(server.log())
    until(lambda: httpx.get(f"{server.url}/health/ready").status_code == 503, seconds=10)
    for _ in range(10):
        assert {status for status, _, _ in ask(server.url, good_request, 50)} == {503}
        assert httpx.get(f"{server.url}/health/ready").status_code == 503

    assert server.log().count("Traceback") < 10
    assert len(server.log()) - before < 50_000
    ballast.unlink()
    until(lambda: ask(server.url, good_request, 1)[0][0] == 200, seconds=20)
    until(lambda: httpx.get(f"{server.url}/health/ready").status_code == 200, seconds=20)
    server.stop()
    assert '"repeated"' in server.log()
