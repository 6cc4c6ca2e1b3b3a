"""A TCP proxy that can stall, resume and break: what stands between zap and its database, or a client and zap."""

import contextlib
import select
import socket
import threading


class StallingProxy:
    """Passes bytes on in both directions until it is told otherwise; its own kernel goes on acknowledging them.

    Args:
        host, port: where the bytes go.
    """

    def __init__(self, host, port):
        self._target = host, port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._flows = threading.Event()
        self._flows.set()
        self._over = threading.Event()
        self._pairs = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def port(self):
        return self._listening.getsockname()[1]

    def stall(self):
        """From now on nothing is passed on and nothing is closed; new connections are accepted and not served."""
        self._flows.clear()

    def resume(self):
        """Pass on what has come meanwhile, and all that follows."""
        self._flows.set()

    def break_connections(self):
        """Close every connection, as a proxy does that is started anew."""
        for pair in self._pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def close(self):
        self._over.set()
        self._flows.set()
        self._listening.close()
        self.break_connections()
        for thread in self._threads:
            thread.join(5)
        for pair in self._pairs:
            for end in pair:
                end.close()

    def _accept(self):
        while not self._over.is_set():
            try:
                if not select.select([self._listening], [], [], 0.1)[0]:
                    continue
                client, _ = self._listening.accept()
            except (OSError, ValueError):
                return
            thread = threading.Thread(target=self._serve, args=[client], daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client):
        self._flows.wait()
        try:
            server = socket.create_connection(self._target)
        except OSError:
            client.close()
            return
        self._pairs.append((client, server))
        other = {client: server, server: client}
        with contextlib.suppress(OSError, ValueError):
            while not self._over.is_set():
                ready, _, _ = select.select([*other], [], [], 0.1)
                for end in ready:
                    self._flows.wait()
                    data = end.recv(65536)
                    if not data:
                        raise OSError
                    other[end].sendall(data)
        for end in other:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
