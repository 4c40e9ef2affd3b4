"""A small reaper of our own, in Ryuk's place: Ryuk's image can't be had where there is no registry.

It does what testcontainers asks of Ryuk, with the same calls: it listens on port 8080, takes lines of filters
("label=key=value&label=…"), answers each with ACK, and once the last connection has been closed for a moment removes
the containers, networks, volumes and images that bear those labels, over the mounted docker socket; then it ends.
Only the standard library, and little of it: the test packs what it imports into an image.
"""

import contextlib
import json
import os
import select
import socket
import time
import urllib.parse

ENGINE = "/var/run/docker.sock"
PORT = 8080


def call(method: str, target: str) -> object:
    """Ask the engine; None for an answer without JSON."""
    with socket.socket(socket.AF_UNIX) as engine:
        engine.connect(ENGINE)
        engine.sendall(f"{method} {target} HTTP/1.0\r\nHost: engine\r\n\r\n".encode())
        data = b""
        while piece := engine.recv(65536):
            data += piece
    body = data.partition(b"\r\n\r\n")[2]
    try:
        return json.loads(body)
    except ValueError:
        return None


def items(answer: object, key: str) -> list[str]:
    if isinstance(answer, dict):
        answer = answer.get("Volumes") or (answer.get("message") and [])
    return [item[key] for item in answer or []]


def reap(line: str) -> None:
    """Remove everything that bears all labels of one line."""
    labels = [value for name, value in urllib.parse.parse_qsl(line) if name == "label"]
    if not labels:
        return
    filters = urllib.parse.quote(json.dumps({"label": labels}))
    for kind, key, options in (
        ("containers", "Id", "?force=1&v=1"),
        ("networks", "Id", ""),
        ("volumes", "Name", "?force=1"),
        ("images", "Id", "?force=1"),
    ):
        path = {"containers": "containers/json?all=1&", "images": "images/json?"}.get(
            kind, f"{kind}?"
        )
        for name in items(call("GET", f"/{path}filters={filters}"), key):
            call("DELETE", f"/{kind}/{name}{options}")
            print(f"removed {kind} {name}", flush=True)


def serve(patience: float) -> None:
    """Take filters until nobody has been connected for so many seconds."""
    listener = socket.create_server(("", PORT))
    print(f"{time.strftime('%Y/%m/%d %H:%M:%S')} Started!", flush=True)
    clients: dict[socket.socket, bytes] = {}
    lines: set[str] = set()
    deadline = time.monotonic() + 60
    while clients or time.monotonic() < deadline:
        for ready in select.select([listener, *clients], [], [], 0.1)[0]:
            if ready is listener:
                clients[listener.accept()[0]] = b""
                continue
            try:
                data = ready.recv(4096)
            except ConnectionError:
                data = b""  # a killed client has not read its ACK
            clients[ready] += data
            *whole, clients[ready] = clients[ready].split(b"\n")
            lines.update(line.decode().strip() for line in whole)
            if whole:
                with contextlib.suppress(OSError):
                    ready.sendall(b"ACK\n" * len(whole))
            if not data:
                del clients[ready]
                ready.close()
                deadline = time.monotonic() + patience
    for line in sorted(lines):
        reap(line)


if __name__ == "__main__":
    serve(float(os.environ.get("RYUK_RECONNECTION_TIMEOUT", "10s").rstrip("s")))
