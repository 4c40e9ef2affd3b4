"""Hot reload, as a developer sees it: files saved on the host, read in real containers."""

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from tests.conftest import one_engine
from tests.peers import DockerEngine, PodmanEngine

pytestmark = pytest.mark.root

ROOT = Path(__file__).resolve().parents[2]


class Watch:
    """A ``stackctl watch --format json`` that runs; what it says, an object a line."""

    def __init__(self, engine, folder: Path, *argv: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "stackctl", *argv],
            cwd=folder,
            env={**engine.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said: list[dict] = []
        self.noise: list[str] = []
        self._lines: queue.SimpleQueue = queue.SimpleQueue()
        self._threads = [threading.Thread(target=act) for act in (self._read, self._hear)]
        for thread in self._threads:
            thread.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self._lines.put(json.loads(line))
        self._lines.put(None)

    def _hear(self) -> None:
        self.noise.extend(self.process.stderr)

    def wait(self, event: str, timeout: float = 60, **fields) -> dict:
        """Return the next event of that kind (and with those fields); what comes before it is kept in ``said``."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            try:
                said = self._lines.get(timeout=deadline - time.monotonic())
            except queue.Empty:
                break
            if said is None:
                break
            self.said.append(said)
            if said["event"] == event and all(said.get(k) == v for k, v in fields.items()):
                return said
        pytest.fail(f"no {event} {fields}: {self.said[-5:]}\n{''.join(self.noise)[-3000:]}")

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        code = self.process.wait(timeout=60)
        for thread in self._threads:
            thread.join()
        for stream in (self.process.stdout, self.process.stderr):
            stream.close()
        return code


class Stack:
    def __init__(self, engine, folder: Path) -> None:
        self.engine = engine
        self.folder = folder
        self.watches: list[Watch] = []

    def __call__(self, *argv, **options):
        return self.engine.stackctl(*argv, cwd=self.folder, **options)

    def write(self, services: str) -> None:
        (self.folder / "stack.yaml").write_text(f"name: w\nservices:\n{services}")

    def watch(self, *argv: str) -> Watch:
        watch = Watch(self.engine, self.folder, "watch", "--format", "json", *argv)
        self.watches.append(watch)
        watch.wait("watching")
        return watch

    def pid(self, service: str, number: int = 1) -> int:
        return json.loads(self.engine.docker("inspect", f"w-{service}-{number}").stdout)[0][
            "State"
        ]["Pid"]

    def seen(self, path: str, service: str = "app") -> Path:
        """Return where the container's file can be read from the host."""
        return Path(f"/proc/{self.pid(service)}/root{path}")


@pytest.fixture
def stack(engine, tmp_path):
    engine.import_busybox()
    made = Stack(engine, tmp_path)
    yield made
    for watch in made.watches:
        watch.stop()
    engine.stackctl("-p", "w", "down", "-v", "-t", "0", cwd=tmp_path)


def until(check, timeout: float = 60):
    deadline = time.monotonic() + timeout
    while True:
        try:
            if check():
                return
        except OSError:
            pass
        if time.monotonic() > deadline:
            pytest.fail("it did not become so")
        time.sleep(0.02)


APP = """
  app:
    image: busybox
    command: [sleep, "1000"]
    stop_signal: SIGKILL
    develop:
      watch:
        - {action: sync, path: ./src, target: /app, ignore: ["*.log"]}
"""


def test_what_is_saved_deleted_renamed_and_linked_is_so_in_the_container(stack):
    src = stack.folder / "src"
    (src / "old").mkdir(parents=True)
    (src / "old" / "x").write_text("x")
    (src / "kept").write_text("k")
    stack.write(APP)
    watch = stack.watch()
    app = stack.seen("/app")

    (src / "a.py").write_text("one")
    said = watch.wait("synced")
    assert (said["service"], said["container"], said["written"]) == ("app", "w-app-1", 1)
    assert said["paths"] == ["/app/a.py"]
    assert said["seconds"] > 0
    assert (app / "a.py").read_text() == "one"

    (src / "new").write_text("two")
    (src / "new").rename(src / "a.py")
    until(lambda: (app / "a.py").read_text() == "two")
    assert not (app / "new").exists()

    (src / "sub" / "deep").mkdir(parents=True)
    (src / "sub" / "deep" / "f").write_text("deep")
    until(lambda: (app / "sub/deep/f").read_text() == "deep")

    (src / "sub").rename(src / "moved")
    until(lambda: (app / "moved/deep/f").read_text() == "deep" and not (app / "sub").exists())
    (src / "moved" / "deep" / "f").write_text("still watched")
    until(lambda: (app / "moved/deep/f").read_text() == "still watched")

    (src / "link").symlink_to("a.py")
    until(lambda: os.readlink(app / "link") == "a.py")
    (src / "a.py").chmod(0o755)
    until(lambda: (app / "a.py").stat().st_mode & 0o777 == 0o755)

    shutil.rmtree(src / "moved")
    (src / "link").unlink()
    until(lambda: not (app / "moved").exists() and not os.path.lexists(app / "link"))
    assert (app / "a.py").read_text() == "two"
    assert not [name for name in os.listdir(app) if name.startswith(".stackctl-")]


def test_ignored_files_and_directories_stay_out(stack):
    src = stack.folder / "src"
    (src / ".git").mkdir(parents=True)
    stack.write(APP)
    watch = stack.watch()
    (src / ".git" / "index").write_text("x")
    (src / "b.log").write_text("x")
    (src / ".a.swp").write_text("x")
    (src / "a").write_text("x")
    assert watch.wait("synced")["paths"] == ["/app/a"]
    assert os.listdir(stack.seen("/app")) == ["a"]


def test_an_image_without_any_program_of_its_own_gets_files_and_deletions(stack):
    (stack.folder / "src").mkdir()
    (stack.folder / "src" / "page").write_text("1")
    stack.write(
        """
  app:
    build:
      context: .
      dockerfile_inline: |
        FROM scratch
        COPY src /app
    command: [/busybox, sleep, "1000"]
    volumes: ["/bin/busybox:/busybox:ro"]
    entrypoint: []
    stop_signal: SIGKILL
    develop:
      watch:
        - {action: sync, path: ./src, target: /app}
"""
    )
    watch = stack.watch("--build")
    page = stack.seen("/app/page")
    assert page.read_text() == "1"
    (stack.folder / "src" / "page").write_text("2")
    assert watch.wait("synced")["written"] == 1
    assert page.read_text() == "2"
    (stack.folder / "src" / "page").unlink()
    assert watch.wait("synced")["deleted"] == 1
    assert not page.exists()


def test_files_reach_volumes_keep_their_owner_and_mounted_files_stay_mounted(stack):
    src = stack.folder / "src"
    src.mkdir()
    (stack.folder / "mounted").write_text("before")
    stack.write("""
  app:
    image: busybox
    command: [sleep, "1000"]
    stop_signal: SIGKILL
    volumes: ["data:/app", "./mounted:/app/one"]
    develop:
      watch:
        - {action: sync, path: ./src, target: /app}
volumes:
  data: {}
""")
    watch = stack.watch()
    stack("exec", "-T", "app", "sh", "-c", "echo 1 > /app/mine; chown 1000:1000 /app/mine")
    (src / "mine").write_text("2")
    watch.wait("synced")
    mine = stack.seen("/app/mine")
    assert (mine.read_text(), mine.stat().st_uid) == ("2", 1000)
    (src / "one").write_text("after")
    watch.wait("synced")
    assert (stack.folder / "mounted").read_text() == "after"
    assert stack("exec", "-T", "app", "cat", "/app/one").stdout == "after"
    (src / "one").unlink()
    assert "/app/one" in watch.wait("failed")["text"]
    assert stack("exec", "-T", "app", "cat", "/app/one").stdout == "after"


def test_sync_restart_restarts_and_sync_exec_runs_after_the_files(stack):
    for name in ("conf", "code"):
        (stack.folder / name).mkdir()
    stack.write("""
  app:
    image: busybox
    command: [sleep, "1000"]
    stop_signal: SIGKILL
    develop:
      watch:
        - {action: sync+restart, path: ./conf, target: /conf}
        - action: sync+exec
          path: ./code
          target: /code
          exec: {command: [sh, -c, "cat /code/f > /tmp/ran; test -s /code/f"]}
        - {action: restart, path: ./trigger}
""")
    (stack.folder / "trigger").write_text("")
    watch = stack.watch()
    first = stack.pid("app")
    (stack.folder / "conf" / "c").write_text("c")
    watch.wait("restarted")
    assert stack.pid("app") != first
    assert stack.seen("/conf/c").read_text() == "c"
    (stack.folder / "code" / "f").write_text("code")
    watch.wait("executed")
    assert stack.seen("/tmp/ran").read_text() == "code"
    (stack.folder / "code" / "f").write_text("")
    assert "exit code 1" in watch.wait("failed")["text"]
    second = stack.pid("app")
    (stack.folder / "trigger").write_text("now")
    watch.wait("restarted")
    assert stack.pid("app") != second


BUILT = """
  app:
    build:
      context: .
      dockerfile_inline: |
        FROM busybox
        COPY app /app
        RUN sleep $(cat /app/slow)
    command: [sleep, "1000"]
    stop_signal: SIGKILL
    develop:
      watch:
        - {action: rebuild, path: ./app}
        - {action: sync, path: ./src, target: /src}
"""


def test_a_rebuild_is_superseded_by_a_newer_change_and_synced_files_outlive_it(stack):
    for name in ("app", "src"):
        (stack.folder / name).mkdir()
    (stack.folder / "app" / "slow").write_text("0")
    stack.write(BUILT)
    watch = stack.watch("--build")
    before = stack.engine.docker("images", "-q", "--no-trunc").stdout.split()
    (stack.folder / "src" / "f").write_text("synced")
    watch.wait("synced")
    first = stack.pid("app")
    (stack.folder / "app" / "slow").write_text("100")
    watch.wait("rebuilding")
    (stack.folder / "src" / "g").write_text("while building")
    watch.wait("synced")
    time.sleep(0.5)
    (stack.folder / "app" / "slow").write_text("0.1")
    watch.wait("superseded")
    watch.wait("rebuilt", timeout=60)
    assert stack.pid("app") != first
    assert stack.seen("/app/slow").read_text() == "0.1"
    until(lambda: stack.seen("/src/f").read_text() == "synced")
    until(lambda: stack.seen("/src/g").read_text() == "while building")
    # The image that was replaced is gone, so that there are as many as before.
    after = stack.engine.docker("images", "-q", "--no-trunc").stdout.split()
    assert len(after) == len(before)
    assert after != before


def test_what_changes_while_a_container_is_stopped_is_there_when_it_starts(stack):
    src = stack.folder / "src"
    src.mkdir()
    stack.write(APP)
    watch = stack.watch()
    stack("stop", "-t", "0", "app")
    (src / "a").write_text("meanwhile")
    time.sleep(0.3)
    stack("start", "app")
    watch.wait("synced")
    assert stack.seen("/app/a").read_text() == "meanwhile"


def test_initial_sync_brings_what_is_there_already(stack):
    src = stack.folder / "src"
    (src / "sub").mkdir(parents=True)
    (src / "sub" / "f").write_text("f")
    stack.write(APP.replace("target: /app,", "target: /app, initial_sync: true,"))
    watch = stack.watch()
    watch.wait("synced")
    assert stack.seen("/app/sub/f").read_text() == "f"


def test_a_changed_stack_file_shows_its_plan_and_yes_applies_it(stack):
    src = stack.folder / "src"
    src.mkdir()
    stack.write(APP)
    watch = stack.watch()
    first = stack.pid("app")
    stack.write(APP.replace('"1000"', '"2000"'))
    said = watch.wait("plan")
    assert said["applied"] is False
    assert said["plan"]["operations"]
    assert stack.pid("app") == first
    watch.wait("watching")
    watch.stop()

    watch = stack.watch("--yes", "--no-up")
    (src / "before").write_text("1")
    watch.wait("synced")
    stack.write(APP.replace('"1000"', '"3000"').replace("watch:\n", "watch:\n" + EXTRA) + OTHER)
    assert watch.wait("plan")["applied"] is True
    watch.wait("watching", service="other")
    assert stack.pid("app") != first
    until(lambda: stack.seen("/app/before").read_text() == "1")
    (src / "f").write_text("both")
    until(lambda: stack.seen("/app/f").read_text() == "both")
    until(lambda: stack.seen("/else/f").read_text() == "both")
    until(lambda: stack.seen("/o/f", "other").read_text() == "both")
    stack.write("  app: [broken\n")
    assert "watching goes on" in watch.wait("failed")["text"]
    (src / "f").write_text("on")
    until(lambda: stack.seen("/app/f").read_text() == "on")


EXTRA = "        - {action: sync, path: ./src, target: /else}\n"
OTHER = """
  other:
    image: busybox
    command: [sleep, "1000"]
    stop_signal: SIGKILL
    develop: {watch: [{action: sync, path: ./src, target: /o}]}
"""


def git(folder: Path, *argv: str) -> None:
    subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@t", "-c", "gc.auto=0", *argv],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1"},
        check=True,
        capture_output=True,
    )


@pytest.mark.timeout(400)
def test_a_checkout_of_five_thousand_files_arrives_whole_in_one_batch(stack):
    src = stack.folder / "src"
    git(stack.folder, "init", "-q", "-b", "first")
    for branch in ("first", "second"):
        for number in range(5000):
            folder = src / f"d{number % 50}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"f{number}").write_text(f"{branch} {number}")
        (src / branch).mkdir()
        (src / branch / "only").write_text(branch)
        git(stack.folder, "add", "src")
        git(stack.folder, "commit", "-q", "-m", branch)
        if branch == "first":
            git(stack.folder, "checkout", "-q", "-b", "second")
            shutil.rmtree(src / "first")
    stack.write(APP.replace("target: /app,", "target: /app, initial_sync: true,"))
    watch = stack.watch()
    watch.wait("synced", timeout=120)
    app = stack.seen("/app")
    git(stack.folder, "checkout", "-q", "first")
    said = watch.wait("synced", timeout=120)
    assert (said["written"], said["deleted"]) == (5002, 1)
    assert (app / "d7" / "f57").read_text() == "first 57"
    assert os.listdir(app / "first") == ["only"]
    assert not (app / "second").exists()
    shutil.rmtree(src)
    src.mkdir()
    until(lambda: not os.listdir(app), timeout=120)


def test_nothing_is_lost_when_more_happens_than_the_kernel_keeps(stack):
    src = stack.folder / "src"
    src.mkdir()
    for name in ("a", "b", "late", "gone"):
        (src / name).write_text(name)
    stack.write(APP.replace("target: /app,", "target: /app, initial_sync: true,"))
    watch = stack.watch()
    watch.wait("synced")
    app = stack.seen("/app")
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    watch.process.send_signal(signal.SIGSTOP)
    for _ in range(limit // 2 + 100):
        for name in ("a", "b"):
            with (src / name).open("a") as file:
                file.write("x")
    (src / "late").write_text("saved when nothing was told any more")
    (src / "gone").unlink()
    watch.process.send_signal(signal.SIGCONT)
    watch.wait("rescanned")
    until(lambda: (app / "late").read_text().startswith("saved") and not (app / "gone").exists())
    assert (app / "a").read_text() == (src / "a").read_text()


def test_files_under_several_rules_included_ignored_and_in_a_build_context(stack):
    for name in ("src/lib", "src/out"):
        (stack.folder / name).mkdir(parents=True)
    (stack.folder / ".dockerignore").write_text("src/out\n")
    stack.write("""
  app:
    build:
      context: .
      dockerfile_inline: FROM busybox
    command: [sleep, "1000"]
    stop_signal: SIGKILL
    develop:
      watch:
        - {action: sync, path: ./src, target: /all}
        - {action: sync, path: ./src/lib, target: /lib, include: ["*.py"]}
        - {action: sync, path: ./src/lib/one.py, target: /single}
""")
    (stack.folder / "src" / "lib" / "one.py").write_text("")
    watch = stack.watch("--build")
    (stack.folder / "src" / "out" / "built").write_text("x")
    (stack.folder / "src" / "lib" / "note.txt").write_text("x")
    (stack.folder / "src" / "lib" / "one.py").write_text("one")
    until(lambda: stack.seen("/single").read_text() == "one")
    until(lambda: stack.seen("/all/lib/note.txt").read_text() == "x")
    assert os.listdir(stack.seen("/lib")) == ["one.py"]
    assert not stack.seen("/all/out/built").exists()
    assert watch.process.poll() is None


def test_services_do_not_wait_for_each_other(stack):
    (stack.folder / "src").mkdir()
    stack.write("""
  slow:
    image: busybox
    command: [sleep, "1000"]
    stop_signal: SIGKILL
    develop:
      watch:
        - action: sync+exec
          path: ./src
          target: /app
          exec: {command: [sh, -c, "until test -e /go; do sleep 0.05; done"]}
  quick:
    image: busybox
    command: [sleep, "1000"]
    stop_signal: SIGKILL
    develop: {watch: [{action: sync, path: ./src, target: /app}]}
""")
    watch = stack.watch()
    watch.wait("watching")
    for text in ("one", "two"):
        (stack.folder / "src" / "f").write_text(text)
        watch.wait("synced", service="quick")
        assert stack.seen("/app/f", "quick").read_text() == text
    stack.seen("/go", "slow").touch()
    watch.wait("executed", service="slow")
    until(lambda: stack.seen("/app/f", "slow").read_text() == "two")


def test_env_files_includes_and_dockerfiles_are_watched_like_the_stack_file(stack):
    (stack.folder / "src").mkdir()
    (stack.folder / "app.env").write_text("WORD=one\n")
    (stack.folder / "Dockerfile").write_text("FROM busybox\nRUN echo one > /made\n")
    (stack.folder / "more.yaml").write_text(
        "services: {other: {image: busybox, command: [sleep, '1000'], stop_signal: SIGKILL}}\n"
    )
    (stack.folder / "stack.yaml").write_text("""
name: w
include: [more.yaml]
services:
  app:
    build: .
    env_file: app.env
    command: [sleep, "1000"]
    stop_signal: SIGKILL
    develop: {watch: [{action: sync, path: ./src, target: /app}]}
""")
    watch = stack.watch("--yes", "--build")
    (stack.folder / "app.env").write_text("WORD=two\n")
    watch.wait("changed")
    assert watch.wait("plan")["applied"] is True
    watch.wait("watching")
    assert stack("exec", "-T", "app", "sh", "-c", "echo $WORD").stdout == "two\n"
    (stack.folder / "more.yaml").write_text(
        "services: {other: {image: busybox, command: [sleep, '2000'], stop_signal: SIGKILL}}\n"
    )
    assert "other" in json.dumps(watch.wait("plan")["plan"])
    watch.wait("watching")
    (stack.folder / "Dockerfile").write_text("FROM busybox\nRUN echo two > /made\n")
    watch.wait("rebuilt", timeout=60)
    assert stack.seen("/made").read_text() == "two\n"


def up_watching(stack) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "stackctl", "up", "--watch"],
        cwd=stack.folder,
        env={**stack.engine.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_up_watch_outlives_the_replacement_of_its_only_container(stack):
    for name in ("app", "src"):
        (stack.folder / name).mkdir()
    (stack.folder / "app" / "slow").write_text("0")
    stack.write(BUILT)
    process = up_watching(stack)
    try:
        said = iter(process.stderr.readline, "")
        assert any("watching" in line for line in said)
        (stack.folder / "app" / "slow").write_text("0.1")
        assert any("rebuilt" in line for line in said)
        (stack.folder / "src" / "f").write_text("after")
        assert any("synced" in line for line in said)
        assert stack.seen("/src/f").read_text() == "after"
        assert process.poll() is None
    finally:
        process.send_signal(signal.SIGINT)
        process.stderr.read()
        assert process.wait(30) == 130
        process.stderr.close()


def test_up_watch_streams_logs_and_syncs(stack):
    src = stack.folder / "src"
    src.mkdir()
    stack.write(APP)
    process = up_watching(stack)
    try:
        said = iter(process.stderr.readline, "")
        assert any("watching" in line for line in said)
        (src / "a").write_text("x")
        assert "synced 1 path (1 B) to /app/a in" in next(line for line in said if "synced" in line)
        assert stack.seen("/app/a").read_text() == "x"
    finally:
        process.send_signal(signal.SIGINT)
        process.stderr.read()
        assert process.wait(30) == 130
        process.stderr.close()


def refused(stack, *argv: str) -> str:
    done = stack("watch", *argv, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


def test_rules_that_cannot_work_are_refused_in_one_message_each(stack):
    stack.write(APP)
    assert "develop.watch[0]: path" in refused(stack)
    (stack.folder / "src").mkdir()
    stack.write(APP.replace("target: /app", "target: app"))
    assert "is not absolute" in refused(stack)
    stack.write(APP.replace("sync, path", "rebuild, path"))
    assert "has no build" in refused(stack)
    stack.write('  app: {image: busybox, command: [sleep, "9"]}\n')
    assert "has develop.watch" in refused(stack)
    stack.write(APP)
    assert "nosuch" in refused(stack, "nosuch")


def test_a_target_below_a_file_and_a_read_only_root_are_named_once(stack):
    src = stack.folder / "src"
    (src / "sub").mkdir(parents=True)
    for number in range(30):
        (src / "sub" / f"f{number}").write_text("x")
    stack.write(
        APP.replace("/app,", "/etc/passwd,")
        + """
  ro:
    image: busybox
    command: [sleep, "1000"]
    stop_signal: SIGKILL
    read_only: true
    develop: {watch: [{action: sync, path: ./src, target: /o}]}
"""
    )
    watch = stack.watch()
    (src / "sub").rename(src / "a")
    found = [watch.wait("failed"), watch.wait("failed")]
    text = {item["service"]: item["text"] for item in found}
    assert text["app"].startswith("/etc/passwd/a: Not a directory (and ")
    assert "read-only" in text["ro"]
    (src / "a" / "f1").write_text("again")
    watch.wait("failed")
    watch.wait("failed")
    assert sum(item["event"] == "failed" for item in watch.said) == 4


def test_a_target_that_the_image_lacks_is_named_at_once_and_made_by_the_first_file(stack):
    stack.write("""
  web:
    image: busybox
    command: [sleep, "1000"]
    stop_signal: SIGKILL
    develop: {watch: [{action: sync, path: ./src, target: /ap/html}, {action: sync, path: ./src, target: /tmp}]}
""")
    stack.folder.joinpath("src").mkdir()
    watch = stack.watch()
    said = watch.wait("missing")
    assert said["text"].startswith("/ap/html, the target of service web: develop.watch[0]")
    assert "misspelt" in said["hint"]
    (stack.folder / "src" / "a").write_text("x")
    watch.wait("synced")
    read = stack.engine.stackctl("exec", "-T", "web", "cat", "/ap/html/a", cwd=stack.folder)
    assert read.stdout == "x"
    assert sum(item["event"] == "missing" for item in watch.said) == 1


def test_a_target_in_what_the_kernel_shows_is_named(stack):
    src = stack.folder / "src"
    src.mkdir()
    stack.write(APP.replace("/app,", "/proc/nowhere,"))
    watch = stack.watch()
    (src / "a").write_text("x")
    said = watch.wait("failed")
    assert "/proc/nowhere/a: " in said["text"]
    assert "target" in said["hint"]


def test_the_example_serves_what_is_saved(stack):
    shutil.copytree(ROOT / "examples" / "watch", stack.folder, dirs_exist_ok=True)
    text = (stack.folder / "stack.yaml").read_text()
    text = text.replace("name: watch", "name: w").replace(
        "127.0.0.1:8001:8001", "127.0.0.1:18001:8001"
    )
    (stack.folder / "stack.yaml").write_text(text)
    watch = stack.watch("--build")

    def page() -> bytes:
        with urllib.request.urlopen("http://127.0.0.1:18001/", timeout=5) as answer:
            return answer.read()

    until(lambda: b"Saved" in page())
    (stack.folder / "site" / "index.html").write_text("changed")
    watch.wait("synced")
    assert page() == b"changed"
    (stack.folder / "httpd.conf").write_text("I:other.html\n")
    (stack.folder / "site" / "other.html").write_text("other")
    watch.wait("restarted")
    until(lambda: page() == b"other")


def test_an_engine_without_batches_gets_archives_and_deletes_with_rm(stack):
    from stackctl.client.endpoints import choose
    from stackctl.client.engine import EngineClient
    from stackctl.orchestrator.watch.delivery import ArchiveDelivery

    src = stack.folder / "src"
    (src / "d").mkdir(parents=True)
    (src / "d" / "f").write_text("f")
    (src / "link").symlink_to("d/f")
    stack.write(APP)
    stack("up", "-d")
    environ = stack.engine.environ
    client = EngineClient(choose("", environ, uid=0), environ=environ)
    deliver = ArchiveDelivery(client)
    files = {f"/app/{name}": str(src / name) for name in ("d", "d/f", "link")}
    done = deliver("w-app-1", files)
    assert (done.written, done.deleted, done.size) == (3, 0, 1)
    app = stack.seen("/app")
    assert (app / "d" / "f").read_text() == "f"
    assert os.readlink(app / "link") == "d/f"
    shutil.rmtree(src / "d")
    done = deliver("w-app-1", files)
    assert (done.written, done.deleted) == (1, 1)
    assert os.listdir(app) == ["link"]
    kept = client._transport._local.connection
    kept.file.close()
    kept.close()


@pytest.fixture(params=[DockerEngine, PodmanEngine])
def elsewhere(request, tmp_path):
    """A stack's folder beside an engine that takes no batches."""
    for engine in one_engine(request.param):
        engine.start()
        engine.import_busybox()
        made = Stack(engine, tmp_path)
        yield made
        for watch in made.watches:
            watch.stop()
        engine.stackctl("-p", "w", "down", "-t", "0", cwd=tmp_path, check=False)


@pytest.mark.long
def test_docker_and_podman_get_files_deletions_and_thousands_at_once_as_archives(elsewhere):
    stack = elsewhere
    src = stack.folder / "src"
    (src / "d").mkdir(parents=True)
    stack.write(APP)
    ro = stack.folder / "ro.yaml"
    ro.write_text("services: {app: {read_only: true}}")

    def inside(*argv: str) -> str:
        return stack("exec", "-T", "app", *argv, check=False).stdout

    def start(*argv: str) -> Watch:
        argv = (*stack.engine.globals, *argv, "watch", "--format", "json")
        watch = Watch(stack.engine, stack.folder, *argv)
        stack.watches.append(watch)
        watch.wait("watching", timeout=60)
        return watch

    watch = start()
    (src / "d" / "f").write_text("one")
    (src / "d" / "f").chmod(0o750)
    (src / "link").symlink_to("d/f")
    until(lambda: inside("cat", "/app/link") == "one")
    assert inside("stat", "-c", "%a %u", "/app/d/f") == "750 0\n"
    other = stack.folder / "many"
    other.mkdir()
    for number in range(3000):
        (other / f"f{number}").write_text(str(number))
    other.rename(src / "many")
    assert watch.wait("synced", written=3001, timeout=60)
    assert inside("cat", "/app/many/f2999") == "2999"
    shutil.rmtree(src / "many")
    (src / "link").unlink()
    until(lambda: inside("ls", "/app") == "d\n", timeout=60)
    (src / "d" / "f").write_text("two")
    until(lambda: inside("cat", "/app/d/f") == "two")
    watch.stop()
    watch = start("-f", "stack.yaml", "-f", "ro.yaml")
    (src / "d" / "f").write_text("three")
    assert "read-only" in watch.wait("failed")["text"]
