"""Stack files to a stack, all phases together."""

import json
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stackctl.errors import InvalidInputError, StackFileError
from stackctl.orchestrator.model.mounts import BindMount, TmpfsMount, VolumeMount
from stackctl.orchestrator.model.service import Dependency
from stackctl.orchestrator.stackfile import dump
from stackctl.orchestrator.stackfile.explain import explain, variables
from stackctl.orchestrator.stackfile.load import LoadOptions, load

MINIMAL = "services: {web: {image: x}}\n"


def tree_of(loaded):
    return json.loads(dump.to_json(loaded))


# Which files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "stack.yaml",
        "stack.yml",
        "compose.yaml",
        "compose.yml",
        "docker-compose.yml",
        "docker-compose.yaml",
    ],
)
def test_the_file_is_found_by_its_name_from_below(tmp_path, name):
    (tmp_path / "app" / "deep" / "er").mkdir(parents=True)
    (tmp_path / "app" / name).write_text(MINIMAL)
    loaded = load(LoadOptions(environ={}, cwd=str(tmp_path / "app/deep/er")))
    assert loaded.files == (str(tmp_path / "app" / name),)
    assert loaded.name == "app"
    assert loaded.working_dir == str(tmp_path / "app")


def test_of_several_files_the_stack_file_is_used_and_named(tmp_path):
    for name in ("compose.yaml", "stack.yaml"):
        (tmp_path / name).write_text(MINIMAL)
    loaded = load(LoadOptions(environ={}, cwd=str(tmp_path)))
    assert loaded.files == (str(tmp_path / "stack.yaml"),)
    assert any(str(tmp_path / "stack.yaml") in warning for warning in loaded.warnings)


@pytest.mark.parametrize(
    ("main", "override"),
    [
        ("stack.yaml", "stack.override.yaml"),
        ("compose.yml", "compose.override.yml"),
        ("docker-compose.yml", "docker-compose.override.yml"),
    ],
)
def test_the_override_file_goes_over_it(tmp_path, main, override):
    (tmp_path / main).write_text(MINIMAL)
    (tmp_path / override).write_text("services: {web: {user: me}}")
    loaded = load(LoadOptions(environ={}, cwd=str(tmp_path)))
    assert loaded.stack.services["web"].user == "me"


def test_compose_file_names_the_files(loader):
    loaded = loader(
        MINIMAL,
        also={"a.yaml": MINIMAL, "b.yaml": "services: {web: {user: me}}"},
        environ={"COMPOSE_FILE": "a.yaml|b.yaml", "COMPOSE_PATH_SEPARATOR": "|"},
    )
    assert [Path(path).name for path in loaded.files] == ["a.yaml", "b.yaml"]
    assert loaded.stack.services["web"].user == "me"


def test_a_file_may_come_from_standard_input(loader):
    loaded = loader(files=["-"], stdin=lambda: b"services: {web: {image: y}}")
    assert loaded.stack.services["web"].image == "y"


def test_no_file_is_an_error_that_says_what_to_do(problems):
    (problem,) = problems()
    assert "no stack file in" in problem.message
    assert "stack.yaml" in problem.hint


def test_a_file_that_is_not_there_is_named(problems):
    (problem,) = problems(files=["nope.yaml"])
    assert str(problem) == "nope.yaml: No such file or directory"


SHOWING = 'services: {a: {image: "x:${C:-none}-${D:-none}"}}'


@pytest.mark.parametrize(
    ("environ", "dotenv", "image"),
    [
        ({}, "C=c\nD=d\n", "x:c-d"),
        ({"COMPOSE_ENV_FILES": "a.env"}, "C=c\n", "x:from a-none"),
        ({}, "COMPOSE_ENV_FILES=a.env\nD=d\n", "x:none-d"),
        ({"COMPOSE_DISABLE_ENV_FILE": "1"}, "C=c\n", "x:none-none"),
        ({"COMPOSE_DISABLE_ENV_FILE": "false"}, "C=c\n", "x:c-none"),
        ({"COMPOSE_DISABLE_ENV_FILE": "x", "COMPOSE_ENV_FILES": "a.env"}, "", "x:from a-none"),
        ({}, "COMPOSE_DISABLE_ENV_FILE=1\nC=c\nCOMPOSE_PROJECT_NAME=d\n", "x:none-none"),
    ],
)
def test_which_env_file_holds(loader, environ, dotenv, image):
    loaded = loader(SHOWING, also={".env": dotenv, "a.env": "C=from a\n"}, environ=environ)
    assert loaded.tree["services"]["a"]["image"] == image
    assert loaded.name == ("d" if "NAME" in dotenv else "app")


@pytest.mark.parametrize("value", ["yes", "", "tRUE"])
def test_a_switch_that_is_no_boolean_is_a_mistake(problems, value):
    (problem,) = problems(SHOWING, environ={"COMPOSE_DISABLE_ENV_FILE": value})
    assert f"COMPOSE_DISABLE_ENV_FILE: {value!r} is not true or false" in problem.message


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("build: [a]", "services.base.build: expected text or a mapping"),
        ("ports: ['a:b']", "services.base.ports[0]: invalid port 'a:b'"),
        ("depends_on: {db: 10s}", "services.base.depends_on.db: expected a mapping"),
        ("depends_on: [[db]]", "services.base.depends_on[0]: expected text, got a list"),
    ],
)
def test_a_mistake_in_a_base_file_is_told_there(problems, wrong, message):
    found = problems(
        "services: {a: {image: x, extends: {file: base.yaml, service: base}}}",
        also={"base.yaml": f"services:\n  base:\n    image: y\n    {wrong}\n"},
    )
    assert [(one.path, one.line) for one in found] == [("base.yaml", 4)]
    assert found[0].message.startswith(message)


REMOTE = {
    "oci://example/app:1": "an artifact of an OCI registry",
    "https://example.com/app.git": "a git repository",
    "https://example.com/app.git#main:stacks": "a git repository",
    "git@example.com:app.git": "a git repository",
    "ssh://git@example.com/app": "a git repository",
    "github.com/someone/app": "a git repository",
    "https://example.com/stack.yaml": "a file of the web",
}


@pytest.mark.parametrize("url", REMOTE)
def test_a_remote_file_is_recognised_and_refused_where_it_is_named(problems, url):
    (problem,) = problems(files=[url])
    assert problem.message.startswith(f"{url}: {REMOTE[url]} cannot be reached")
    (problem,) = problems(f"include:\n  - path: {url}\nservices: {{a: {{image: x}}}}\n")
    assert problem.message.startswith(f"{url}: {REMOTE[url]} cannot be reached")
    assert (problem.line, problem.hint) == (2, "fetch it first and name the local file")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the stack file is empty"),
        ("# nothing\n", "the stack file is empty"),
        ("- a\n", "the top of a stack file must be a mapping"),
        ("services:\n", "expected a mapping"),
        ("é: \xff", "unknown key"),
    ],
)
def test_a_file_without_a_stack_is_an_error(problems, tmp_path, text, message):
    (tmp_path / "x.yaml").write_text(text)
    found = problems(files=[str(tmp_path / "x.yaml")])
    assert message in found[0].message


def test_text_that_is_not_utf8_is_refused(problems, tmp_path):
    (tmp_path / "x.yaml").write_bytes(b"services:\n  a: {image: \xff}\n")
    (problem,) = problems(files=[str(tmp_path / "x.yaml")])
    assert (problem.line, problem.message) == (2, "not UTF-8 text")


# The name ------------------------------------------------------------------------------------------------------------


def test_the_name_comes_from_option_variable_file_directory(loader):
    named = "name: from-file\n" + MINIMAL
    variable = {"COMPOSE_PROJECT_NAME": "from-env"}
    assert loader(named, project_name="from-option", environ=variable).name == "from-option"
    assert loader(named, environ=variable).name == "from-env"
    assert loader(named).name == "from-file"
    assert loader(MINIMAL).name == "app"


def test_the_name_can_be_interpolated_and_is_a_variable(loader):
    loaded = loader(
        "name: n-${X}\nservices: {web: {image: 'i:${COMPOSE_PROJECT_NAME}'}}\n", environ={"X": "1"}
    )
    assert loaded.name == "n-1"
    assert loaded.stack.services["web"].image == "i:n-1"


def test_a_wrong_name_is_refused(problems):
    (problem,) = problems(MINIMAL, project_name="Not Valid")
    assert "invalid stack name" in problem.message


# Variables -----------------------------------------------------------------------------------------------------------


def test_the_shell_wins_over_the_env_file_and_the_env_file_over_the_default(loader):
    loaded = loader(
        "services: {web: {image: '${A:-d}-${B:-d}-${C:-d}'}}",
        also={".env": "A=file\nB=file\n"},
        environ={"A": "shell"},
    )
    assert loaded.stack.services["web"].image == "shell-file-d"


def test_given_env_files_replace_the_default_one(loader):
    loaded = loader(
        "services: {web: {image: '${A}${B}'}}",
        also={".env": "A=default\n", "one.env": "A=1\nB=1\n", "two.env": "B=2\n"},
        env_files=["one.env", "two.env"],
    )
    assert loaded.stack.services["web"].image == "12"
    assert [Path(path).name for path in loaded.env_files] == ["one.env", "two.env"]


def test_the_environment_of_a_service_goes_over_its_env_files(loader):
    loaded = loader(
        """
        services:
          web:
            image: x
            env_file: [a.env, {path: b.env, format: raw}, {path: no.env, required: false}]
            environment: {A: own, S: , U: }
        """,
        also={"a.env": "A=file\nB=${S}\n", "b.env": "C=$S\n"},
        environ={"S": "shell"},
    )
    assert loaded.stack.services["web"].environment == {
        "A": "own",
        "B": "shell",
        "C": "$S",
        "S": "shell",
        "U": None,
    }


def test_a_missing_env_file_is_an_error_where_it_is_named(problems):
    (problem,) = problems("services:\n  web:\n    image: x\n    env_file: no.env\n")
    assert (problem.line, problem.message) == (4, "no.env: env file not found")


def test_labels_go_over_label_files(loader):
    loaded = loader(
        "services: {web: {image: x, label_file: l, labels: [a=own]}}",
        also={"l": "a=file\nb=file\n"},
    )
    assert loaded.stack.services["web"].labels == {"a": "own", "b": "file"}


def test_the_value_of_a_variable_reaches_secrets_and_configs(loader):
    loaded = loader(
        """
        services: {web: {image: x, secrets: [s], configs: [c]}}
        secrets: {s: {environment: TOKEN}}
        configs: {c: {content: "hello $TOKEN"}}
        """,
        environ={"TOKEN": "t"},
    )
    assert loaded.stack.secrets["s"].content == "t"
    assert loaded.stack.configs["c"].content == "hello t"
    assert "content" not in loaded.tree["secrets"]["s"]
    assert "'t'" not in repr(loaded.stack.secrets["s"])


# extends, include, reset ---------------------------------------------------------------------------------------------


def test_a_service_extends_another_of_its_file_and_of_another(loader):
    loaded = loader(
        """
        services:
          base: {image: x, environment: {A: 1}, cap_add: [A]}
          web:
            extends: base
            environment: {B: 2}
            cap_add: [B]
          far:
            extends: {file: sub/other.yaml, service: far}
        """,
        also={
            "sub/other.yaml": "services: {near: {image: n, volumes: ['./data:/d']}, far: {extends: near}}"
        },
    )
    web, far = loaded.stack.services["web"], loaded.stack.services["far"]
    assert web.environment == {"A": "1", "B": "2"}
    assert web.cap_add == ("A", "B")
    assert far.image == "n"
    (mount,) = far.volumes
    assert isinstance(mount, BindMount)
    assert mount.source == f"{loaded.working_dir}/sub/data"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "services: {a: {extends: b}, b: {extends: a}}",
            "extends goes in a circle: a (stack.yaml) -> b",
        ),
        ("services: {a: {extends: a}}", "extends goes in a circle"),
        (
            "services: {a: {image: x, extends: nope}, nop: {image: y}}",
            'service "nope" is not defined',
        ),
        ("services: {a: {extends: {file: no.yaml, service: x}}}", "no.yaml: No such file"),
        ("services: {a: {extends: }}", "extends names no service"),
        ("services: {a: {extends: {file: x}}}", 'extends needs a "service"'),
        ("services: {a: {extends: {service: 1}}}", "extends takes names"),
        ("services: {a: {extends: {file: oci://x/y, service: s}}}", "cannot be reached"),
    ],
)
def test_a_wrong_extends_is_one_mistake(problems, text, message):
    found = problems(text)
    assert len([problem for problem in found if message in problem.message]) >= 1
    assert all(problem.line == 1 for problem in found)


def test_a_circle_through_files_is_found(problems):
    found = problems(
        "services: {a: {extends: {file: b.yaml, service: b}}}",
        also={"b.yaml": "services: {b: {extends: {file: stack.yaml, service: a}}}"},
    )
    assert any("circle" in problem.message for problem in found)


def test_an_included_file_has_its_own_directory_and_variables(loader):
    loaded = loader(
        """
        include:
          - sub/inner.yaml
          - {path: [other/a.yaml, other/b.yaml], env_file: my.env, project_directory: .}
        services: {web: {image: x, depends_on: [inner]}}
        """,
        also={
            "sub/inner.yaml": "services: {inner: {image: 'i:${TAG}', build: ctx, volumes: ['./d:/d']}}",
            "sub/.env": "TAG=sub\n",
            "other/a.yaml": "services: {other: {image: 'o:${TAG}', build: ctx}}",
            "other/b.yaml": "services: {other: {user: me}}",
            "my.env": "TAG=mine\n",
        },
    )
    inner, other = loaded.stack.services["inner"], loaded.stack.services["other"]
    assert inner.image == "i:sub"
    assert inner.build is not None
    assert inner.build.context == f"{loaded.working_dir}/sub/ctx"
    assert (other.image, other.user) == ("o:mine", "me")
    assert other.build is not None
    assert other.build.context == f"{loaded.working_dir}/ctx"


@pytest.mark.parametrize(
    ("text", "also", "message"),
    [
        ("include: [b.yaml]\n", {"b.yaml": "include: [stack.yaml]\n"}, "include goes in a circle"),
        ("include: [no.yaml]\n", {}, "no.yaml: No such file"),
        ("include: no.yaml\n", {}, "include must be a list"),
        ("include: [{path: 5}]\n", {}, "include[0].path"),
        ("include: [{}]\n", {}, "include names no path"),
        (
            "include: [b.yaml]\nservices: {a: {image: x}}\n",
            {"b.yaml": "services: {a: {image: y}}"},
            "services.a is defined here and differently by an included file",
        ),
        ("include: [b.yaml]\n", {"b.yaml": "services: {a: {imge: y}}"}, 'unknown key "imge"'),
    ],
)
def test_a_wrong_include_is_told(problems, text, also, message):
    found = problems(text, also=also)
    assert any(message in problem.message for problem in found)


def test_reset_removes_and_override_replaces(loader):
    loaded = loader(
        "services: {web: {image: x, ports: ['80:80'], environment: {A: 1, B: 2}, dns: [1.1.1.1]}}",
        also={
            "o.yaml": """
                services:
                  web:
                    ports: !reset []
                    environment: {A: !reset null}
                    dns: !override [8.8.8.8]
            """
        },
        files=["stack.yaml", "o.yaml"],
    )
    web = loaded.stack.services["web"]
    assert (web.ports, web.environment, web.dns) == ((), {"B": "2"}, ("8.8.8.8",))


def test_a_value_missing_because_of_a_reset_is_told_where_it_was_reset(problems):
    (problem,) = problems(
        MINIMAL,
        also={"o.yaml": "services:\n  web:\n    image: !reset null\n"},
        files=["stack.yaml", "o.yaml"],
    )
    assert (problem.path, problem.line) == ("o.yaml", 3)


# Profiles and selection ----------------------------------------------------------------------------------------------

PROFILES = """
services:
  web: {image: x, depends_on: [db]}
  db: {image: x}
  debug: {image: x, profiles: [debug], depends_on: [web]}
  other: {image: x, networks: [lonely]}
networks: {lonely: }
"""


def test_profiles_switch_services_on(loader):
    assert list(loader(PROFILES).stack.services) == ["db", "other", "web"]
    assert list(loader(PROFILES).stack.disabled_services) == ["debug"]
    assert "debug" in loader(PROFILES, profiles=["debug"]).stack.services
    assert "debug" in loader(PROFILES, profiles=["*"]).stack.services
    assert "debug" in loader(PROFILES, environ={"COMPOSE_PROFILES": "a, debug"}).stack.services


def test_selecting_a_service_takes_what_it_needs_and_its_profile(loader):
    loaded = loader(PROFILES, services=["debug"])
    assert list(loaded.stack.services) == ["db", "debug", "web"]
    assert list(loaded.stack.networks) == ["default"]
    alone = loader(PROFILES, services=["debug"], with_dependencies=False)
    assert list(alone.stack.services) == ["debug"]
    assert alone.stack.services["debug"].depends_on == {}


def test_an_unknown_service_is_refused_with_a_suggestion(problems):
    (problem,) = problems(PROFILES, services=["dbeug"])
    assert (problem.message, problem.hint) == ("no such service: dbeug", 'did you mean "debug"?')


def test_unused_resources_are_left_out_unless_asked_for(loader):
    text = MINIMAL + "volumes: {v: }\n"
    assert loader(text).stack.volumes == {}
    assert list(loader(text, all_resources=True).stack.volumes) == ["v"]


# Checks --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "line", "message"),
    [
        ("web: {}", 3, "has neither an image nor a build context"),
        ("web: {image: x, networks: [n]}", 3, 'refers to network "n", which is not defined'),
        ("web: {image: x, volumes: ['vol:/v']}", 3, 'refers to volume "vol", which is not defined'),
        ("web: {image: x, secrets: [s]}", 3, 'refers to secret "s", which is not defined'),
        ("web: {image: x, configs: [c]}", 3, 'refers to config "c", which is not defined'),
        ("web: {image: x, models: [m]}", 3, 'refers to model "m", which is not defined'),
        ("web: {image: x, links: [db]}", 3, 'depends on "db", which is not defined'),
        ("web: {image: x, network_mode: 'service:db'}", 3, 'depends on "db", which is not defined'),
        ("web: {image: x, volumes_from: [db]}", 3, 'depends on "db", which is not defined'),
        ("web: {image: x, network_mode: host, networks: [default]}", 3, "exclude each other"),
        ("web: {image: x, depends_on: [web]}", 3, "dependency cycle: web -> web"),
        ("web: {image: x, healthcheck: {test: [curl]}}", 3, "must start with CMD"),
        ("web: {image: x, scale: 2, container_name: w1}", 3, "does not go with 2 replicas"),
        ("web: {image: x, scale: -1}", 3, "must not be negative"),
        ("web: {image: x, scale: 1, deploy: {replicas: 2}}", 3, "distinct values"),
        (
            "web: {image: x, mem_limit: 1g, deploy: {resources: {limits: {memory: 2g}}}}",
            3,
            "distinct values",
        ),
        ("web: {image: x, tmpfs: /a, volumes: ['./b:/a']}", 3, "/a is mounted twice"),
        ("web: {build: {dockerfile_inline: x, dockerfile: y}}", 3, "exclude each other"),
        ("web: {build: {platforms: [a]}, platform: b}", 3, "must include the platform b"),
        ("web: {build: {additional_contexts: {c: 'service:no'}}}", 3, 'refers to service "no"'),
        (
            "web: {image: x, develop: {watch: [{path: a, action: sync}]}}",
            3,
            'needs a "target" to sync',
        ),
        (
            "web: {image: x, volumes: [{type: bind, target: /a}]}",
            3,
            'a bind mount needs a "source"',
        ),
        ("web: {image: x, ports: [{target: 80, host_ip: nope}]}", 3, "'nope' is not an IP address"),
        ("web: {image: x, ports: ['99999:80']}", 3, "'99999' is not a host port"),
        ("web: {image: x, ports: ['80-82:80-81']}", 3, "differ in length"),
        ("web: {image: x, ports: ['::1:80:80']}", 3, "needs brackets"),
        ("web: {image: x, mem_limit: lots}", 3, "'lots' is not a size"),
        ("web: {image: x, stop_grace_period: soon}", 3, "'soon' is not a duration"),
        ("web: {image: x, volumes: ['vol:bb:cc:dd']}", 3, "too many colons"),
        ('web: {image: x, command: "a \'b"}', 3, "not closed"),
        ("web: {image: x, extra_hosts: [nope]}", 3, "has no address"),
        ("web: {image: x, environment: ['A =1']}", 3, "ends in a space"),
        ("web: {image: x, devices: ['a:b:c:d']}", 3, "too many colons"),
        ("web: {image: x, gpus: [{count: 1, device_ids: [a]}]}", 3, "exclude each other"),
        ("web: {image: x, ports: [{published: '80'}]}", 3, 'a port needs a "target"'),
    ],
)
def test_a_contradiction_is_explained_where_it_stands(problems, body, line, message):
    found = problems(f"# a comment\nservices:\n  {body}\n")
    assert any(message in problem.message and problem.line == line for problem in found), found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("secrets: {s: {}}", "one of file, environment must be set"),
        ("secrets: {s: {file: a, environment: B}}", "only one of file, environment may be set"),
        (
            "configs: {c: {file: a, content: b}}",
            "only one of file, environment, content may be set",
        ),
        ("volumes: {v: {external: true, driver: x}}", '"driver" has no effect beside "external"'),
        ("volumes: {v: {external: {name: a}, name: b}}", "name and external.name conflict"),
    ],
)
def test_a_resource_that_contradicts_itself_is_refused(problems, text, message):
    found = problems(MINIMAL + text)
    assert message in found[0].message


def test_a_cycle_is_told_once_with_its_path(problems):
    (problem,) = problems(
        "services:\n  a: {image: x, depends_on: [b]}\n  b: {image: x, depends_on: [c]}\n"
        "  c: {image: x, depends_on: [a]}\n"
    )
    assert problem.message == "dependency cycle: a -> b -> c -> a"
    assert problem.line == 4


def test_a_container_name_used_twice_is_refused(problems):
    (problem,) = problems(
        "services:\n  a: {image: x, container_name: n1}\n  b: {image: x, container_name: n1}\n"
    )
    assert 'the container name n1 is taken by service "a"' in problem.message
    assert problem.line == 3


def test_what_refers_to_a_wrong_element_is_not_wrong_itself(problems):
    (problem,) = problems(
        """
        services:
          web: {image: x, networks: [n], depends_on: [db]}
          db: 5
        networks: {n: }
        """
    )
    assert problem.where == "services.db"


@pytest.mark.parametrize(
    ("text", "doubt"),
    [
        (
            "services:\n  a: {image: x, ports: ['80:80']}\n  b: {image: x, ports: ['127.0.0.1:80:1']}\n",
            'stack.yaml:3:25: service "b": port 80 of the host is claimed already by service "a"',
        ),
        (
            """services: {a: {image: x, networks: {n: {ipv4_address: 10.9.0.1}}}}
networks: {n: {ipam: {config: [{subnet: 10.1.0.0/16}]}}}
""",
            'stack.yaml:1:55: service "a": 10.9.0.1 is outside of 10.1.0.0/16',
        ),
        (
            "services: {a: {image: x, networks: [n]}}\nnetworks: {n: {ipam: {config: [{subnet: nope}]}}}\n",
            "stack.yaml:2:41: network \"n\": 'nope' is not a subnet",
        ),
    ],
)
def test_what_compose_accepts_and_cannot_work_is_a_doubt_and_a_warning(loader, text, doubt):
    loaded = loader(text)
    assert [str(problem).splitlines()[0] for problem in loaded.doubts] == [doubt]
    assert len(loaded.warnings) == 1


def test_a_port_on_two_addresses_or_protocols_is_no_conflict(loader):
    text = "services: {a: {image: x, ports: ['127.0.0.1:80:80', '127.0.0.2:80:80', '80:80/udp', '80']}}"
    assert loader(text).doubts == ()


# The typed stack -----------------------------------------------------------------------------------------------------


def test_everything_reaches_the_stack_in_its_type(loader):
    web = loader(
        """
        services:
          web:
            build: {context: ./ctx, args: [A=1, NOPE], secrets: [s], ulimits: {nofile: 5}}
            command: run "a b"
            ports: ["127.0.0.1:8080-8081:80-81", "90/udp"]
            volumes: ["./src:/src:ro", "data:/data", "/anon", {type: tmpfs, target: /t, tmpfs: {size: 1m}}]
            networks: {front: {aliases: [w]}, back: }
            depends_on: {db: {condition: service_healthy, restart: true}}
            healthcheck: {test: curl localhost, interval: 1m30s, retries: 3}
            deploy: {replicas: 2, resources: {limits: {cpus: "0.5", memory: 64M}}}
            secrets: [{source: s, mode: "0400"}]
            stop_grace_period: 1m
            mem_limit: 64m
            memswap_limit: -1
            ulimits: {nofile: {soft: 1, hard: 2}}
            extra_hosts: {h: 1.2.3.4}
            x-note: kept
          db: {image: y}
        networks: {front: {name: f, internal: true}, back: {external: true}}
        volumes: {data: {labels: [a=b]}}
        secrets: {s: {file: ./s}}
        """
    ).stack
    service = web.services["web"]
    assert service.command == ("run", "a b")
    assert service.build is not None
    assert (service.build.context, service.build.args) == (f"{web.working_dir}/ctx", {"A": "1"})
    assert [(p.host_ip, p.published, p.target, p.protocol) for p in service.ports] == [
        ("127.0.0.1", "8080", 80, "tcp"),
        ("127.0.0.1", "8081", 81, "tcp"),
        ("", "", 90, "udp"),
    ]
    assert service.volumes == (
        BindMount(source=f"{web.working_dir}/src", target="/src", read_only=True),
        VolumeMount(source="data", target="/data"),
        VolumeMount(source="", target="/anon"),
        TmpfsMount(target="/t", size=1 << 20),
    )
    assert service.networks["front"].aliases == ("w",)
    assert service.depends_on == {"db": Dependency(condition="service_healthy", restart=True)}
    assert service.healthcheck is not None
    assert service.healthcheck.test == ("CMD-SHELL", "curl localhost")
    assert service.healthcheck.interval == 90.0
    assert service.scale == 2
    assert service.deploy is not None
    assert service.deploy.limits is not None
    assert (service.deploy.limits.cpus, service.deploy.limits.memory) == (0.5, 64 << 20)
    assert (service.secrets[0].mode, service.secrets[0].target) == (0o400, "/run/secrets/s")
    assert (service.stop_grace_period, service.mem_limit, service.memswap_limit) == (
        60.0,
        64 << 20,
        -1,
    )
    assert (service.ulimits["nofile"].soft, service.ulimits["nofile"].hard) == (1, 2)
    assert service.extra_hosts == ("h=1.2.3.4",)
    assert service.extensions == {"x-note": "kept"}
    assert (web.networks["front"].name, web.networks["front"].internal) == ("f", True)
    assert (web.networks["back"].name, web.networks["back"].external) == ("back", True)
    assert web.volumes["data"].name == "app_data"
    assert web.secrets["s"].file == f"{web.working_dir}/s"
    assert web.service_tree("db") == {
        "command": None,
        "entrypoint": None,
        "image": "y",
        "networks": {"default": None},
    }


# Output --------------------------------------------------------------------------------------------------------------

RICH = """
name: rich
x-top: {a: [], b: $$c}
services:
  web:
    image: "a:1"
    command: echo $$HOME "two words"
    entrypoint: []
    environment: {A: "yes", B: "1", C: , D: "multi\\nline\\n", E: "$$x", "$$k": v}
    labels: {x: "null", y: "0x1", z: "2001-01-01"}
    blkio_config: {weight: 10, device_read_bps: [{path: /d, rate: 1k}]}
    healthcheck: {test: ["CMD", "x"], interval: 90s}
    ports: ["8080:80", "90"]
    volumes: ["./a:/a", "v:/v:nocopy"]
    networks: {n: {x-end: 1}}
    deploy: {placement: {constraints: [a == b]}}
    x-service: {deep: [1, {two: 3}]}
    models: [m]
    pull_refresh_after: 2h
  db: {build: {dockerfile: "${NONE:-}"}}
networks: {n: {ipam: {options: {a: b}, config: [{subnet: 10.0.0.0/8}]}}}
volumes: {v: }
models: {m: {model: ai/m}}
"""


def test_yaml_output_read_again_gives_the_same_output(loader):
    first = dump.to_yaml(loader(RICH))
    second = dump.to_yaml(loader(first))
    assert second == first
    assert "x-service" in first
    for kept in ("x-end: 1", "pull_refresh_after: 2h", "a: b"):
        assert kept in first


def test_json_output_has_no_inner_extensions_and_doubles_dollars(loader):
    tree = tree_of(loader(RICH))
    assert tree["x-top"] == {"a": None, "b": "$$c"}
    web = tree["services"]["web"]
    assert "x-service" not in web
    assert web["command"] == ["echo", "$$HOME", "two words"]
    assert web["entrypoint"] == []
    assert tree["services"]["db"]["command"] is None


def test_without_interpolation_variables_stay(loader):
    loaded = loader(
        "services: {web: {image: 'i:${TAG:-x}', ports: ['${P}:80']}}", interpolate=False
    )
    web = loaded.tree["services"]["web"]
    assert web["image"] == "i:${TAG:-x}"
    assert [(v.name, v.default) for v in variables(loaded.marked)] == [("P", ""), ("TAG", "x")]


def test_without_path_resolution_paths_stay_relative(loader):
    loaded = loader("services: {web: {build: ctx, volumes: ['./a:/a']}}", resolve_paths=False)
    web = loaded.tree["services"]["web"]
    assert web["build"]["context"] == "ctx"
    assert web["volumes"][0]["source"] == "./a"


def test_the_origin_of_a_value_is_explained(loader):
    loaded = loader(
        "services:\n  web:\n    image: a\n",
        also={"o.yaml": "services:\n  web:\n\n    image: b:${TAG}\n"},
        files=["stack.yaml", "o.yaml"],
        environ={"TAG": "1"},
    )
    origin = explain(loaded, "services.web.image")
    assert (origin.value, origin.path, origin.line, origin.variables) == (
        "b:1",
        "o.yaml",
        4,
        ("TAG",),
    )


def test_loading_leaves_the_interpreter_as_it_was(loader):
    import gc
    import sys

    limit = sys.getrecursionlimit()
    with pytest.raises(StackFileError):
        loader("services: {a: {}}")
    assert sys.getrecursionlimit() == limit
    assert gc.isenabled()


# Hostile input ------------------------------------------------------------------------------------------------------

HOSTILE = {
    "references nested deeper": "services: {a: {image: x, labels: {a: '"
    + "${A:-" * 50_000
    + "}" * 50_000
    + "'}}}",
    "variables expand to more than": "services: {a: {image: x, labels: {a: '"
    + "${BIG}" * 5_000
    + "'}}}",
    "extends goes deeper": "services:\n"
    + "\n".join(f"  s{n}: {{extends: s{n + 1}}}" for n in range(1000))
    + "\n  s1000: {image: x}",
    "dependency cycle": "services:\n"
    + "\n".join(f"  s{n}: {{image: x, depends_on: [s{(n + 1) % 1000}]}}" for n in range(1000)),
    "unknown key": "services:\n" + "\n".join(f"  s{n}: {{imag: x}}" for n in range(2000)),
    "more than 65536 ports": "services: {a: {image: x, ports: ['1-65535:1-65535', '1-65535/udp']}}",
    "embedded null byte": 'services: {a: {image: x, env_file: "a\\0b"}}',
}


@pytest.mark.parametrize("message", HOSTILE)
def test_a_hostile_stack_ends_soon_in_a_mistake(problems, message):
    started = time.monotonic()
    found = problems(HOSTILE[message], environ={"BIG": "x" * 100_000})
    assert any(message in problem.message for problem in found)
    assert time.monotonic() - started < 5


def test_includes_that_multiply_are_stopped(problems):
    many = "include: [" + ", ".join(["{}.yaml"] * 60) + "]\n"
    found = problems(
        many.replace("{}", "b"),
        also={"b.yaml": many.replace("{}", "c"), "c.yaml": "services: {z: {image: x}}"},
    )
    assert "files take part" in found[0].message


def test_a_deep_extension_passes_through(loader):
    text = "x-a: " + "[" * 900 + "1" + "]" * 900 + "\nservices: {a: {image: x}}\n"
    loaded = loader(text)
    assert dump.to_json(loaded).count("[") >= 900
    assert dump.to_yaml(loader(dump.to_yaml(loaded))) == dump.to_yaml(loaded)


def test_an_extension_that_json_cannot_hold_is_refused(loader):
    with pytest.raises(InvalidInputError, match="nan"):
        dump.to_json(loader("x-a: .nan\n" + MINIMAL))


MUTATIONS = st.lists(
    st.tuples(
        st.integers(0, 60),
        st.sampled_from(
            [
                "",
                "null",
                "1",
                "-1",
                "1.5",
                "true",
                "abc",
                "[]",
                "{}",
                "[1]",
                "[{}]",
                "{a: b}",
                "'${A}'",
                "'$'",
            ]
        ),
    ),
    min_size=1,
    max_size=4,
)


@settings(
    max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(MUTATIONS)
def test_a_stack_with_any_wrong_values_is_read_or_refused(tmp_path, changes):
    lines = RICH.splitlines()
    for place, value in changes:
        index = place % len(lines)
        key, colon, _ = lines[index].partition(": ")
        if colon:
            lines[index] = f"{key}: {value}"
    (tmp_path / "stack.yaml").write_text("\n".join(lines))
    try:
        loaded = load(LoadOptions(environ={"XDG_CACHE_HOME": str(tmp_path)}, cwd=str(tmp_path)))
    except StackFileError as error:
        assert error.problems  # noqa: PT017 - both outcomes are fine
        return
    assert loaded.stack.name == loaded.name
    assert dump.to_json(loaded)


def test_variables_left_in_place_print_as_they_are_and_have_no_stack(loader):
    text = "services: {web: {image: 'i:${TAG:-x}', scale: '${N}'}}"
    loaded = loader(text, interpolate=False)
    assert "image: i:${TAG:-x}" in dump.to_yaml(loaded)
    assert '"scale": "${N}"' in dump.to_json(loaded)
    with pytest.raises(InvalidInputError, match="variables"):
        _ = loaded.stack
