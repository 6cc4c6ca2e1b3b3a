"""The dashboard and the alert rules: what they name is in a real scrape, and Prometheus itself reads all of it."""

import json
import os
import re
import shutil
import signal
import subprocess
from itertools import product
from pathlib import Path

import httpx
import pytest
import yaml
from conftest import absent
from prometheus_client.parser import text_string_to_metric_families
from servers import free_port, until, workers_of

import zap
from zap.monitoring.metric_families import FAMILIES

DEPLOY = Path(zap.__file__).parent / "deploy"
RULES = DEPLOY / "prometheus-alerts.yml"
DASHBOARD = DEPLOY / "grafana-dashboard.json"
MANUAL = Path(zap.__file__).parent / "manual"
# Series that Prometheus makes itself.
OF_PROMETHEUS = {"up"}


@pytest.fixture(scope="session")
def promtool():
    """Return a function that runs promtool, and returns what it says."""
    program = shutil.which("promtool") or absent("promtool")

    def run(*arguments, text=None):
        done = subprocess.run([program, *map(str, arguments)], input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


def rules():
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def panels():
    return [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]


def questions(interval="1m"):
    """Return the expressions of the dashboard, with values for its variables."""
    values = {"$__rate_interval": interval, "$job": "zap", "$instance": ".*"}
    found = [target["expr"] for panel in panels() for target in panel["targets"]]
    for name, value in values.items():
        found = [one.replace(name, value) for one in found]
    return found


def named(expression):
    """Return the metrics that an expression names."""
    without_texts = re.sub(r'"[^"]*"', "", expression)
    return set(re.findall(r"\b((?:zap|process|python)_[a-z_]+|up)\b", without_texts))


def test_the_rules_do_what_they_say(promtool, tmp_path):
    assert f"{len(rules())} rules found" in promtool("check", "rules", RULES)
    tests = Path(__file__).with_name("prometheus-alerts-test.yml").read_text().replace("RULES", str(RULES))
    (tmp_path / "tests.yml").write_text(tests)
    assert "SUCCESS" in promtool("test", "rules", tmp_path / "tests.yml")
    # Every rule fires in these tests.
    assert {rule["alert"] for rule in rules()} == set(re.findall(r'alertname="(\w+)"', tests))


def test_the_manual_says_what_to_do_about_each_alert():
    headings = re.findall(r"^### `(\w+)`$", (MANUAL / "metrics.md").read_text(), re.MULTILINE)

    assert headings == [rule["alert"] for rule in rules()]
    assert {rule["labels"]["severity"] for rule in rules()} == {"page", "ticket"}


def test_the_configuration_in_the_manual_is_one_of_prometheus(promtool, tmp_path):
    (shown,) = re.findall(r"```yaml\n(.*?)```", (MANUAL / "metrics.md").read_text(), re.DOTALL)
    assert "/etc/prometheus/prometheus-alerts.yml" in shown
    (tmp_path / "prometheus.yml").write_text(shown.replace("/etc/prometheus", str(DEPLOY)))

    assert "SUCCESS" in promtool("check", "config", tmp_path / "prometheus.yml")
    assert yaml.safe_load(shown)["scrape_configs"][0]["job_name"] == "zap"


def test_what_they_name_is_in_a_scrape(sqlite_client, promtool):
    text = sqlite_client.get("/metrics").text
    families = list(text_string_to_metric_families(text))
    names = {sample.name for family in families for sample in family.samples}
    # Some have no value here, but their names are in the scrape.
    names |= {f"{family.name}_total" if family.type == "counter" else family.name for family in families}

    for expression in [*questions(), *(rule["expr"] for rule in rules())]:
        assert named(expression), expression
        assert named(expression) - names - OF_PROMETHEUS == set()
    # It says nothing if it finds nothing.
    assert promtool("check", "metrics", text=text) == ""


def test_every_metric_is_in_the_reference():
    reference = (MANUAL / "reference.md").read_text()
    suffix = {"counter": "_total", "info": "_info"}
    shown = {f"{name}{suffix.get(one.kind, '')}": one.kind for name, one in FAMILIES.items()}

    rows = re.findall(r"^\| `((?:zap|process|python)_\w+)`[^|]*\| ([a-z]+) \|", reference, re.MULTILINE)
    assert dict(rows) == shown
    assert len(rows) == len(shown)


def test_the_dashboard_is_one_of_grafana():
    dashboard = json.loads(DASHBOARD.read_text())
    places = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        columns, lines = (range(place[at], place[at] + place[size]) for at, size in (("x", "w"), ("y", "h")))
        cells = set(product(columns, lines))
        assert not cells & places
        places |= cells
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    assert all(panel["description"].endswith(".") and panel["targets"] for panel in panels())
    assert {"datasource", "job", "instance"} == {one["name"] for one in dashboard["templating"]["list"]}


class Prometheus:
    """A real Prometheus that scrapes a server each second, with the rules of zap."""

    def __init__(self, folder, target):
        self.url = f"http://127.0.0.1:{free_port()}"
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(RULES)],
            "scrape_configs": [{"job_name": "zap", "static_configs": [{"targets": [target]}]}],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        program = shutil.which("prometheus") or absent("Prometheus")
        options = {
            "config.file": folder / "prometheus.yml",
            "storage.tsdb.path": folder / "data",
            "web.listen-address": self.url.removeprefix("http://"),
        }
        self._lines = (folder / "prometheus.log").open("w")
        self._process = subprocess.Popen(
            [program, *(f"--{name}={value}" for name, value in options.items())],
            stdout=self._lines, stderr=self._lines,
        )  # fmt: skip

    def get(self, path, **parameters):
        try:
            reply = httpx.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=10)
        except httpx.TransportError:
            return None
        if reply.status_code == 503:
            # It has just started.
            return None
        found = reply.json()
        assert found["status"] == "success", found
        return found["data"]

    def number(self, query):
        found = self.get("query", query=query)
        return float(found["result"][0]["value"][1]) if found and found["result"] else None

    def close(self):
        self._process.terminate()
        self._process.wait(20)
        self._lines.close()


@pytest.fixture
def prometheus(tmp_path):
    started = []

    def start(target):
        started.append(Prometheus(tmp_path, target))
        return started[-1]

    yield start
    for one in started:
        one.close()


def test_a_real_prometheus_sees_no_step_back_when_a_worker_is_killed(serve, prometheus, trained_sqlite, good_request):
    port = free_port()
    server = serve(trained_sqlite.model_copy(update={"metrics_port": port}), "--workers", "2").wait()
    until(lambda: server.log().count("Started server process") == 2, 60)
    monitor = prometheus(f"127.0.0.1:{port}")
    until(lambda: monitor.number('up{job="zap"}') == 1, 30)
    counted = "sum(zap_predictions_total)"
    until(lambda: monitor.number(counted) == 0, 10)

    for n in range(1, 91):
        assert httpx.post(f"{server.url}/predict", json=good_request).status_code == 200
        if n in {30, 60}:
            until(lambda n=n: monitor.number(counted) == n, 15)
            pids = workers_of(server)
            os.kill(pids[0], signal.SIGKILL)
            until(lambda n=n: server.log().count("Started server process") == 2 + n // 30, 30)
    until(lambda: monitor.number(counted) == 90, 15)

    assert monitor.number("sum(resets(zap_predictions_total[2m]))") == 0
    assert monitor.number("sum(resets(zap_http_request_duration_seconds_count[2m]))") == 0
    # `increase` extends to the whole range, so it is close to the number of requests and not equal.
    answered = 'zap_http_request_duration_seconds_count{route="/predict", status="200"}'
    assert monitor.number(f"sum(max_over_time({answered}[2m]) - min_over_time({answered}[2m]))") == 90
    # A SQLite database without outcomes has no values for these.
    absent_here = re.compile(r"database_(connections|transactions|deadlocks|replica)|model_(quality|label)")
    assert [
        one for one in questions("10s") if not monitor.get("query", query=one)["result"] and not absent_here.search(one)
    ] == []
    states = {rule["name"]: rule["health"] for group in monitor.get("rules")["groups"] for rule in group["rules"]}
    assert states == {rule["alert"]: "ok" for rule in rules()}
    firing = {one["labels"]["alertname"] for one in monitor.get("alerts")["alerts"] if one["state"] == "firing"}
    assert firing - {"ZapRestarts"} == set()
