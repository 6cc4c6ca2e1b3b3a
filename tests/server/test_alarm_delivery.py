"""Messages about alarms reach a real receiver, signed, also after failures, a redirect and a restart."""

import base64
import json
import socket
import ssl
import subprocess
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr
from receivers import SECRET, Clock
from receivers import Receiver as RealReceiver
from servers import until
from sqlalchemy import select
from structlog.testing import capture_logs

from zap.db.engine import create_engine, write_transaction
from zap.db.monitoring.alarm_outbox import PAUSES
from zap.db.monitoring.alarms import raise_alarm, resolve_alarm
from zap.db.monitoring_tables import AlarmDelivery as Row
from zap.server.alarm_delivery import AlarmDelivery, receiver_of
from zap.server.webhook import Receiver, _Exchange, signature
from zap.settings import Settings


@pytest.fixture
def receiver():
    receiver = RealReceiver()
    yield receiver
    receiver.close()


@pytest.fixture
def clock():
    return Clock()


def to(receiver, secret=SECRET, **options):
    return Receiver(receiver.url, secret, **options)


def change(engine, *, resolves=False, subject="version 7"):
    with write_transaction(engine) as connection:
        if resolves:
            assert resolve_alarm(connection, "harm", subject, posts=True)
        else:
            assert raise_alarm(connection, "harm", subject, "Гірше, ніж обіцяно.", {"drivers": 41}, posts=True)


def rows(engine):
    with engine.connect() as connection:
        return connection.execute(select(Row.__table__).order_by(Row.delivery_id)).all()


def test_it_works(engine, receiver, clock):
    """Raise and resolve an alarm; the receiver gets both messages in order, with signatures that it accepts."""
    change(engine)
    change(engine, resolves=True)

    AlarmDelivery(engine, to(receiver), clock).look()

    assert [one["type"] for one in receiver.got] == ["alarm.raised", "alarm.resolved"]
    first = receiver.got[0]
    assert first["data"]["message"] == "Гірше, ніж обіцяно."
    assert first["path"] == "/alarms?team=1"
    assert first["headers"]["content-type"] == "application/json"
    assert first["headers"]["host"] == f"127.0.0.1:{receiver.port}"
    assert [one.delivered_at is not None for one in rows(engine)] == [True, True]
    # Nothing is sent twice.
    AlarmDelivery(engine, to(receiver), clock).look()
    assert len(receiver.attempts) == 2


def test_several_processes_post_each_message_once(engine, receiver, clock):
    for number in range(8):
        change(engine, subject=f"version {number}")
    several = [threading.Thread(target=AlarmDelivery(engine, to(receiver), clock).look) for _ in range(3)]
    for one in several:
        one.start()
    for one in several:
        one.join(60)

    assert sorted(one["data"]["subject"] for one in receiver.got) == [f"version {number}" for number in range(8)]
    assert len(receiver.attempts) == 8


def test_the_signature_is_that_of_the_specification():
    """Sign the example of the specification."""
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")

    signed = signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, '{"test": 2432232314}')

    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_receiver_that_fails_gets_the_same_message_again(sqlite_engine, receiver, clock):
    receiver.answers = [500, 429]
    delivery = AlarmDelivery(sqlite_engine, to(receiver), clock)
    change(sqlite_engine)
    change(sqlite_engine, subject="version 8")

    with capture_logs() as lines:
        delivery.look()
        # After a failure the other messages wait too, and the first one is not posted before its pause is over.
        assert len(receiver.attempts) == 1
        delivery.look()
        assert [one["data"]["subject"] for one in receiver.got] == []
        clock.wait(PAUSES[0])
        delivery.look()
    assert [line["reason"] for line in lines] == ["the receiver answered 500", "the receiver answered 429"]
    assert {line["event"] for line in lines} == {"a message about an alarm was not accepted"}
    assert [one["data"]["subject"] for one in receiver.got] == ["version 7", "version 8"]
    assert receiver.attempts[0] == receiver.attempts[2] != receiver.attempts[1]
    assert [one.attempts for one in rows(sqlite_engine)] == [2, 2]


def test_it_is_given_up_after_the_last_pause_and_that_is_told(sqlite_engine, clock):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = Receiver(f"http://127.0.0.1:{closed.getsockname()[1]}/", SECRET)
        delivery = AlarmDelivery(sqlite_engine, nobody, clock)
        change(sqlite_engine)
        with capture_logs() as lines:
            for pause in (*PAUSES, 0):
                delivery.look()
                clock.wait(pause)

    assert [line["log_level"] for line in lines] == ["warning"] * len(PAUSES) + ["error"]
    assert lines[-1]["event"] == "a message about an alarm was given up"
    assert all("cannot be reached" in line["reason"] for line in lines)
    assert rows(sqlite_engine)[0].given_up_at is not None


def test_a_receiver_that_is_gone_is_not_asked_again(sqlite_engine, receiver, clock):
    receiver.answers = [410]
    change(sqlite_engine)
    delivery = AlarmDelivery(sqlite_engine, to(receiver), clock)
    delivery.look()
    clock.wait(PAUSES[0])
    delivery.look()

    assert len(receiver.attempts) == 1
    assert rows(sqlite_engine)[0].last_error == "the receiver answered 410"


def test_a_redirect_is_not_followed(sqlite_engine, receiver, clock):
    other = RealReceiver()
    receiver.answers, receiver.headers = [307], {"Location": other.url}
    change(sqlite_engine)
    AlarmDelivery(sqlite_engine, to(receiver), clock).look()
    other.close()

    assert other.attempts == []
    assert rows(sqlite_engine)[0].last_error == "the receiver answered 307, and zap follows no redirects"


def test_a_wrong_secret_is_refused_by_the_reference_library(receiver):
    reply = to(receiver, secret="whsec_" + "A" * 32).post("msg_1", "{}")

    assert (reply.status, reply.accepted, receiver.got) == (401, False, [])


def test_a_receiver_that_does_not_answer_is_called_late_whichever_clock_notices_it():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        exchange = _Exchange("http", "127.0.0.1", silent.getsockname()[1])
        exchange.run("/", b"{}", {}, 0.1)

    assert exchange.result == (None, "no reply came within 0.1 seconds")


def test_a_receiver_that_does_not_answer_costs_the_deadline_and_no_more(receiver):
    receiver.answers = [3]

    reply = to(receiver, deadline=0.3).post("msg_1", "{}")

    assert (reply.status, reply.reason) == (None, "no reply came within 0.3 seconds")
    assert 0.3 <= reply.seconds < 2


def test_a_receiver_that_drips_costs_the_deadline_and_no_more():
    """Send a byte of a header now and then: no single wait is long."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip():
            connection, _ = server.accept()
            with connection:
                try:
                    while True:
                        connection.sendall(b"H")
                        time.sleep(0.05)
                except OSError:
                    pass

        thread = threading.Thread(target=drip)
        thread.start()
        reply = Receiver(f"http://127.0.0.1:{server.getsockname()[1]}", SECRET, deadline=0.4).post("msg_1", "{}")
        # The connection is closed, so the other side ends too.
        thread.join(10)

    assert not thread.is_alive()
    assert reply.status is None
    assert reply.seconds < 2


def test_little_of_a_large_reply_is_read(receiver):
    receiver.text, receiver.answers = b"x" * 10_000_000, [200]

    reply = to(receiver).post("msg_1", "{}")

    assert (reply.status, reply.text) == (200, "x" * 300)


@pytest.fixture
def certificate(tmp_path):
    """Make a certificate for 127.0.0.1 that only this test knows."""
    names = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
    files = ("-keyout", tmp_path / "key.pem", "-out", tmp_path / "certificate.pem")
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    subprocess.run([*made, *names, *files], check=True, capture_output=True)
    return tmp_path / "certificate.pem"


def test_with_https_the_certificate_must_be_valid(certificate, monkeypatch):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    receiver = RealReceiver(context)
    body = json.dumps({"type": "alarm.test"})

    unknown = to(receiver).post("msg_1", body)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    known = to(receiver).post("msg_1", body)
    receiver.close()

    assert unknown.reason.startswith("the certificate of the receiver is not valid")
    assert known.accepted
    assert [one["type"] for one in receiver.got] == ["alarm.test"]


def test_without_a_url_there_is_no_receiver():
    assert receiver_of(Settings()) is None
    assert (
        receiver_of(Settings(alarm_url="https://example.com/zap", alarm_secret=SECRET)).shown == "https://example.com"
    )


def test_a_server_posts_and_nothing_is_lost_over_a_restart(serve, trained_sqlite, receiver):
    """Stop the server while the receiver hangs; the next server posts the message."""
    # Without a follower, the server raises and resolves no alarms by itself.
    posted = {"alarm_url": receiver.url, "alarm_secret": SecretStr(SECRET), "follow": False}
    settings = trained_sqlite.model_copy(update=posted)
    receiver.answers = [60]
    server = serve(settings).wait()
    engine = create_engine(settings.database_url)
    change(engine)
    until(lambda: receiver.attempts, 20)

    code, seconds = server.stop()
    assert (code, receiver.got) == (0, [])
    assert seconds < 8
    assert rows(engine)[0].delivered_at is None

    serve(settings).wait()
    until(lambda: rows(engine)[0].delivered_at, 30)
    engine.dispose()
    (told,) = receiver.got
    assert receiver.attempts == [told["id"]] * 2
    assert datetime.now(UTC) - datetime.fromisoformat(told["timestamp"]) < timedelta(minutes=2)
    assert SECRET not in server.log()
