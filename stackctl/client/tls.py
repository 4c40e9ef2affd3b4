"""TLS with what Docker's streams need and Python's own TLS sockets lack: one side that is done while the other goes on.

``wrap`` gives a plain socket; two threads carry its bytes through TLS and back. Shutting its writing side down sends
the other side TLS's own word for it (close_notify), and what that answers still comes.
"""

import contextlib
import select
import socket
import ssl
import threading

_PIECE = 64 * 1024


def wrap(sock: socket.socket, context: ssl.SSLContext, name: str) -> socket.socket:
    """Return a socket whose bytes go over ``sock`` in TLS; raises OSError when the two sides do not agree."""
    tunnel = _Tunnel(sock, context, name)
    tunnel.agree()
    near, far = socket.socketpair()
    for carry in (tunnel.inwards, tunnel.outwards):
        threading.Thread(target=carry, args=(far,), daemon=True).start()
    return near


class _Tunnel:
    def __init__(self, sock: socket.socket, context: ssl.SSLContext, name: str) -> None:
        self._sock = sock
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=name)
        self._lock = threading.Lock()  # around the TLS state and the order of what it sends
        self._sending = threading.Lock()

    def agree(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self._take(self._sock.recv(_PIECE))
            except OSError:
                with contextlib.suppress(OSError):
                    self._flush()  # the alert that says why
                raise
            else:
                self._flush()
                return

    def _take(self, data: bytes) -> None:
        if data:
            self._in.write(data)
        else:
            self._in.write_eof()

    def _flush(self) -> None:
        # Taken in the order in which it was made, and outside the lock: sending may block until the other side reads.
        with self._sending:
            if data := self._out.read():
                self._sock.sendall(data)

    def inwards(self, far: socket.socket) -> None:
        """Carry what the other side sends until it is done."""
        try:
            while True:
                plain = self._plain()
                if plain is None:
                    break
                if plain:
                    far.sendall(plain)
                self._flush()
        except OSError:
            pass  # either side hung up in the middle: whoever reads sees the end of the stream
        with contextlib.suppress(OSError):
            far.shutdown(socket.SHUT_WR)

    def _plain(self) -> bytes | None:
        """Return what can be read now, b"" for nothing yet, None at the end."""
        with self._lock:
            try:
                return self._tls.read(_PIECE) or None
            except ssl.SSLWantReadError:
                pass
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return None
        data = self._sock.recv(_PIECE)
        with self._lock:
            self._take(data)
        return b""

    def outwards(self, far: socket.socket) -> None:
        """Carry what is written here; then say that it is done, and hang up once nobody listens here any more."""
        with contextlib.suppress(OSError):
            while data := far.recv(_PIECE):
                with self._lock:
                    self._tls.write(data)
                self._flush()
            with self._lock, contextlib.suppress(ssl.SSLError):
                self._tls.unwrap()
            self._flush()
        poll = select.poll()
        poll.register(far.fileno(), 0)  # tells of a hang-up only
        poll.poll()
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()
        far.close()
