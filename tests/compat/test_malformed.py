"""What no client should send: every answer is an error of the client's, and the daemon goes on as before.

The session's daemon fails the tests at its end when there is a traceback in its log.
"""

import io
import os
import random
import tarfile
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from stackctl.daemon import routes
from tests.compat import raw
from tests.conftest import busybox_rootfs

pytestmark = pytest.mark.root
NAME = "malformed"


@pytest.fixture(scope="module")
def sock(daemon):
    """The socket of a daemon with one container that runs and one that does not."""
    daemon.run("run", "-d", "--name", NAME, "busybox", "sleep", "1000")
    daemon.run("create", "--name", f"{NAME}-2", "busybox", "true")
    yield daemon.paths.socket
    # What was made or removed on the way is put right for the other modules.
    daemon.clear()
    daemon.run("image", "prune", "-af")
    daemon.run("import", "-", "busybox:latest", stdin=busybox_rootfs())


@pytest.fixture
def unharmed(daemon, sock):
    """Nothing may be left open or running in the daemon once the test's connections are closed."""
    before = footprint(daemon)
    yield sock
    deadline = time.monotonic() + 30
    while (now := footprint(daemon)) > before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert now <= before, f"descriptors and tasks: {before} before, {now} after"
    assert raw.request(sock, "GET", "/_ping").body == b"OK"
    assert daemon.out("exec", NAME, "echo", "alive") == "alive"


def footprint(daemon):
    """Return how many descriptors and tasks the daemon has, but for those of this question."""
    descriptors = len(os.listdir(f"/proc/{daemon.process.pid}/fd"))
    tasks = raw.request(daemon.paths.socket, "GET", "/info").json["NGoroutines"]
    return descriptors + 2, tasks + 2


CREATE = b"POST /v1.51/containers/create HTTP/1.1\r\nHost: x\r\n"
JSON = b"Content-Type: application/json\r\n"
BODY = b'{"Image":"busybox"}'


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n\r\n",
        b"\0\1\2\3 garbage\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        b"GET\r\n\r\n",
        b"GET /_ping\r\n\r\n",
        b"GET /_ping HTTP/9.9\r\nHost: x\r\n\r\n",
        b"GET  /_ping  HTTP/1.1\r\n\r\n",
        b"G\xffT /_ping HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /_ping HTTP/1.1\r\nHost x\r\n\r\n",
        b"GET /_ping HTTP/1.1\r\n: novalue\r\n\r\n",
        b"GET /_ping HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n",
        b"GET /_ping HTTP/1.1\r\nHost: x\r\nX: " + b"a" * (3 << 20) + b"\r\n\r\n",
        b"GET /" + b"a" * (3 << 20) + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        CREATE + JSON + b"Content-Length: -5\r\n\r\n" + BODY,
        CREATE + JSON + b"Content-Length: 1e3\r\n\r\n" + BODY,
        CREATE + JSON + b"Content-Length: 99999999999999999999\r\n\r\n" + BODY,
        # Smuggling: two lengths, or a length beside chunks.
        CREATE + JSON + b"Content-Length: 5\r\nContent-Length: 19\r\n\r\n" + BODY,
        CREATE + JSON + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        CREATE + JSON + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        CREATE + JSON + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        # Chunks that are none.
        CREATE + JSON + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + BODY + b"\r\n0\r\n\r\n",
        CREATE + JSON + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n" + BODY + b"\r\n0\r\n\r\n",
        CREATE + JSON + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffffff\r\nx",
        CREATE + JSON + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{\"Ima",
        CREATE + JSON + b"Transfer-Encoding: chunked\r\n\r\n3\r\n{}XXXX\r\n0\r\n\r\n",
        CREATE + JSON + b"Content-Length: 500\r\n\r\n" + BODY,
        CREATE + JSON + b"Content-Encoding: gzip\r\nContent-Length: 19\r\n\r\n" + BODY,
        CREATE + JSON + b"Expect: 200-maybe\r\nContent-Length: 19\r\n\r\n" + BODY,
        b"POST /v1.51/containers/malformed/attach HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT engine:80 HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)  # fmt: skip
def test_what_is_no_request_is_refused_or_cut(unharmed, data):
    answer = raw.exchange(unharmed, data, half_close=True)
    assert answer.status in (0, 101, 200, 400, 404, 411, 413, 414, 417, 431, 501, 505), answer


@pytest.mark.parametrize(
    "target",
    [
        "/containers/../../etc/passwd/json", "/containers/%2e%2e%2f%2e%2e/json", "/images/../../../x/json",
        "/containers/%00/json", "/containers/a%00b/json", "/containers/%ff%fe/json", "/containers/%ed%a0%80/json",
        "/containers/malformed%0d%0aX-Injected:%20yes/json", "//containers/json//", "/v1.51", "/v1.51/",
        "/v99.1/info", "/v0.0/info", "/v1.51.1/info", "/v1.999999999999999999999999/info", "/v1.51/v1.51/info",
        "/containers/json?limit=99999999999999999999999999", "/containers/json?limit=%00",
        "/containers/json?filters=%00", "/containers/json?filters=%7B%22name%22%3A%5B%22(%22%5D%7D",
        "/containers/json?filters=%7B%22name%22%3A%5B%22(a%2B)%2B%24%22%5D%7D", "/containers/json?filters=%ff",
        "/containers/json?filters=" + "%5B" * 20000, "/events?since=1e999&until=1", "/events?since=-1&until=%ff",
        "/events?filters=%7B%22container%22%3A5%7D", "/containers/malformed/archive?path=%00",
        "/containers/malformed/archive?path=%ff%fe", "/containers/malformed/archive?path=" + "../" * 3000,
        "/containers/malformed/archive?path=/proc/self/root/../../etc/shadow%00", "/images/get?names=%00",
        "/containers/malformed/logs?stdout=1&tail=-9999999999999999999999", "/containers/malformed/logs?stdout=1&since=%ff",
        "/containers/malformed/logs?stdout=1&since=99999999999999999999", "/containers/malformed/top?ps_args=%00",
        "/containers/malformed/top?ps_args=-o%20pid%3B%20reboot", "/containers/malformed/top?ps_args=%22",
        "/images/json?filters=%7B%22until%22%3A%5B%22NaN%22%5D%7D", "/system/df?type=%00", "/exec/%00/json",
        "/images/search?term=%00", "/distribution/%00/json", "/distribution/..%2f..%2fetc/json", "/volumes/%2e%2e",
        "/networks/%2e%2e?scope=%00", "/session", "/grpc", "/swarm/../info",
    ],
)  # fmt: skip
def test_paths_and_queries_that_lead_nowhere_are_client_errors(unharmed, target):
    answer = raw.request(unharmed, "GET", target, timeout=10)
    assert answer.status != 500, answer
    assert 200 <= answer.status < 600
    assert b"root:" not in answer.body
    assert "x-injected" not in answer.headers


@pytest.mark.parametrize(
    ("target", "body"),
    [
        ("/containers/create", b'{"Image":"busybox","Labels":{"x":"' + b"a" * (17 << 20) + b'"}}'),
        ("/containers/create", b"[" * 200_000),
        ("/containers/create", b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
        ("/containers/create", b'{"Image": "busybox", "Env": [' + b'"A=1",' * 400_000 + b'"B=2"]}'),
        ("/containers/create", b'{"Image":"\xff\xfe"}'),
        ("/containers/create", b'{"Image":"busybox","HostConfig":{"Memory":1e400}}'),
        ("/containers/create", b'{"Image":"busybox","HostConfig":{"Memory":' + b"9" * 100_000 + b"}}"),
        ("/containers/create", b'{"Image":"busybox","Image":"busybox","HostConfig":NaN}'),
        ("/networks/create", b'{"Name":"x","IPAM":{"Config":[{"Subnet":"0.0.0.0/0"}]}}'),
        ("/networks/create", b'{"Name":"x","IPAM":{"Config":[{"Subnet":"::/0"}]}}'),
        ("/networks/create", b'{"Name":"x\\u0000y"}'),
        ("/networks/create", b'{"Name":"' + b"x" * 100_000 + b'"}'),
        ("/volumes/create", b'{"Name":"../../etc"}'),
        ("/volumes/create", b'{"Name":"' + b"x" * 100_000 + b'"}'),
        ("/volumes/create", b'{"DriverOpts":{"type":"bind","o":"bind","device":"/proc/nothing"}}'),
        ("/containers/malformed/exec", b'{"Cmd":["' + b"x" * (5 << 20) + b'"]}'),
        ("/containers/malformed/update", b'{"Memory":"lots"}'),
        ("/containers/malformed/rename?name=%00", b""),
        ("/containers/malformed/resize?h=-1&w=99999999999", b""),
        ("/containers/malformed/kill?signal=%C2%B2", b""),
        ("/commit?container=malformed&repo=%00", b"{}"),
        ("/auth", b'{"username":5}'),
        ("/build?remote=%00", b""),
        ("/build?dockerfile=../../etc/passwd", bytes(1024)),
        ("/images/create?fromSrc=-&repo=%00", b""),
    ],
)  # fmt: skip
def test_bodies_of_any_size_and_kind_are_answered(unharmed, target, body):
    answer = raw.request(unharmed, "POST", target, body, timeout=60)
    assert answer.status not in (0, 500), answer
    assert b"Traceback" not in answer.body


def escaping_tar():
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, link in (
            ("../../../../tmp/stackctl-escaped", ""),
            ("/../../../tmp/stackctl-escaped", ""),
            ("link", "../../../../../../tmp"),
            ("link/stackctl-escaped", ""),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = (
                (tarfile.SYMTYPE, link) if link else (tarfile.REGTYPE, "")
            )
            tar.addfile(member)
    return out.getvalue()


@pytest.mark.parametrize("target", [
    "PUT /containers/malformed/archive?path=/tmp", "PUT /containers/malformed-2/archive?path=/tmp",
    "POST /images/load", "POST /images/create?fromSrc=-&repo=half", "POST /build?t=half",
])  # fmt: skip
def test_a_broken_archive_is_refused_and_none_leads_out(unharmed, daemon, target):
    escaped = Path("/tmp/stackctl-escaped")
    method, path = target.split()
    whole = escaping_tar()
    for data in (
        b"", b"x", bytes(512), b"\x1f\x8b" + bytes(30), b"\x28\xb5\x2f\xfd" + bytes(9), b"BZh9junk", b"\xfd7zXZ\0junk",
        whole, whole[:700], whole[:1000] + b"\xff" * 600, random.Random(7).randbytes(5000),
    ):  # fmt: skip
        answer = raw.request(
            unharmed, method, path, data, headers={"Content-Type": "application/x-tar"}
        )
        assert answer.status not in (0, 500), (data[:20], answer)
    # Cut in the middle of the body: the client goes away.
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(whole)}\r\n\r\n".encode()
    raw.exchange(unharmed, head + whole[:800], half_close=True)
    assert not escaped.exists()
    daemon.run("image", "rm", "-f", "half", code=None)


def crowd(path, count):
    """Open that many connections and leave them; a full queue is waited for."""
    found = []
    for _ in range(count):
        found.append(raw.connect(path, 60))
    return found


def test_hundreds_of_idle_and_of_slow_connections_keep_nobody_waiting(unharmed):
    socks = crowd(unharmed, 800)
    try:
        for sock in socks[:400]:
            sock.sendall(b"GET /containers/json HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        for _ in range(3):
            for sock in socks[:400]:
                sock.sendall(b"a")
            assert raw.request(unharmed, "GET", "/_ping").body == b"OK"
    finally:
        for sock in socks:
            sock.close()


@pytest.mark.long
@pytest.mark.timeout(600)
def test_ten_thousand_connections_are_held_and_let_go(unharmed):
    socks = crowd(unharmed, 10_000)
    try:
        assert raw.request(unharmed, "GET", "/_ping", timeout=60).body == b"OK"
        for sock in socks[::10]:
            sock.sendall(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n")
        for sock in socks[::10]:
            assert b"200 OK" in sock.recv(4096)
    finally:
        for sock in socks:
            sock.close()


# Requests as a generator makes them of the table of routes.

SKIPPED = {"/_stackctl/v1/shutdown", "/events"}
ROUTES = [
    (method, path)
    for method, path, _ in routes.TABLE
    if path not in SKIPPED and not path.endswith(("/wait", "/attach/ws"))
]
NAMES = st.sampled_from(
    [
        NAME,
        f"{NAME}-2",
        "busybox",
        "bridge",
        "nothing",
        "..",
        "%00",
        "%2e%2e%2fx",
        "a%20b",
        "é",
        "x" * 300,
    ]
)
TEXTS = st.one_of(
    st.sampled_from(["", "0", "1", "true", "-1", "x", "%00", "%ff", "[]", "{}", "99999999999999999999", "/", "/tmp"]),
    st.text(st.characters(codec="ascii", categories=["L", "N"]), max_size=6),
)  # fmt: skip
KEYS = st.sampled_from(
    ["all", "limit", "size", "filters", "name", "t", "signal", "h", "w", "condition", "path", "force", "v", "link", "stdout", "stderr", "tail", "since", "until", "timestamps", "stream", "one-shot", "fromImage", "fromSrc", "repo", "tag", "noprune", "digests", "scope", "verbose", "type", "container", "comment", "author", "changes", "pause", "q", "nocache", "rm", "buildargs", "labels", "cachefrom", "target", "platform", "version", "ps_args", "detachKeys", "copyUIDGID"]
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**65), 2**65) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(
        ["Image", "Cmd", "Env", "HostConfig", "Name", "Container", "Config", "Memory", "Labels", "Options", "IPAM", "Driver", "Subnet", "Binds", "x"]
    ), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


@st.composite
def requests(draw):
    method, path = draw(st.sampled_from(ROUTES))
    while "{" in path:
        start, end = path.index("{"), path.index("}")
        path = path[:start] + draw(NAMES) + path[end + 1 :]
    query = "&".join(f"{key}={value}" for key, value in draw(
        st.dictionaries(KEYS, TEXTS, max_size=3)
    ).items())  # fmt: skip
    body = draw(st.one_of(st.none(), VALUES, st.binary(max_size=40)))
    return method, f"{path}?{query}", body


def answered(sock, made):
    method, target, body = made
    data = body if body is None or isinstance(body, (bytes, dict, list)) else str(body).encode()
    answer = raw.request(sock, method, target, data, timeout=3)
    assert answer.status != 500 or b"dial" in answer.body, (made, answer)
    if answer.status == 0:
        # Streams that wait are cut by the time; everything else must have said something.
        assert target.split("?")[0].endswith(
            ("/stats", "/logs", "/attach", "/start", "/stop", "/restart")
        ), made


def generated(examples):
    return settings(
        max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None,
        phases=[Phase.generate, Phase.shrink], derandomize=True,
    )  # fmt: skip


@generated(150)
@given(made=requests())
def test_generated_requests_are_never_the_daemon_s_fault(sock, made):
    answered(sock, made)


@pytest.mark.long
@pytest.mark.timeout(1200)
@generated(6000)
@given(made=requests())
def test_many_generated_requests_are_never_the_daemon_s_fault(sock, made):
    answered(sock, made)
