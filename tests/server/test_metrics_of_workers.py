"""The metrics of several workers: sums over all of them, which go on when a worker is killed; and their own port."""

import http.client
import os
import signal
from contextlib import closing

import httpx
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr
from servers import free_port, until, workers_of


def scrape(url):
    reply = httpx.get(f"{url}/metrics", timeout=10)
    assert reply.status_code == 200, reply.text
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(reply.text)
        for sample in family.samples
    }


def predicted(found):
    return sum(n for key, n in found.items() if key[0] == "zap_predictions_total")


REQUESTS = ("zap_http_request_duration_seconds_count", ("method", "POST"), ("route", "/predict"), ("status", "200"))


def test_a_killed_worker_takes_no_count_with_it(serve, trained_sqlite, good_request):
    port = free_port()
    server = serve(trained_sqlite.model_copy(update={"metrics_port": port}), "--workers", "2").wait()
    until(lambda: server.log().count("Started server process") == 2, 60)
    metrics = f"http://127.0.0.1:{port}"
    sent = 0
    for round_ in range(3):
        for _ in range(20):
            # A connection each, so that both workers get some.
            assert httpx.post(f"{server.url}/predict", json=good_request).status_code == 200
            sent += 1
        until(lambda sent=sent: predicted(scrape(metrics)) == sent, 10)
        found = [scrape(url) for url in (metrics, server.url) * 5]
        assert {one[REQUESTS] for one in found} == {sent}
        assert {one["zap_workers",] for one in found} == {2}
        assert {one["zap_log_commit_seconds_count",] for one in found} == {sent}
        # Only this scrape at the port of the server is in progress; the other port is not counted.
        assert [one["zap_http_requests_in_progress",] for one in found] == [0, 1] * 5
        starts = {key: n for key, n in found[0].items() if key[0] == "process_start_time_seconds"}
        assert len(starts) == 2
        if round_ < 2:
            pids = workers_of(server)
            os.kill(pids[round_], signal.SIGKILL)
            until(lambda round_=round_: server.log().count("Started server process") == 3 + round_, 30)
            until(lambda: scrape(metrics).get(("zap_workers",)) == 2, 30)

    for path in ("/", "/predict", "/docs", "/metrics/"):
        assert httpx.get(f"{metrics}{path}").status_code == 404
    assert httpx.post(f"{metrics}/predict", json=good_request).status_code == 404
    assert httpx.get(f"{metrics}/metrics", headers={"Host": "evil.example"}).status_code == 421
    with closing(http.client.HTTPConnection(metrics.removeprefix("http://"), timeout=10)) as raw:
        raw.putrequest("GET", "/metrics", skip_host=True)
        for host in ("evil.example", "127.0.0.1"):
            raw.putheader("Host", host)
        raw.endheaders()
        assert raw.getresponse().status == 400
    assert server.stop()[0] == 0


def test_the_port_of_the_metrics_needs_no_key(serve, trained_sqlite):
    port = free_port()
    settings = trained_sqlite.model_copy(update={"metrics_port": port, "api_key": SecretStr("k" * 20)})
    server = serve(settings).wait()

    assert httpx.get(f"{server.url}/metrics").status_code == 401
    assert scrape(f"http://127.0.0.1:{port}")["zap_database_up",] == 1

    other = serve(trained_sqlite.model_copy(update={"metrics_port": port}))
    assert other.process.wait(60) not in {0, None}
    assert f"zap cannot listen on 127.0.0.1, port {port}" in other.log()
    assert "ZAP_METRICS_PORT" in other.log()
