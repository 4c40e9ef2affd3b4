"""Standard input and output joined to an engine's socket, until the engine hangs up."""

import os
import socket
import threading

from stackctl.errors import UnavailableError

_PIECE = 64 * 1024


def join(path: str) -> None:
    """Copy both ways; the end of input is passed on, and the engine may still answer. Raises UnavailableError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with sock:
        try:
            sock.connect(path)
        except OSError as error:
            raise UnavailableError(f"no engine answers at {path}: {error.strerror}") from error
        threading.Thread(target=_send, args=(sock,), daemon=True).start()
        while data := sock.recv(_PIECE):
            view = memoryview(data)
            while view:
                view = view[os.write(1, view) :]


def _send(sock: socket.socket) -> None:
    try:
        while data := os.read(0, _PIECE):
            sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # whichever side hung up: the other copying ends by itself
