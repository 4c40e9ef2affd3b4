"""Every GET of the API answers in the shape written down in shapes.json, no field more and none less.

The shapes say what version 1.51 of the Engine API shows: "text", "integer", "number" and "truth", joined by "|" and with
"null" where it may be; [shape] is a list, {"*": shape} a map, {"null or": shape} may be null, "name?" may be left out,
"$name" is the shape of that name. They were held against the published definition and Docker 28's own answers.
"""

import json
import time
import urllib.parse
from pathlib import Path

import pytest

from tests.compat import raw
from tests.contracts.test_registry import LocalRegistry

pytestmark = pytest.mark.root
SHAPES = json.loads((Path(__file__).parent / "shapes.json").read_text())
KINDS = {"text": str, "integer": int, "number": (int, float), "truth": bool, "null": type(None)}


def deviations(value, shape, at=""):
    """Return a line for each place where a value is not as its shape says."""
    if isinstance(shape, str):
        return _plain(value, shape, at)
    if isinstance(shape, list):
        if not isinstance(value, list):
            return [f"{at}: a list is expected, not {value!r}"]
        return [line for item in value for line in deviations(item, shape[0], f"{at}[]")]
    if "null or" in shape:
        return [] if value is None else deviations(value, shape["null or"], at)
    if not isinstance(value, dict):
        return [f"{at}: an object is expected, not {value!r}"]
    if "*" in shape:
        return [
            line
            for key, item in value.items()
            for line in deviations(item, shape["*"], f"{at}.{key}")
        ]
    return _object(value, shape, at)


def _plain(value, shape, at):
    if shape.startswith("$"):
        return deviations(value, SHAPES[shape], at)
    for word in shape.split("|"):
        if word == "anything" or (
            isinstance(value, KINDS[word]) and (word == "truth") == isinstance(value, bool)
        ):
            return []
    return [f"{at}: {shape} is expected, not {value!r}"]


def _object(value, shape, at):
    names = {name.rstrip("?"): part for name, part in shape.items()}
    lines = [f"{at}.{name} is not in the shape" for name in value if name not in names]
    lines += [
        f"{at}.{name} is missing" for name in shape if not name.endswith("?") and name not in value
    ]
    for name, item in value.items():
        if name in names:
            lines += deviations(item, names[name], f"{at}.{name}")
    return lines


FULL = {
    "Image": "busybox",
    "Entrypoint": ["env"],
    "Cmd": ["sh", "-c", "echo hi; sleep 1000"],
    "Labels": {"shape": "full"},
    "Env": ["A=b"],
    "User": "0",
    "Volumes": {"/anonymous": {}},
    "StopSignal": "TERM",
    "StopTimeout": 3,
    "Shell": ["sh"],
    "ExposedPorts": {"80/tcp": {}, "81/udp": {}},
    "Healthcheck": {
        "Test": ["CMD", "true"], "Interval": 10**8, "Timeout": 10**10, "StartPeriod": 10**9, "StartInterval": 10**8,
        "Retries": 2,
    },
    "HostConfig": {
        "NetworkMode": "shape-net",
        "PortBindings": {"80/tcp": [{"HostPort": "0"}]},
        "Binds": ["/etc:/t:ro"],
        "Mounts": [
            {"Type": "volume", "Source": "shape-volume", "Target": "/v", "VolumeOptions": {"NoCopy": True}},
            {"Type": "bind", "Source": "/etc", "Target": "/b", "ReadOnly": True, "BindOptions": {"NonRecursive": True}},
            {"Type": "tmpfs", "Target": "/m", "TmpfsOptions": {"SizeBytes": 1048576, "Mode": 511}},
        ],
        "Tmpfs": {"/n": "size=1m"},
        "Memory": 64 << 20, "MemorySwappiness": 10, "PidsLimit": 50, "Init": True, "ShmSize": 1 << 20,
        "Ulimits": [{"Name": "nofile", "Soft": 100, "Hard": 200}],
        "Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/n", "CgroupPermissions": "r"}],
        "DeviceCgroupRules": ["c 1:3 r"],
        "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2},
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "2"}},
        "Sysctls": {"net.ipv4.ip_forward": "1"},
        "ExtraHosts": ["a:1.2.3.4"], "Dns": ["1.1.1.1"], "DnsSearch": ["x"], "DnsOptions": ["ndots:1"],
        "CapAdd": ["NET_ADMIN"], "CapDrop": ["CHOWN"], "SecurityOpt": ["no-new-privileges"], "GroupAdd": ["12"],
        "Annotations": {"an": "annotation"}, "ConsoleSize": [10, 20],
    },
    "NetworkingConfig": {"EndpointsConfig": {"shape-net": {
        "Aliases": ["al"], "DriverOpts": {"a": "b"}, "MacAddress": "02:42:0a:e8:07:c8",
        "IPAMConfig": {"IPv4Address": "10.213.7.200", "LinkLocalIPs": ["169.254.3.3"]},
    }}},
}  # fmt: skip
NETWORK = {
    "Name": "shape-net", "Labels": {"a": "b"}, "EnableIPv6": True,
    "Options": {"com.docker.network.driver.mtu": "1400"},
    "IPAM": {"Config": [{
        "Subnet": "10.213.7.0/24", "Gateway": "10.213.7.1", "IPRange": "10.213.7.128/25",
        "AuxiliaryAddresses": {"h": "10.213.7.9"},
    }]},
}  # fmt: skip


class Client:
    def __init__(self, path):
        self.path = path

    def made(self, target, body):
        answer = raw.request(self.path, "POST", f"/v1.51{target}", body)
        assert answer.status < 300, answer
        return answer.json if answer.body else {}

    def got(self, target):
        answer = raw.request(self.path, "GET", f"/v1.51{target}")
        assert answer.headers["content-type"] == "application/json", answer
        return answer


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """Debian's docker-registry on a free port of the loopback address."""
    local = LocalRegistry(tmp_path_factory.mktemp("registry"))
    yield local.host
    local.stop()


@pytest.fixture(scope="module")
def world(daemon, registry):
    """One of everything: a container with every field, one that ended, a network, a volume, execs, events."""
    client = Client(daemon.paths.socket)
    since = int(time.time())
    client.made("/networks/create", NETWORK)
    client.made("/volumes/create", {"Name": "shape-volume", "Labels": {"a": "b"}})
    client.made("/containers/create?name=shape-full", FULL)
    client.made("/containers/shape-full/start", None)
    client.made("/containers/create?name=shape-plain", {"Image": "busybox", "Cmd": ["true"]})
    client.made("/containers/shape-plain/start", None)
    client.made("/containers/shape-plain/wait", None)
    ready = client.made(
        "/containers/shape-full/exec", {"Cmd": ["true"], "User": "0", "Env": ["A=1"]}
    )["Id"]
    running = client.made(
        "/containers/shape-full/exec", {"Cmd": ["sh", "-c", "touch /new; sleep 100"]}
    )["Id"]
    client.made(f"/exec/{running}/start", {"Detach": True})
    daemon.run("tag", "busybox", f"{registry}/shape/image:v1")
    pushed = daemon.out("push", "-q", f"{registry}/shape/image:v1")
    assert pushed == f"{registry}/shape/image:v1"
    (named,) = client.got(f"/images/{registry}/shape/image:v1/json").json["RepoDigests"]
    deadline = time.monotonic() + 30
    while client.got("/containers/shape-full/json").json["State"]["Health"]["Status"] != "healthy":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    yield (
        client,
        {
            "ready": ready,
            "running": running,
            "since": str(since),
            "now": str(int(time.time()) + 1),
            "registry": registry,
            "digest": named.partition("@")[2],
            "full_id": "sha256:" + "a" * 64,
        },
    )
    daemon.run("rmi", f"{registry}/shape/image:v1")
    daemon.clear()


@pytest.mark.parametrize(
    ("shape", "target"),
    [
        ("/containers/json", "/containers/json?all=1"),
        ("/containers/json", "/containers/json?all=1&size=1"),
        ("/containers/{id}/json", "/containers/shape-full/json"),
        ("/containers/{id}/json", "/containers/shape-plain/json?size=1"),
        ("/containers/{id}/top", "/containers/shape-full/top"),
        ("/containers/{id}/changes", "/containers/shape-full/changes"),
        ("/containers/{id}/changes", "/containers/shape-plain/changes"),
        ("/containers/{id}/stats", "/containers/shape-full/stats?stream=0"),
        ("/containers/{id}/stats", "/containers/shape-full/stats?stream=0&one-shot=1"),
        ("/containers/{id}/stats", "/containers/shape-plain/stats?stream=0"),
        ("/images/json", "/images/json?all=1&digests=1"),
        ("/images/{name}/json", "/images/busybox/json"),
        ("/images/{name}/history", "/images/busybox/history"),
        ("/networks", "/networks"),
        ("/networks/{id}", "/networks/shape-net"),
        ("/networks/{id}", "/networks/bridge?verbose=1"),
        ("/networks/{id}", "/networks/none"),
        ("/volumes", "/volumes"),
        ("/volumes/{name}", "/volumes/shape-volume"),
        ("/exec/{id}/json", "/exec/{ready}/json"),
        ("/exec/{id}/json", "/exec/{running}/json"),
        ("/info", "/info"),
        ("/version", "/version"),
        ("/system/df", "/system/df"),
        ("/system/df", "/system/df?type=volume"),
        ("/plugins", "/plugins"),
        ("error", "/containers/nothing/json"),
        ("error", "/images/nothing/json"),
        ("error", "/networks/nothing"),
        ("error", "/volumes/nothing"),
        ("error", "/exec/nothing/json"),
        ("error", "/swarm"),
        ("error", "/services"),
        ("error", "/tasks"),
        ("error", "/nodes"),
        ("error", "/secrets"),
        ("error", "/configs"),
        ("error", "/plugins/x/json"),
        ("/distribution/{name}/json", "/distribution/{registry}/shape/image:v1/json"),
        ("/distribution/{name}/json", "/distribution/{registry}/shape/image@{digest}/json"),
        ("error", "/distribution/{registry}/shape/image/json"),
        ("error", "/distribution/{registry}/shape/nothing/json"),
        ("error", "/distribution/BAD/json"),
        ("error", "/distribution/{full_id}/json"),
        ("error", "/images/search?term="),
        ("error", "/containers/json?filters=x"),
        ("error", "/no/such/page"),
    ],
)
def test_an_answer_has_its_shape(world, shape, target):
    client, names = world
    answer = client.got(target.format(**names))
    assert (answer.status >= 400) == (shape == "error")
    assert not deviations(answer.json, SHAPES[shape], shape)


def test_events_have_their_shape(world):
    client, names = world
    lines = client.got(f"/events?since={names['since']}&until={names['now']}").body.splitlines()
    assert len(lines) > 10
    assert not [
        line for event in lines for line in deviations(json.loads(event), SHAPES["/events"])
    ]


def test_a_push_of_what_is_not_there_is_told_in_its_stream(world):
    client, names = world
    for name, tag, words in (
        ("nothing", "", "An image does not exist locally with the tag: {0}/nothing"),
        ("nothing", "v1", "An image does not exist locally with the tag: {0}/nothing"),
        ("shape/image", "v2", "tag does not exist: {0}/shape/image:v2"),
    ):
        host = names["registry"]
        answer = raw.request(
            client.path, "POST", f"/v1.51/images/{host}/{name}/push{tag and f'?tag={tag}'}"
        )
        assert answer.status == 200
        first, error = (json.loads(line) for line in answer.body.split(b"\r\n")[:-1])
        assert first == {"status": f"The push refers to repository [{host}/{name}]"}
        message = words.format(host)
        assert error == {"errorDetail": {"message": message}, "error": message}


def test_what_comes_and_goes_by_a_registry_is_told(world, daemon):
    client, names = world
    since = f"{time.time():.9f}"
    name = f"{names['registry']}/shape/other:v1"
    for words in (
        ("tag", "busybox", name),
        ("push", name),
        ("rmi", name),
        ("pull", name),
        ("rmi", name),
    ):
        daemon.run(*words)
    filters = urllib.parse.quote(json.dumps({"type": ["image"]}))
    query = f"since={since}&until={time.time():.9f}&filters={filters}"
    events = [json.loads(line) for line in client.got(f"/events?{query}").body.splitlines()]
    image = client.got("/images/busybox/json").json["Id"]
    bare = name.removesuffix(":v1")
    # As Docker 28 told of the same commands.
    assert [(item["Action"], item["Actor"]["ID"], item["Actor"]["Attributes"]["name"]) for item in events] == [
        ("tag", image, name), ("push", name, bare), ("untag", image, image), ("pull", name, bare),
        ("untag", image, image),
    ]  # fmt: skip


def test_every_tag_of_a_repository_is_pulled(world, daemon):
    client, names = world
    name = f"{names['registry']}/shape/many"
    for tag in "ab":
        daemon.run("tag", "busybox", f"{name}:{tag}")
        daemon.run("push", f"{name}:{tag}")
        daemon.run("rmi", f"{name}:{tag}")
    said = daemon.out("pull", "-a", name).splitlines()
    assert sorted(line for line in said if "Pulling from" in line) == [
        f"{tag}: Pulling from shape/many" for tag in "ab"
    ]
    assert [line for line in said if "Status:" in line] == [
        f"Status: Downloaded newer image for {name}"
    ]
    (again,) = (line for line in daemon.out("pull", "-a", name).splitlines() if "Status:" in line)
    assert again == f"Status: Image is up to date for {name}"
    tags = client.got(f"/images/{name}:a/json").json["RepoTags"]
    assert {f"{name}:a", f"{name}:b"} <= set(tags)
    missing = daemon.run("pull", "-a", f"{name}-not", code=1).stderr
    assert f"repository {name}-not not found: " in missing
    assert "name unknown" in missing
    daemon.run("rmi", f"{name}:a", f"{name}:b")


def test_a_shape_that_is_not_kept_is_told():
    shape = {"a": "text", "b?": "integer|null", "c": ["truth"]}
    assert deviations({"a": 1, "b": True, "c": [0], "d": 1}, shape) == [
        ".d is not in the shape",
        ".a: text is expected, not 1",
        ".b: integer|null is expected, not True",
        ".c[]: truth is expected, not 0",
    ]
