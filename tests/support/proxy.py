"""A small TCP proxy on loopback that can go silent, as a network does that lost its way.

with tcp_proxy(port) as proxy:
    ...             # connect to proxy.port; everything is passed on
    proxy.freeze()  # connections stay open, new ones are taken, nothing is passed on
    proxy.reset()   # ends every connection with an RST
    proxy.thaw()    # what was held back goes on, new connections are passed on
    proxy.strand()  # connections stay open and pass nothing on ever again; new ones work
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

MOST_CONNECTIONS = 200
_CHUNK = 65536
_ABORT = struct.pack("ii", 1, 0)  # SO_LINGER with no time: close() sends an RST instead of a FIN


class Proxy:
    """Passes on what comes to `port`, unless it is frozen."""

    def __init__(self, upstream_port: int) -> None:
        self._upstream_port = upstream_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._flowing = threading.Event()
        self._flowing.set()
        self._stranded: list[threading.Event] = []
        self._closed = False
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def freeze(self) -> None:
        """Stop passing anything on; every connection stays as it is."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Pass on again, first what was held back."""
        self._flowing.set()

    def strand(self) -> None:
        """Pass nothing on for the connections that there are, which stay open; serve new ones."""
        self._flowing.clear()
        self._stranded.append(self._flowing)
        flowing = threading.Event()
        flowing.set()
        self._flowing = flowing

    def reset(self) -> None:
        """End every connection that there is, on both sides, with an RST."""
        with self._lock:
            ended, self._sockets = self._sockets, set()
        for each in ended:
            with contextlib.suppress(OSError):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
                each.shutdown(socket.SHUT_RD)  # wakes the thread that reads from it
            each.close()

    def close(self) -> None:
        """End it all."""
        self._closed = True
        self._listener.close()
        for each in (self._flowing, *self._stranded):
            each.set()
        self.reset()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with self._lock:
            self._sockets.add(client)
            crowded = len(self._sockets) > MOST_CONNECTIONS
        flowing = self._flowing
        flowing.wait()
        try:
            if crowded:
                raise ConnectionError
            upstream = socket.create_connection(("127.0.0.1", self._upstream_port), 5)
        except OSError:  # the server behind is away: so are we
            self._end(client)
            return
        with self._lock:
            self._sockets.add(upstream)
        upstream.settimeout(None)
        threading.Thread(target=self._pass_on, args=(upstream, client, flowing), daemon=True).start()
        self._pass_on(client, upstream, flowing)

    def _pass_on(self, source: socket.socket, target: socket.socket, flowing: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                flowing.wait()
                target.sendall(data)
        self._end(source)
        self._end(target)

    def _end(self, each: socket.socket) -> None:
        with self._lock:
            self._sockets.discard(each)
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()


@contextlib.contextmanager
def tcp_proxy(upstream_port: int) -> Iterator[Proxy]:
    """Run a proxy before a port of loopback until the block ends."""
    proxy = Proxy(upstream_port)
    try:
        yield proxy
    finally:
        proxy.close()
