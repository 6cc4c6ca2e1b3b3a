"""The HTTP/1.1 protocol of `zap serve`: it ignores the offer of another protocol (Upgrade) and reads the body.

The JDK's HttpClient sends `Upgrade: h2c` over plain http, and so does `curl --http2`. uvicorn's parser takes the
rest of such a message as data of the other protocol, so the request would be answered as if its body were empty.
"""

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# The headers of an offer. A server may ignore an offer (RFC 9110, 7.8).
_OFFER = frozenset({b"upgrade", b"http2-settings"})


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's httptools protocol without upgrades: zap has neither WebSocket nor HTTP/2."""

    _offered = False

    def data_received(self, data: bytes) -> None:
        """Parse received data. If a request has an offer, parse its headers again without the offer."""
        self._unset_keepalive_if_required()
        try:
            while data:
                data = self._fed(data)
        except httptools.HttpParserError:
            message = "Invalid HTTP request received."
            self.logger.warning(message)
            self.send_400_response(message)

    def _fed(self, data: bytes) -> bytes:
        """Feed the parser. Return the bytes for a new parser, which are empty if no protocol was offered.

        Raises:
            HttpParserError: the data is not HTTP, or a CONNECT request.
        """
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._offered = False
            method = self.parser.get_method()
            if method == b"CONNECT":
                raise httptools.HttpParserError("zap is not a proxy, so it does not accept CONNECT") from None
            version = self.parser.get_http_version().encode()
            head = [method, b" ", self.url, b" HTTP/", version, b"\r\n"]
            for name, value in self.headers:
                if name == b"connection":
                    kept = [one for one in value.split(b",") if one.strip().lower() not in _OFFER]
                    value = b",".join(kept).strip()  # noqa: PLW2901
                if name not in _OFFER and not (name == b"connection" and not value):
                    head += [name, b": ", value, b"\r\n"]
            self.parser = _new_parser(self)
            (offset,) = upgrade.args
            return b"".join([*head, b"\r\n", data[offset:]])
        return b""

    def on_headers_complete(self) -> None:
        self._offered = self.parser.should_upgrade()
        if not self._offered:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self._offered:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._offered:
            super().on_message_complete()

    def _should_upgrade(self) -> bool:
        return False


def _new_parser(protocol: HttpProtocol) -> httptools.HttpRequestParser:
    parser = httptools.HttpRequestParser(protocol)
    # uvicorn sets this too: data behind a request with Connection: close is not an error of that request.
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser
