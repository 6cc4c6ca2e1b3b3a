"""Post one message to ZAP_ALARM_URL, signed as Standard Webhooks (https://www.standardwebhooks.com) has it."""

import base64
import contextlib
import hashlib
import hmac
import http.client
import socket
import ssl
import threading
import time
from typing import NamedTuple
from urllib.parse import urlsplit

from zap import __version__

# How long a post may take, with the name look-up, the connection and the reply.
DEADLINE_SECONDS = 10.0
# How much of a reply is read.
_MOST_BYTES = 2048
_SHOWN_CHARACTERS = 300
# A receiver answers this status if it wants no more messages.
_GONE = 410


class Reply(NamedTuple):
    """What came back.

    Attributes:
        status: the HTTP status; None if no reply came.
        text: the beginning of the reply, or why no reply came.
        seconds: how long it took.
    """

    status: int | None
    text: str
    seconds: float

    @property
    def accepted(self) -> bool:
        """Return whether the receiver has accepted the message."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def gone(self) -> bool:
        """Return whether the receiver wants no more messages."""
        return self.status == _GONE

    @property
    def reason(self) -> str:
        """Return in words why the message was not accepted."""
        if self.status is None:
            return self.text
        if 300 <= self.status < 400:
            return f"the receiver answered {self.status}, and zap follows no redirects"
        return f"the receiver answered {self.status}"


class Receiver:
    """The receiver of the messages: posts one message at a time.

    Args:
        url: an address that the settings have checked.
        secret: the text `whsec_` and the key in base64.
        deadline: how long a post may take, in seconds.
    """

    def __init__(self, url: str, secret: str, deadline: float = DEADLINE_SECONDS) -> None:
        self._url = urlsplit(url)
        self._key = base64.b64decode(secret.removeprefix("whsec_"))
        self._deadline = deadline
        self._closed = False
        self._exchange: _Exchange | None = None

    @property
    def shown(self) -> str:
        """Return the address without its path, because the path may hold a password."""
        return f"{self._url.scheme}://{self._url.netloc}"

    def post(self, message_id: str, body: str) -> Reply:
        """Post a message, and return what came back, at the latest after the deadline.

        A thread does the work, because the look-up of a name has no deadline.

        Args:
            message_id: the `webhook-id`, which is equal in each attempt.
            body: the JSON of the message.
        """
        begun = time.monotonic()
        sent_at = int(time.time())
        headers = {
            "Host": self._url.netloc,
            "Content-Type": "application/json",
            "User-Agent": f"zap/{__version__}",
            "Connection": "close",
            "webhook-id": message_id,
            "webhook-timestamp": str(sent_at),
            "webhook-signature": signature(self._key, message_id, sent_at, body),
        }
        exchange = self._exchange = _Exchange(self._url.scheme, self._url.hostname or "", self._url.port)
        path = (self._url.path or "/") + (f"?{self._url.query}" if self._url.query else "")
        work = threading.Thread(
            target=exchange.run, args=(path, body.encode(), headers, self._deadline), name="webhook", daemon=True
        )
        work.start()
        if not self._closed:
            exchange.done.wait(self._deadline)
        why = "the server stops" if self._closed else _late(self._deadline)
        status, text = exchange.result or (None, why)
        exchange.abort()
        return Reply(status, text, time.monotonic() - begun)

    def close(self) -> None:
        """Give up the post that is under way, because the server stops."""
        self._closed = True
        if self._exchange is not None:
            self._exchange.done.set()


def signature(key: bytes, message_id: str, sent_at: int, body: str) -> str:
    """Return the header `webhook-signature` of a message: HMAC-SHA256 of its id, its time and its body.

    Args:
        key: the secret in bytes.
        message_id: the `webhook-id`.
        sent_at: the `webhook-timestamp`, in seconds since 1970.
        body: the JSON of the message.
    """
    digest = hmac.new(key, f"{message_id}.{sent_at}.{body}".encode(), hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def _late(seconds: float) -> str:
    return f"no reply came within {seconds:g} seconds"


class _Exchange:
    """One request and its reply. It follows no redirects and uses no proxy."""

    def __init__(self, scheme: str, host: str, port: int | None) -> None:
        self._secure = scheme == "https"
        self._host = host
        self._port = port or (443 if self._secure else 80)
        self._socket: socket.socket | None = None
        self.done = threading.Event()
        # The status and the beginning of the reply, or None and why no reply came.
        self.result: tuple[int | None, str] | None = None

    def run(self, path: str, body: bytes, headers: dict[str, str], seconds: float) -> None:
        """Send the request and read the reply; set `result`, and then `done`."""
        try:
            self.result = self._run(path, body, headers, seconds)
        except ssl.SSLCertVerificationError as error:
            self.result = None, f"the certificate of the receiver is not valid: {error.verify_message}"
        except TimeoutError:
            # The time of the socket and the time of the caller end together, and either may be noticed first.
            self.result = None, _late(seconds)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.result = None, f"the receiver cannot be reached: {str(error) or type(error).__name__}"
        finally:
            self.done.set()

    def _run(self, path: str, body: bytes, headers: dict[str, str], seconds: float) -> tuple[int, str]:
        with socket.create_connection((self._host, self._port), timeout=seconds) as plain, self._secured(plain) as one:
            self._socket = one
            if self.done.is_set():
                raise TimeoutError
            if isinstance(one, ssl.SSLSocket):
                one.do_handshake()
            connection = http.client.HTTPConnection(self._host, self._port)
            connection.sock = one
            connection.request("POST", path, body, headers)
            with connection.getresponse() as reply:
                return reply.status, reply.read(_MOST_BYTES).decode(errors="replace")[:_SHOWN_CHARACTERS]

    def _secured(self, plain: socket.socket) -> socket.socket:
        if not self._secure:
            return plain
        context = ssl.create_default_context()
        return context.wrap_socket(plain, server_hostname=self._host, do_handshake_on_connect=False)

    def abort(self) -> None:
        """Close the connection, so that a thread which still waits ends."""
        self.done.set()
        if self._socket is not None:
            # This is the method of the plain class, because the method of SSLSocket would forget its state, which the
            # other thread may be using.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
