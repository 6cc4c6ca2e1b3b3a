"""A receiver of alarms on a real socket, which checks each signature with the reference library; and a clock."""

import base64
import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook

SECRET = f"whsec_{base64.b64encode(b'a secret of the tests, of 36 bytes!!').decode()}"


class Clock:
    """A clock of the outbox that a test sets. It is a little ahead, because the database has a clock of its own."""

    def __init__(self):
        self.now = datetime.now(UTC) + timedelta(seconds=1)

    def __call__(self, _connection):
        return self.now

    def wait(self, seconds):
        self.now += timedelta(seconds=seconds)


class Receiver:
    """Answer POSTs in a thread, and note the messages. A message with a wrong signature gets a 401.

    Attributes:
        answers: the status of each of the next replies; then 204. A number below 100 is a pause in seconds before it.
        headers: the headers of the replies.
        got: the messages that were accepted, each with its `id`, its `path` and its `attempt`.
        attempts: the `webhook-id` of each request.
    """

    def __init__(self, context=None):
        self.answers, self.headers, self.text = [], {}, b""
        self.got, self.attempts = [], []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        if context is not None:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_port
        self.url = f"http{'s' if context else ''}://127.0.0.1:{self.port}/alarms?team=1"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def _handler(self):
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                receiver.answer(self)

            def log_message(self, *_):
                """Write nothing."""

        return Handler

    def answer(self, request):
        body = request.rfile.read(int(request.headers["content-length"]))
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.attempts.append(headers["webhook-id"])
        status = self.answers.pop(0) if self.answers else 204
        if status < 100:
            time.sleep(status)
            status = 204
        try:
            told = Webhook(SECRET).verify(body, headers)
        except Exception:  # noqa: BLE001 - any failure means that the signature is wrong
            status, told = 401, None
        if 200 <= status < 300:
            self.got.append({**told, "id": headers["webhook-id"], "path": request.path, "headers": headers})
        try:
            request.send_response(status)
            for name, value in {**self.headers, "Content-Length": str(len(self.text))}.items():
                request.send_header(name, value)
            request.end_headers()
            request.wfile.write(self.text)
        except OSError:
            # The sender did not wait.
            pass

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
