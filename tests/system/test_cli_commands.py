"""Every command of docker compose, typed against a real engine."""

import io
import json
import subprocess
import sys
import tarfile
import time
import xml.etree.ElementTree as ET

import pytest

pytestmark = pytest.mark.root

FILE = """
name: c
services:
  web:
    image: busybox
    command: [sh, -c, "trap 'exit 0' TERM; while :; do sleep 0.1; done"]
    volumes: ["data:/data"]
    depends_on: {db: {condition: service_started}}
  db:
    image: busybox
    command: [sleep, "1000"]
    stop_signal: SIGKILL
  job:
    image: busybox
    command: [sh, -c, "read line; echo got $$line; exit 4"]
    stdin_open: true
    stop_signal: SIGKILL
volumes: {data: {}}
"""


@pytest.fixture
def cli(engine, tmp_path):
    """Type commands beside a stack file; the stack is gone afterwards."""
    engine.import_busybox()
    (tmp_path / "stack.yaml").write_text(FILE)

    def type_(*argv, **options):
        return engine.stackctl(*argv, cwd=tmp_path, **options)

    type_.folder = tmp_path
    type_.environ = engine.environ
    type_.engine = engine
    yield type_
    engine.stackctl("-p", "c", "down", "-v", "--remove-orphans", cwd=tmp_path, check=False)


def states(cli) -> dict[str, str]:
    lines = cli("-p", "c", "ps", "-a", "--format", "json").stdout.splitlines()
    return {entry["Name"]: entry["State"] for entry in map(json.loads, lines)}


def test_create_makes_everything_and_starts_nothing(cli):
    cli("create")
    assert states(cli) == {"c-web-1": "created", "c-db-1": "created", "c-job-1": "created"}
    cli("start")
    assert set(states(cli).values()) == {"running"}


def test_pause_freezes_and_unpause_thaws_only_what_was_named(cli):
    cli("up", "-d")
    cli("pause", "db")
    assert states(cli)["c-db-1"] == "paused"
    assert states(cli)["c-web-1"] == "running"
    cli("unpause")
    assert states(cli)["c-db-1"] == "running"


def test_images_volumes_top_and_stats_tell_of_the_running_stack(cli):
    cli("up", "-d")
    images = json.loads(cli("images", "--format", "json").stdout)
    assert {entry["ContainerName"] for entry in images} == {"c-web-1", "c-db-1", "c-job-1"}
    assert images[0]["Repository"] == "busybox"
    assert images[0]["Platform"].startswith("linux/")
    assert cli("images", "-q").stdout.strip() == images[0]["ID"].removeprefix("sha256:")

    assert cli("volumes", "-q").stdout == "c_data\n"
    assert cli("volumes", "-q", "db").stdout == ""
    assert json.loads(cli("volumes", "--format", "json").stdout)["Driver"] == "local"

    top = cli("top", "db").stdout.splitlines()
    assert top[0].split()[:3] == ["SERVICE", "#", "UID"]
    assert top[1].startswith("db")
    assert top[1].endswith("sleep 1000")

    stats = json.loads(cli("stats", "--no-stream", "--format", "json", "web").stdout)
    assert stats["Name"] == "c-web-1"
    assert int(stats["PIDs"]) >= 1
    assert not stats["MemUsage"].startswith("0B")
    assert "CPU %" in cli("stats", "--no-stream").stdout


def test_stats_measures_a_busy_container(cli):
    cli("up", "-d", "db")
    cli("exec", "-d", "db", "sh", "-c", "while :; do :; done")
    time.sleep(0.5)
    row = json.loads(cli("stats", "--no-stream", "--format", "json", "db").stdout)
    assert float(row["CPUPerc"].rstrip("%")) > 5


def test_files_and_folders_are_copied_both_ways(cli):
    cli("up", "-d", "--scale", "web=2", "web")
    source = cli.folder / "site"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "page").write_text("hello\n")
    (source / "link").symlink_to("sub/page")

    cli("cp", "site", "web:/srv")  # not there: it becomes /srv
    cli("cp", "site", "web:/tmp")  # there: it goes into it
    cli("cp", "site/.", "web:/data")  # the content alone
    for number in ("1", "2"):
        shown = cli("exec", "-T", "--index", number, "web", "cat", "/srv/link", "/tmp/site/link")
        assert shown.stdout == "hello\nhello\n"
    owner = cli("exec", "-T", "web", "stat", "-c", "%u:%g", "/data/sub/page").stdout
    assert owner == "0:0\n"

    cli("cp", "web:/srv", str(cli.folder / "back"))
    assert (cli.folder / "back" / "link").readlink().as_posix() == "sub/page"
    assert (cli.folder / "back" / "sub" / "page").read_text() == "hello\n"
    cli("cp", "web:/srv/sub/page", str(cli.folder / "back"))
    assert (cli.folder / "back" / "page").read_text() == "hello\n"

    missing = cli("cp", "web:/nowhere", ".", check=False)
    assert missing.returncode == 1
    assert "/nowhere" in missing.stderr
    assert cli("cp", "absent", "web:/", check=False).returncode == 1


def test_a_hostile_archive_does_not_leave_the_target(cli):
    """A link out of the target is made as a link, and nothing is written through it."""
    cli("up", "-d", "db")
    cli("exec", "-T", "db", "sh", "-c", "mkdir /evil; ln -s /tmp /evil/way; echo x > /evil/ok")
    place = cli.folder / "evil"
    cli("cp", "db:/evil", str(place))
    assert (place / "ok").read_text() == "x\n"
    cli("exec", "-T", "db", "sh", "-c", "rm /evil/way; mkdir /evil/way; echo y > /evil/way/pwned")
    again = cli("cp", "db:/evil/.", str(place), check=False)
    assert again.returncode == 1
    assert "is a link" in again.stderr


def test_an_archive_goes_through_standard_input_and_output(cli):
    cli("up", "-d", "db")
    environ = {**cli.environ, "PYTHONPATH": str(cli.folder.cwd())}
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        member = tarfile.TarInfo("note")
        member.size = 3
        tar.addfile(member, io.BytesIO(b"abc"))
    command = [sys.executable, "-m", "stackctl", "cp"]
    subprocess.run(
        [*command, "-", "db:/tmp"],
        input=archive.getvalue(),
        cwd=cli.folder,
        env=environ,
        check=True,
    )
    back = subprocess.run(
        [*command, "db:/tmp/note", "-"],
        cwd=cli.folder,
        env=environ,
        check=True,
        capture_output=True,
    )
    with tarfile.open(fileobj=io.BytesIO(back.stdout)) as tar:
        assert tar.extractfile("note").read() == b"abc"


def test_export_and_commit_keep_what_the_container_wrote(cli):
    cli("up", "-d", "db")
    cli("exec", "-T", "db", "sh", "-c", "echo kept > /kept")
    cli("export", "db", "-o", "root.tar")
    with tarfile.open(cli.folder / "root.tar") as tar:
        assert tar.extractfile("kept").read() == b"kept\n"
    identity = cli("commit", "-m", "why", "-c", 'CMD ["cat", "/kept"]', "db", "made:here").stdout
    assert identity.startswith("sha256:")
    (cli.folder / "stack.yaml").write_text("name: c\nservices: {x: {image: 'made:here'}}\n")
    assert cli("run", "--rm", "x").stdout == "kept\n"


def test_wait_gives_the_code_and_takes_the_stack_down(cli):
    (cli.folder / "stack.yaml").write_text(FILE.replace("read line; echo got $$line", "sleep 1"))
    cli("up", "-d")
    done = cli("wait", "--down-project", "job", check=False)
    assert done.returncode == 4
    assert done.stdout == 'container "c-job-1" exited with status code 4\n'
    assert states(cli) == {}


def test_events_tell_what_happened_in_json_and_text(cli):
    since = f"{time.time():.3f}"
    cli("up", "-d", "db")
    cli("restart", "db")
    events = [
        json.loads(line)
        for line in cli("events", "--json", "--since", since, "--until", "0s").stdout.splitlines()
    ]
    actions = [event["action"] for event in events if event["service"] == "db"]
    assert actions[:2] == ["create", "start"]
    assert "die" in actions
    assert {e["attributes"]["name"] for e in events if e["service"] == "db"} == {"c-db-1"}
    assert " container start " in cli("events", "--since", since, "--until", "0s", "db").stdout


def test_attach_joins_the_program_and_gives_its_code(cli):
    cli("up", "-d", "job")
    done = cli("attach", "job", stdin="words\n", check=False)
    assert done.stdout == "got words\n"
    assert done.returncode == 4


def test_scale_up_and_down(cli):
    cli("up", "-d", "db")
    cli("scale", "db=3")
    assert [name for name in sorted(states(cli)) if "db" in name] == ["c-db-1", "c-db-2", "c-db-3"]
    cli("scale", "db=1")
    assert [name for name in sorted(states(cli)) if "db" in name] == ["c-db-1"]
    assert cli("scale", "db=x", check=False).returncode == 1


def test_the_graph_is_drawn_four_ways_with_the_state_of_a_running_stack(cli):
    assert "web\n" in cli("graph", "--no-state").stdout
    cli("up", "-d", "web")
    assert "└─ web [running]\n" in cli("graph", "web").stdout
    assert '"web" -> "db";' in cli("graph", "--format", "dot").stdout
    mermaid = cli("graph", "--format", "mermaid").stdout
    assert mermaid.startswith("flowchart TB\n")
    assert "web<br/>running" in mermaid
    cli("graph", "--format", "svg", "-o", "g.svg")
    root = ET.parse(cli.folder / "g.svg").getroot()
    words = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"web", "db", "job", "running"} <= words


@pytest.mark.parametrize(
    "argv",
    [
        ["up", "-d", "--dry-run", "--force-recreate"],
        ["down", "--dry-run", "-v"],
        ["stop", "--dry-run"],
        ["kill", "--dry-run"],
        ["rm", "-sf", "--dry-run"],
        ["restart", "--dry-run"],
        ["pause", "--dry-run"],
        ["--dry-run", "scale", "web=3"],
        ["run", "--dry-run", "web", "sh"],
        ["exec", "--dry-run", "web", "sh"],
        ["commit", "--dry-run", "web", "x:y"],
        ["cp", "--dry-run", "stack.yaml", "web:/tmp/"],
    ],
    ids=" ".join,
)
def test_a_dry_run_says_what_it_would_do_and_changes_nothing(cli, argv):
    cli("up", "-d")
    before = cli("ps", "-q", "--no-trunc").stdout, states(cli)
    done = cli(*argv)
    assert "would" in done.stderr or "c-" in done.stdout
    assert (cli("ps", "-q", "--no-trunc").stdout, states(cli)) == before
    assert cli("exec", "-T", "web", "ls", "/tmp").stdout == ""


def test_commands_on_a_known_stack_never_read_the_stack_file(cli):
    """With -p, COMPOSE_PROJECT_NAME or its twin, a broken stack file does not matter."""
    cli("up", "-d")
    (cli.folder / "stack.yaml").write_text("services: [this, is, none\n")
    for argv in (
        ["ps"],
        ["logs"],
        ["exec", "-T", "db", "true"],
        ["images"],
        ["top"],
        ["pause", "db"],
        ["unpause", "db"],
        ["volumes"],
    ):
        assert cli("-p", "c", *argv).returncode == 0
    twin = {"STACKCTL_PROJECT_NAME": "c", "COMPOSE_PROJECT_NAME": "other"}
    assert "c-db-1" in cli("ps", environ=twin).stdout
    assert "c-db-1" in cli("ps", environ={"COMPOSE_PROJECT_NAME": "c"}).stdout
    nobody = cli("-p", "c", "logs", "nobody", check=False)
    assert "has no service nobody" in nobody.stderr
    assert "stack file" not in cli("-p", "c", "stop", "-t", "1").stderr
    assert set(states(cli).values()) == {"exited"}


def test_quick_commands_import_nothing_that_they_do_not_use(cli):
    cli("up", "-d", "db")
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "stackctl", "-p", "c", "ps"],
        cwd=cli.folder,
        env={**cli.environ, "PYTHONPATH": str(cli.folder.cwd())},
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    heavy = {"yaml", "docker", "jsonschema", "networkx", "aiohttp", "asyncio", "rich", "ssl"}
    heavy |= {"tarfile", "http.client", "stackctl.orchestrator.model.stack"}
    assert not heavy & imported


def test_twins_of_compose_variables_are_heard_and_win(cli):
    (cli.folder / "other.yaml").write_text(
        "name: c\nservices: {one: {image: busybox, profiles: [p], command: [sleep, '1000'], stop_signal: SIGKILL}}\n"
    )
    twins = {"COMPOSE_FILE": "absent.yaml", "STACKCTL_FILE": "other.yaml", "STACKCTL_PROFILES": "p"}
    assert cli("config", "--services", environ=twins).stdout == "one\n"
    done = cli("up", "-d", environ={**twins, "STACKCTL_PROGRESS": "json"})
    assert done.stderr.startswith('{"id"')
    cli("up", "-d")
    orphaned = cli("up", "-d", environ=twins)
    assert "not in the stack file" in orphaned.stderr
    hushed = cli("up", "-d", environ={**twins, "STACKCTL_IGNORE_ORPHANS": "1"})
    assert "not in the stack file" not in hushed.stderr
    cli("up", "-d", environ={**twins, "STACKCTL_REMOVE_ORPHANS": "true"})
    assert list(states(cli)) == ["c-one-1"]


@pytest.mark.parametrize("name", ["Bad", "-x", "a b", "ü", "a/b", "a.b"])
def test_a_bad_stack_name_is_refused_by_every_command(cli, name):
    for argv in (["ps"], ["up", "-d"], ["down"]):
        done = cli(f"--project-name={name}", *argv, check=False)
        assert done.returncode == 1
        assert "stack name" in done.stderr


def test_a_docker_compose_in_front_of_stackctl_takes_the_same_arguments(cli):
    bin_ = cli.folder / "bin"
    bin_.mkdir()
    cli("compose-shim", str(bin_))
    environ = {**cli.environ, "PYTHONPATH": str(cli.folder.cwd())}

    def compose(*argv):
        return subprocess.run(
            [bin_ / "docker-compose", *argv],
            cwd=cli.folder,
            env=environ,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    compose("-f", "stack.yaml", "up", "-d", "--quiet-pull", "db")
    assert "c-db-1" in compose("ps", "--format", "json", "--filter", "status=running")
    assert compose("exec", "-T", "--index", "1", "db", "echo", "x") == "x\n"
    compose("down", "--remove-orphans", "-v", "-t", "1")
    cli("compose-shim", "--remove", str(bin_))
    (bin_ / "docker-compose").write_text("another")
    assert cli("compose-shim", str(bin_), check=False).returncode == 1


def test_run_takes_labels_capabilities_env_files_and_aliases(cli):
    (cli.folder / "vars").write_text("FROM=file\nBOTH=file\n")
    cli("up", "-d", "db")
    identity = cli(
        "run", "-d", "-l", "tier=test", "--cap-add", "SYS_TIME", "--cap-drop", "CHOWN", "--use-aliases",
        "--env-from-file", "vars", "-e", "BOTH=flag", "--name", "c-special", "db", "sleep", "1000",
    ).stdout.strip()  # fmt: skip
    found = [json.loads(line) for line in cli("ps", "-a", "--format", "json").stdout.splitlines()]
    assert [entry["Name"] for entry in found] == ["c-db-1"]
    about = json.loads(cli.engine.docker("inspect", identity).stdout)[0]
    assert about["Config"]["Labels"]["tier"] == "test"
    assert {"FROM=file", "BOTH=flag"} <= {*about["Config"]["Env"]}
    assert [cap.removeprefix("CAP_") for cap in about["HostConfig"]["CapAdd"]] == ["SYS_TIME"]
    assert "db" in about["NetworkSettings"]["Networks"]["c_default"]["Aliases"]
    cli.engine.docker("rm", "-f", identity)


def test_attached_up_ends_with_the_first_failure_and_its_code(cli):
    (cli.folder / "stack.yaml").write_text("""
name: c
services:
  good: {image: busybox, command: [sh, -c, "echo fine; exit 0"]}
  bad: {image: busybox, command: [sh, -c, "sleep 1; echo broken; exit 7"]}
  long: {image: busybox, command: [sleep, "1000"], stop_signal: SIGKILL}
""")
    done = cli("up", "--abort-on-container-failure", "--no-attach", "good", check=False)
    assert done.returncode == 7
    assert "broken" in done.stdout
    assert "bad-1" in done.stdout
    assert "fine" not in done.stdout
    assert states(cli)["c-long-1"] == "exited"
    one = cli("up", "--abort-on-container-exit", "--attach", "bad", check=False)
    assert "fine" not in one.stdout
    again = cli("up", "--exit-code-from", "bad", check=False)
    assert again.returncode == 7
    assert again.stdout.count("broken") == 1  # what it said in its lives before is not shown again
    assert "c-good-1 exited with code 0; stopping the stack" in again.stderr


def test_attached_up_shows_only_what_is_new_of_what_runs_already(cli):
    (cli.folder / "stack.yaml").write_text("""
name: c
services:
  talk:
    image: busybox
    init: true
    command: [sh, -c, "echo past; while [ ! -e /go ]; do sleep 0.1; done; echo present; exit 5"]
""")
    cli("up", "-d")
    go = "sleep 3; touch /go"  # once the command below has joined
    cli("exec", "-d", "talk", "sh", "-c", go)
    done = cli("up", "--abort-on-container-exit", check=False)
    assert done.returncode == 5
    assert "present" in done.stdout
    assert "past" not in done.stdout


def test_restart_takes_those_with_it_that_asked_for_it(cli):
    (cli.folder / "stack.yaml").write_text("""
name: c
services:
  db: {image: busybox, command: [sleep, "1000"], stop_signal: SIGKILL}
  web:
    image: busybox
    command: [sleep, "1000"]
    stop_signal: SIGKILL
    depends_on: {db: {condition: service_started, restart: true}}
  other:
    image: busybox
    command: [sleep, "1000"]
    stop_signal: SIGKILL
    depends_on: [db]
""")
    cli("up", "-d")

    def starts() -> dict[str, str]:
        names = ("db", "web", "other")
        texts = cli.engine.docker("inspect", *(f"c-{name}-1" for name in names)).stdout
        return dict(
            zip(names, (one["State"]["StartedAt"] for one in json.loads(texts)), strict=True)
        )

    before = starts()
    cli("restart", "db")
    after = starts()
    assert {name for name in before if before[name] != after[name]} == {"db", "web"}
    cli("restart", "--no-deps", "db")
    assert starts()["web"] == after["web"]


def test_kill_can_remove_what_the_file_no_longer_has_and_ls_filters(cli):
    cli("up", "-d")
    (cli.folder / "stack.yaml").write_text(
        "name: c\nservices: {db: {image: busybox, command: [sleep, '1000']}}\n"
    )
    assert "c-web-1" not in cli("ps", "--no-orphans").stdout
    cli("kill", "--remove-orphans", "db")
    assert list(states(cli)) == ["c-db-1"]
    assert cli("ls", "-aq", "--filter", "name=c").stdout == "c\n"
    assert cli("ls", "-aq", "--filter", "name=x").stdout == ""
    assert cli("rm", check=False).returncode == 1
    cli("rm", "-f")
    assert states(cli) == {}
