"""The stock docker command line against our socket."""

import functools
import http.server
import io
import json
import re
import socket
import subprocess
import tarfile
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from tests.compat import raw
from tests.conftest import busybox_rootfs

pytestmark = pytest.mark.root


def inspect(dock, name):
    return json.loads(dock.out("inspect", name))[0]


def eventually(check, *, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
    return found


# System


def test_version_and_info_are_answered(dock):
    shown = json.loads(dock.out("version", "--format", "json"))
    assert shown["Server"]["ApiVersion"] == "1.51"
    assert shown["Server"]["MinAPIVersion"] == "1.24"
    info = json.loads(dock.out("info", "--format", "json"))
    assert info["Swarm"]["LocalNodeState"] == "inactive"
    assert info["Driver"] == "overlay2"
    assert info["NCPU"] > 0
    assert "name=seccomp,profile=builtin" in info["SecurityOptions"]
    assert "Server Version" in dock.out("info")


def usage(dock):
    lines = dock.out("system", "df", "--format", "json").splitlines()
    return {row["Type"]: row for row in map(json.loads, lines)}


def test_disk_usage_is_told(dock, tmp_path):
    dock.run("builder", "prune", "-af")
    before = usage(dock)["Images"]
    size = int(json.loads(dock.out("image", "inspect", "busybox"))[0]["Size"])
    dock.run("run", "--name", "df", "busybox", "sh", "-c", "echo 12345 > /file")
    dock.run("run", "--name", "df2", "busybox", "true")
    dock.run("commit", "df", "df:1")
    (tmp_path / "Dockerfile").write_text(
        "FROM busybox\nRUN head -c 100000 /dev/zero > /z\nENV A=b\n"
    )
    dock.run("build", "-q", "-t", "df:2", str(tmp_path))
    shown = json.loads(dock.out("system", "df", "-v", "--format", "json"))
    rows = {f"{row['Repository']}:{row['Tag']}": row for row in shown["Images"]}
    # In the decimal units of the command line: what an image shares, what is its own, who uses it.
    assert (rows["df:1"]["UniqueSize"], rows["df:1"]["Containers"]) == ("6B", "0")
    assert (rows["df:2"]["UniqueSize"], rows["df:2"]["SharedSize"]) == (
        "100kB",
        f"{size / 1e6:.4g}MB",
    )
    assert (rows["busybox:latest"]["UniqueSize"], rows["busybox:latest"]["Containers"]) == (
        "0B",
        "2",
    )
    boxes = {row["Names"]: (row["Size"], row["Image"]) for row in shown["Containers"]}
    assert boxes == {"df": ("6B", "busybox"), "df2": ("0B", "busybox")}
    assert {row["CacheType"] for row in shown["BuildCache"]} == {"regular"}
    found = usage(dock)
    assert int(found["Images"]["TotalCount"]) == int(before["TotalCount"]) + 2
    assert found["Images"]["Active"] == "1"
    # By the command line's sum, what is shared could be freed as well.
    assert re.fullmatch(r"[\d.]+MB \(100%\)", found["Images"]["Reclaimable"])
    assert found["Build Cache"]["Size"] == "0B"
    # Without its image the step is what keeps the layer.
    dock.run("rmi", "df:1", "df:2")
    found = usage(dock)
    assert found["Images"]["Size"] == before["Size"]
    assert not found["Images"]["Reclaimable"].startswith("-")
    assert (found["Build Cache"]["TotalCount"], found["Build Cache"]["Size"]) == ("2", "100kB")
    assert found["Build Cache"]["Reclaimable"] == "100kB"
    assert "Total reclaimed space: 100kB" in dock.out("builder", "prune", "-af")
    assert usage(dock)["Build Cache"]["TotalCount"] == "0"


def test_swarm_commands_fail_fast(dock):
    assert "not a swarm manager" in dock.run("service", "ls", code=1).stderr


def test_nothing_is_found_by_an_unknown_name(dock):
    assert "No such container: ghost" in dock.run("logs", "ghost", code=1).stderr
    assert "No such image: ghost" in dock.run("image", "inspect", "ghost", code=1).stderr
    assert "network ghost not found" in dock.run("network", "inspect", "ghost", code=1).stderr
    assert "ghost" in dock.run("volume", "inspect", "ghost", code=1).stderr


# Images


def test_images_are_listed_tagged_and_removed(dock):
    dock.run("tag", "busybox", "other/name:v1")
    assert dock.out("images", "-q", "other/name") == dock.out("images", "-q", "busybox")
    assert "Untagged: other/name:v1" in dock.out("rmi", "other/name:v1")
    shown = json.loads(dock.out("image", "inspect", "busybox"))[0]
    assert shown["RepoTags"] == ["busybox:latest"]
    assert shown["Id"].startswith("sha256:")
    assert dock.out("history", "-q", "busybox")


def test_an_imported_image_keeps_its_changes(dock):
    dock.run(
        "import",
        "-c",
        'CMD ["echo", "changed"]',
        "-c",
        "ENV A=b",
        "-",
        "imported:1",
        stdin=busybox_rootfs(),
    )
    assert dock.out("run", "--rm", "imported:1") == "changed"
    dock.run("rmi", "imported:1")


def test_an_image_is_imported_from_a_url(dock, tmp_path):
    (tmp_path / "root.tar").write_bytes(busybox_rootfs())
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            url = f"http://127.0.0.1:{server.server_port}"
            said = dock.out("import", "-c", 'CMD ["echo", "far"]', f"{url}/root.tar", "imported:2")
            missing = dock.run("import", f"{url}/nothing.tar", code=1).stderr
        finally:
            server.shutdown()
    assert said.startswith(f"Downloading from {url}/root.tar")
    assert said.splitlines()[-1].startswith("sha256:")
    assert f"cannot download {url}/nothing.tar: 404 File not found" in missing
    gone = dock.run("import", f"{url}/root.tar", code=1).stderr
    assert "Connection refused" in gone
    assert dock.out("run", "--rm", "imported:2") == "far"
    shown = dock.out("image", "inspect", "--format", "{{.Comment}}", "imported:2")
    assert shown == f"Imported from {url}/root.tar"
    dock.run("rmi", "imported:2")


def test_the_places_of_layers_are_told(dock):
    dock.run("run", "--name", "place", "busybox", "sh", "-c", "echo x > /own")
    of_image = json.loads(dock.out("image", "inspect", "busybox"))[0]["GraphDriver"]["Data"]
    assert Path(of_image["UpperDir"], "bin/busybox").is_file()
    assert "LowerDir" not in of_image
    data = inspect(dock, "place")["GraphDriver"]["Data"]
    assert Path(data["UpperDir"], "own").read_text() == "x\n"
    assert data["LowerDir"] == of_image["UpperDir"]
    assert Path(data["MergedDir"]).is_dir()
    assert Path(data["WorkDir"]).is_dir()


def test_a_container_whose_image_is_gone_is_listed_by_its_id_and_not_committed(dock):
    dock.run("tag", "busybox", "gone:1")
    dock.run("import", "-", "gone:2", stdin=busybox_rootfs())
    dock.run("create", "--name", "of-one", "gone:1", "true")
    dock.run("create", "--name", "of-two", "gone:2", "true")
    identity = dock.out("images", "-q", "gone:2")
    dock.run("rmi", "-f", "gone:1", "gone:2")
    short = dock.out("images", "-q", "busybox")
    shown = dock.out("ps", "-a", "--filter", "name=of-", "--format", "{{.Names}} {{.Image}}")
    assert {*shown.splitlines()} == {f"of-one {short}", f"of-two {identity}"}
    refused = dock.run("commit", "of-two", code=1).stderr
    assert f"the image {identity} of container" in refused


def test_save_and_load_carry_an_image(dock):
    dock.run("tag", "busybox", "moving:1")
    dock.run("save", "-o", f"{dock.home}/moving.tar", "moving:1")
    dock.run("rmi", "moving:1")
    assert "Loaded image: moving:1" in dock.out("load", "-i", f"{dock.home}/moving.tar")
    assert dock.out("run", "--rm", "moving:1", "echo", "here") == "here"
    dock.run("rmi", "moving:1")


def test_a_container_has_its_images_volumes_too(dock):
    dock.run("import", "-c", "VOLUME /of-image", "-", "vols:1", stdin=busybox_rootfs())
    dock.run("create", "--name", "vols", "-v", "/own", "vols:1", "true")
    assert inspect(dock, "vols")["Config"]["Volumes"] == {"/of-image": {}, "/own": {}}
    dock.run("rm", "-v", "vols")
    dock.run("rmi", "vols:1")


def test_commit_makes_an_image_of_a_container(dock):
    dock.run("run", "--name", "made", "busybox", "sh", "-c", "echo content > /file")
    dock.run("commit", "-m", "words", "-c", 'CMD ["cat", "/file"]', "made", "committed:1")
    assert dock.out("run", "--rm", "committed:1") == "content"
    dock.run("rmi", "committed:1")


def test_an_image_in_use_is_not_removed(dock):
    dock.run("create", "--name", "holder", "busybox", "true")
    assert "conflict" in dock.run("rmi", "busybox", code=1).stderr


# Running


def test_run_prints_both_streams_and_passes_the_exit_code(dock):
    done = dock.run("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 7", code=7)
    assert (done.stdout, done.stderr) == ("out\n", "err\n")
    assert dock.out("ps", "-aq") == ""


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (("busybox", "no-such-program"), 127),
        (("busybox", "/etc/passwd"), 126),
        (("busybox", "/tmp"), 126),
        (("--memory", "1k", "busybox", "true"), 125),
        (("--init", "busybox", "sh", "-c", "kill -9 $$"), 137),
        (("--network", "none", "busybox", "true"), 0),
    ],
)
def test_exit_codes_are_dockers(dock, argv, code):
    dock.run("run", "--rm", *argv, code=code)


def test_input_reaches_the_container_to_its_end(dock):
    text = "".join(f"line {number}\n" for number in range(20_000))
    done = dock.run("run", "--rm", "-i", "busybox", "cat", stdin=text)
    assert done.stdout == text


def test_a_terminal_works_interactively(dock):
    seen, code = dock.typed(
        "run", "--rm", "-it", "busybox", "sh", keys=b"echo a$((40+2))b; exit 9\n", until=b"#"
    )
    assert b"a42b" in seen
    assert code == 9


def test_a_published_port_answers(dock):
    dock.run(
        "run", "-d", "--name", "web", "-p", "127.0.0.1:0:80", "busybox",
        "sh", "-c", "echo page > /tmp/index.html; httpd -f -p 80 -h /tmp",
    )  # fmt: skip
    address = dock.out("port", "web", "80")

    def page():
        try:
            return urllib.request.urlopen(f"http://{address}/", timeout=2).read()
        except OSError:
            return b""

    assert eventually(page) == b"page\n"
    assert f"{address}->80/tcp" in dock.out("ps", "--format", "{{.Ports}}")


def test_environment_user_and_directory_are_set(dock):
    argv = ("-e", "A=b", "-u", "1000:2000", "-w", "/tmp", "-h", "box", "busybox")
    assert dock.out(
        "run", "--rm", *argv, "sh", "-c", "echo $A $(id -u):$(id -g) $(pwd) $(hostname)"
    ) == ("b 1000:2000 /tmp box")


def test_ps_tells_names_and_states(dock):
    dock.run("run", "-d", "--name", "up", "--label", "tier=x", "busybox", "sleep", "100")
    dock.run("run", "--name", "down", "busybox", "sh", "-c", "exit 3", code=3)
    assert dock.out("ps", "--format", "{{.Names}}") == "up"
    assert dock.out("ps", "-a", "--filter", "exited=3", "--format", "{{.Names}}") == "down"
    assert dock.out("ps", "--filter", "label=tier=x", "-q") != ""
    assert dock.out("ps", "-a", "--filter", "name=do", "--format", "{{.Status}}").startswith(
        "Exited (3)"
    )
    assert dock.out("ps", "--format", "{{.Status}}").startswith("Up ")
    assert "invalid filter" in dock.run("ps", "--filter", "bogus=1", code=1).stderr


def test_logs_are_kept_and_selected(dock):
    dock.run(
        "run",
        "--name",
        "talk",
        "busybox",
        "sh",
        "-c",
        "for i in 1 2 3; do echo $i; done; echo e >&2",
    )
    done = dock.run("logs", "talk")
    assert (done.stdout, done.stderr) == ("1\n2\n3\n", "e\n")
    assert dock.out("logs", "-n", "1", "talk") in ("3", "")
    stamped = dock.run("logs", "-t", "talk").stdout.splitlines()[0]
    assert stamped.endswith("Z 1")
    assert dock.out("logs", "--until", "10m", "talk") == ""


def test_logs_are_followed_to_the_end(dock):
    dock.run(
        "run",
        "-d",
        "--name",
        "slow",
        "busybox",
        "sh",
        "-c",
        "for i in 1 2 3; do echo $i; sleep 0.1; done",
    )
    assert dock.out("logs", "-f", "slow") == "1\n2\n3"


def test_stop_kill_restart_pause_and_wait(dock):
    dock.run(
        "run",
        "-d",
        "--name",
        "life",
        "busybox",
        "sh",
        "-c",
        "trap 'exit 5' TERM; while :; do sleep 0.05; done",
    )
    dock.run("pause", "life")
    assert inspect(dock, "life")["State"]["Status"] == "paused"
    dock.run("unpause", "life")
    dock.run("stop", "life")
    assert inspect(dock, "life")["State"]["ExitCode"] == 5
    dock.run("start", "life")
    dock.run("restart", "-t", "3", "life")
    words, environ = dock.command("wait", "life")
    waiting = subprocess.Popen(words, env=environ, stdout=subprocess.PIPE)
    time.sleep(0.3)
    dock.run("kill", "life")
    assert waiting.communicate(timeout=60)[0] == b"137\n"
    assert "is not running" in dock.run("kill", "life", code=1).stderr


def test_rename_update_and_top(dock):
    dock.run("run", "-d", "--name", "old", "busybox", "sleep", "100")
    dock.run("rename", "old", "new")
    dock.run("update", "--memory", "64m", "--memory-swap", "64m", "new")
    assert inspect(dock, "new")["HostConfig"]["Memory"] == 64 * 2**20
    assert "sleep 100" in dock.out("top", "new")


def test_attach_sees_the_output_and_the_exit_code(dock):
    dock.run(
        "run", "-d", "--name", "att", "-i", "busybox", "sh", "-c", "read x; echo got $x; exit 4"
    )
    done = dock.run("attach", "att", stdin="word\n", code=4)
    assert done.stdout == "got word\n"


def test_detach_keys_leave_a_terminal(dock):
    seen, _ = dock.typed(
        "run", "-it", "--name", "left", "busybox", "sh", keys=b"\x10\x11", until=b"#"
    )
    assert inspect(dock, "left")["State"]["Running"], seen


# Exec


def test_exec_passes_streams_and_exit_codes(dock):
    dock.run("run", "-d", "--name", "box", "busybox", "sleep", "100")
    done = dock.run("exec", "box", "sh", "-c", "echo out; echo err >&2; exit 6", code=6)
    assert (done.stdout, done.stderr) == ("out\n", "err\n")
    assert dock.run("exec", "-i", "box", "cat", stdin="all of it").stdout == "all of it"
    assert dock.out(
        "exec",
        "-e",
        "X=y",
        "-w",
        "/tmp",
        "-u",
        "user",
        "box",
        "sh",
        "-c",
        "echo $X $(pwd) $(id -un)",
    ) == ("y /tmp user")
    dock.run("exec", "box", "no-such-program", code=127)
    dock.run("exec", "-d", "box", "touch", "/made")
    eventually(lambda: dock.run("exec", "box", "test", "-e", "/made", code=None).returncode == 0)


def test_exec_gives_a_terminal(dock):
    dock.run("run", "-d", "--name", "box", "busybox", "sleep", "100")
    seen, code = dock.typed("exec", "-it", "box", "sh", keys=b"tty; exit 3\n", until=b"#")
    assert b"/dev/pts/" in seen
    assert code == 3


def test_exec_in_a_stopped_container_is_refused(dock):
    dock.run("run", "--name", "over", "busybox", "true")
    assert "is not running" in dock.run("exec", "over", "true", code=1).stderr


# Files


def test_cp_carries_files_both_ways(dock, tmp_path):
    dock.run("create", "--name", "files", "busybox", "true")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a").write_text("A")
    dock.run("cp", f"{tmp_path}/folder", "files:/tmp/copy")
    dock.run("cp", "files:/tmp/copy", f"{tmp_path}/back")
    assert (tmp_path / "back" / "a").read_text() == "A"
    assert (
        "Could not find the file /none"
        in dock.run("cp", "files:/none", str(tmp_path), code=1).stderr
    )
    assert "A /tmp/copy" in dock.out("diff", "files")


def test_export_gives_the_whole_root(dock):
    dock.run("run", "--name", "exp", "busybox", "sh", "-c", "echo x > /marker")
    dock.run("export", "-o", f"{dock.home}/exp.tar", "exp")
    with tarfile.open(f"{dock.home}/exp.tar") as tar:
        names = tar.getnames()
    # As Docker names them, and with the empty files that mounts cover.
    wanted = {"marker", "bin/busybox", "etc/passwd", "etc/hosts", ".dockerenv", "proc", "sys"}
    assert wanted <= {*names}
    assert not [name for name in names if name.startswith(("./", "proc/", "sys/"))]
    assert "dockerenv" not in dock.out("diff", "exp")


# Volumes and networks


def test_volumes_live_beyond_containers(dock):
    dock.run("volume", "create", "--label", "a=b", "kept")
    dock.run("run", "--rm", "-v", "kept:/data", "busybox", "sh", "-c", "echo stays > /data/file")
    assert dock.out("run", "--rm", "-v", "kept:/data:ro", "busybox", "cat", "/data/file") == "stays"
    assert "kept" in dock.out("volume", "ls", "--filter", "label=a=b", "-q")
    dock.run("create", "--name", "user", "-v", "kept:/data", "busybox", "true")
    assert "volume is in use" in dock.run("volume", "rm", "kept", code=1).stderr
    dock.run("rm", "user")
    assert dock.out("volume", "rm", "kept") == "kept"


def test_binds_and_tmpfs_are_mounted(dock, tmp_path):
    (tmp_path / "file").write_text("from the host")
    argv = ("-v", f"{tmp_path}:/host:ro", "--tmpfs", "/scratch:size=1m", "busybox")
    shown = dock.out(
        "run", "--rm", *argv, "sh", "-c", "cat /host/file; echo; df /scratch | tail -1"
    )
    assert shown.startswith("from the host")
    assert "1024" in shown
    dock.run("run", "--rm", *argv, "touch", "/host/x", code=1)


def test_networks_connect_by_name(dock):
    dock.run("network", "create", "--label", "x=y", "net")
    dock.run(
        "run",
        "-d",
        "--name",
        "server",
        "--network",
        "net",
        "--network-alias",
        "alias",
        "busybox",
        "sleep",
        "100",
    )
    assert "1 packets received" in dock.out(
        "run", "--rm", "--network", "net", "busybox", "ping", "-c", "1", "server"
    )
    assert "1 packets received" in dock.out(
        "run", "--rm", "--network", "net", "busybox", "ping", "-c", "1", "alias"
    )
    shown = json.loads(dock.out("network", "inspect", "net"))[0]
    assert [item["Name"] for item in shown["Containers"].values()] == ["server"]
    dock.run("network", "disconnect", "net", "server")
    dock.run("network", "connect", "--alias", "again", "net", "server")
    assert "again" in inspect(dock, "server")["NetworkSettings"]["Networks"]["net"]["Aliases"]
    assert "active endpoints" in dock.run("network", "rm", "net", code=1).stderr
    dock.run("rm", "-f", "server")
    assert dock.out("network", "rm", "net") == "net"


def test_predefined_networks_are_there(dock):
    assert set(dock.out("network", "ls", "--format", "{{.Name}}").split()) == {
        "bridge",
        "host",
        "none",
    }


# Events, stats, build


def test_events_tell_a_containers_life(dock):
    since = time.time()
    dock.run("run", "--name", "seen", "--label", "k=v", "busybox", "true")
    lines = dock.out(
        "events", "--since", f"{since:.3f}", "--until", f"{time.time() + 0.5:.3f}", "--filter", "container=seen",
        "--format", "{{json .}}",
    )  # fmt: skip
    events = [json.loads(line) for line in lines.splitlines()]
    actions = [event["Action"] for event in events]
    assert [word for word in ("create", "attach", "start", "die") if word in actions] == [
        "create",
        "attach",
        "start",
        "die",
    ]
    die = next(event for event in events if event["Action"] == "die")
    assert die["Actor"]["Attributes"]["exitCode"] == "0"
    assert die["Actor"]["Attributes"]["k"] == "v"


def test_stats_are_shown(dock):
    dock.run("run", "-d", "--name", "busy", "--memory", "64m", "busybox", "sleep", "100")
    shown = json.loads(dock.out("stats", "--no-stream", "--format", "json", "busy"))
    assert shown["Name"] == "busy"
    assert shown["MemUsage"].endswith("/ 64MiB")
    assert int(shown["PIDs"]) >= 1


def test_health_shows_in_ps(dock):
    dock.run(
        "run",
        "-d",
        "--name",
        "well",
        "--health-cmd",
        "true",
        "--health-interval",
        "100ms",
        "busybox",
        "sleep",
        "100",
    )
    eventually(lambda: "(healthy)" in dock.out("ps", "--format", "{{.Status}}"))


def test_docker_without_its_build_plugin_builds_here_by_itself(dock, tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN echo built > /made\n")
    argv, environ = dock.command("build", "-t", "by-itself", ".")
    environ = {name: value for name, value in environ.items() if name != "DOCKER_BUILDKIT"}
    done = subprocess.run(
        argv, env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Successfully tagged by-itself:latest" in done.stdout
    assert dock.out("run", "--rm", "--network", "none", "by-itself", "cat", "/made") == "built"
    dock.run("rmi", "by-itself")


def test_who_speaks_buildkit_is_told_what_to_do_instead(dock):
    call = (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        b"\0\0\0\x04\0\0\0\0\0"  # SETTINGS
        b"\0\0\x01\x01\x05\0\0\0\x01\x82"  # HEADERS of stream 1
    )
    head = b"POST /grpc HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    with raw.connect(dock.paths.socket) as sock:
        sock.sendall(head)
        said = b""
        while b"\r\n\r\n" not in said:
            said += sock.recv(4096)
        assert said.startswith(b"HTTP/1.1 101 ")
        sock.sendall(call)
        while b"DOCKER_BUILDKIT=0" not in said:
            more = sock.recv(4096)
            assert more, said
            said += more
    plain = raw.request(dock.paths.socket, "POST", "/session")
    assert plain.status == 501
    assert "DOCKER_BUILDKIT=0" in plain.json["message"]


def test_build_makes_an_image(dock, tmp_path):
    (tmp_path / "Dockerfile").write_text(
        'FROM busybox\nARG WORD=x\nRUN echo $WORD > /word\nCOPY file /copied\nCMD ["cat", "/word", "/copied"]\n'
    )
    (tmp_path / "file").write_text("content\n")
    done = dock.run(
        "build", "-t", "built:1", "--build-arg", "WORD=given", ".", cwd=tmp_path, timeout=120
    )
    assert "Successfully tagged built:1" in done.stdout
    assert dock.out("run", "--rm", "built:1") == "given\ncontent"
    again = dock.run("build", "-t", "built:1", "--build-arg", "WORD=given", ".", cwd=tmp_path)
    assert "Using cache" in again.stdout
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN exit 3\n")
    assert "returned a non-zero code: 3" in dock.run("build", ".", cwd=tmp_path, code=3).stderr
    dock.run("rmi", "built:1")


def test_system_prune_leaves_what_runs(dock):
    dock.run("run", "-d", "--name", "stays", "busybox", "sleep", "100")
    dock.run("run", "--name", "goes", "busybox", "true")
    dock.run("system", "prune", "-f")
    assert dock.out("ps", "-a", "--format", "{{.Names}}") == "stays"


def test_containers_survive_the_death_of_the_daemon(dock):
    dock.run(
        "run", "-d", "--name", "tough", "busybox", "sh", "-c", "while :; do date; sleep 0.1; done"
    )
    before = inspect(dock, "tough")["State"]["Pid"]
    dock.kill()
    dock.start()
    after = inspect(dock, "tough")["State"]
    assert (after["Status"], after["Pid"]) == ("running", before)
    assert dock.out("exec", "tough", "echo", "alive") == "alive"
    dock.run("stop", "-t", "1", "tough")


def test_a_tar_with_an_escape_stays_inside(dock):
    dock.run("create", "--name", "jail", "busybox", "true")
    evil = io.BytesIO()
    with tarfile.open(fileobj=evil, mode="w") as tar:
        member = tarfile.TarInfo("../../../../../../tmp/stackctl-escaped")
        member.size = 1
        tar.addfile(member, io.BytesIO(b"x"))
    dock.run("cp", "-", "jail:/tmp", stdin=evil.getvalue(), code=None)
    assert not Path("/tmp/stackctl-escaped").exists()


def test_the_syslog_driver_hands_on_every_line_and_logs_still_work(dock, tmp_path):
    path = tmp_path / "syslog"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(path))
        receiver.settimeout(30)
        dock.run(
            "run", "-d", "--name", "spoken", "--log-driver", "syslog", "--log-opt", f"syslog-address=unixgram://{path}",
            "--log-opt", "tag={{.Name}}", "--log-opt", "syslog-facility=local0",
            "busybox", "sh", "-c", "for i in $(seq 2000); do echo line $i; done; echo last >&2",
        )  # fmt: skip
        seen = [receiver.recv(4096) for _ in range(2001)]
    assert max(seen, key=lambda text: b"last" in text).startswith(b"<131>")
    numbered = [text.rpartition(b" ")[2] for text in seen if b"last" not in text]
    assert numbered == [b"%d" % number for number in range(1, 2001)]
    assert all(b" spoken[" in text for text in seen)
    assert len(dock.run("logs", "spoken").stdout.splitlines()) == 2000
    refused = dock.run(
        "run", "--log-driver", "syslog", "--log-opt", "syslog-format=x", "busybox", code=125
    )
    assert "Invalid syslog format" in refused.stderr
