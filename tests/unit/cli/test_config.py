"""config and validate, as the command line gives them: no engine takes part."""

import json

import pytest

from stackctl.cli import main

STACK = """\
name: demo
services:
  web:
    extends: {file: base.yaml, service: base}
    image: nginx:${TAG:-1}
    env_file: [web.env]
    ports: ["80:80"]
    networks: [front]
    models: [llm]
  job: {image: "job:${NEEDED:?}", profiles: [job], ports: ["80:80"]}
networks: {front: {}}
models: {llm: {model: ai/small}}
"""
BASE = "services:\n  base:\n    hostname: from-base\n    labels: {a: b}\n"
OVERRIDE = "services:\n  web:\n    user: ${WHO}\n"


@pytest.fixture
def stackctl(tmp_path, monkeypatch, capsys):
    """Run a command line in a directory that holds the files; return exit code, output and errors."""
    for name, text in {
        "stack.yaml": STACK,
        "base.yaml": BASE,
        "stack.override.yaml": OVERRIDE,
        "web.env": "\nCOLOUR=blue\n",
        ".env": "WHO=me\nNEEDED=1\n",
    }.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("TAG", "WHO", "NEEDED", "COMPOSE_FILE", "COMPOSE_PROJECT_NAME"):
        monkeypatch.delenv(name, raising=False)

    def run(*argv):
        code = main.run(list(argv))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_lists_are_one_name_a_line(stackctl):
    assert stackctl("config", "--services")[1] == "web\n"
    assert stackctl("config", "--networks")[1] == "front\n"
    assert stackctl("config", "--models")[1] == "ai/small\n"
    assert stackctl("config", "--profiles")[1] == "job\n"
    assert stackctl("config", "--images")[1] == "nginx:1\n"


def test_names_are_listed_though_variables_stay_in_place(stackctl):
    assert stackctl("config", "--no-interpolate", "--services")[1] == "web\njob\n"
    assert stackctl("config", "--no-interpolate", "--networks")[1] == "front\ndefault\n"
    assert stackctl("config", "--no-interpolate", "--profiles")[1] == "job\n"
    images = stackctl("config", "--no-interpolate", "--images")[1]
    assert sorted(images.splitlines()) == ["job:${NEEDED:?}", "nginx:${TAG:-1}"]


def test_what_is_implied_is_left_out_on_request(stackctl, tmp_path):
    (tmp_path / "plain.yaml").write_text("services: {a: {image: x}}\n")
    flags = ["--no-interpolate", "--no-normalize", "--format", "json"]
    assert "name" not in json.loads(stackctl("-f", "plain.yaml", "config", *flags)[1])
    yaml = stackctl("-f", "plain.yaml", "config")[1]
    assert "default" in yaml
    assert "ipam" not in yaml


def test_a_hash_is_told_for_one_service_or_all_and_changes_with_it(stackctl, monkeypatch):
    one = stackctl("config", "--hash", "web")[1]
    name, _, digest = one.strip().partition(" ")
    assert name == "web"
    assert len(bytes.fromhex(digest)) == 32
    assert stackctl("config", "--hash", "*")[1] == one
    monkeypatch.setenv("TAG", "2")
    assert stackctl("config", "--hash", "web")[1] != one
    code, _, errors = stackctl("config", "--hash", "wbe")
    assert code == 1
    assert 'did you mean "web"?' in errors


def test_variables_are_listed_with_their_defaults_though_required_ones_are_not_set(
    stackctl, tmp_path
):
    (tmp_path / ".env").write_text("")
    found = json.loads(stackctl("config", "--variables", "--format", "json")[1])
    assert found["TAG"] == {
        "Name": "TAG",
        "DefaultValue": "1",
        "PresenceValue": "",
        "Required": False,
    }
    assert found["NEEDED"]["Required"] is True
    assert stackctl("config", "--variables")[1].splitlines()[0].split()[:2] == ["NAME", "REQUIRED"]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("services.web.image", "stack.yaml:5:12\n  $TAG: not set here\n"),
        ("services.web.hostname", "base.yaml:3:15 (extends base of base.yaml)\n"),
        (
            "services.web.user",
            "stack.override.yaml:3:11 (merged over stack.yaml)\n  $WHO: .env:1\n",
        ),
        ("services.web.environment.COLOUR", "web.env:2:1 (env_file)\n"),
        ("services.web.ports[0].protocol", "stack.yaml:7:13 (implied)\n"),
    ],
)
def test_the_origin_of_a_value_names_file_line_step_and_variable(stackctl, path, said):
    code, output, _ = stackctl("config", "--explain", path)
    assert code == 0
    assert output.startswith(f"{path}: ")
    assert output.endswith(f"  {said}")


def test_the_origin_of_an_element_is_that_of_every_value_in_it(stackctl):
    found = json.loads(stackctl("config", "--explain", "services.web", "--format", "json")[1])
    assert {"services.web.image", "services.web.labels.a"} <= {one["where"] for one in found}


def test_the_shell_is_named_as_the_source_of_a_variable(stackctl, monkeypatch):
    monkeypatch.setenv("WHO", "shell")
    assert "$WHO: the environment" in stackctl("config", "--explain", "services.web.user")[1]


def test_unchecked_and_unread_things_stay_so_on_request(stackctl, tmp_path):
    (tmp_path / "stack.yaml").write_text("services: {a: {image: x, depends_on: [nobody]}}")
    (tmp_path / "stack.override.yaml").unlink()
    assert stackctl("config", "-q")[0] == 1
    assert stackctl("config", "-q", "--no-consistency")[0] == 0
    (tmp_path / "stack.yaml").write_text("services: {a: {image: x, env_file: [missing.env]}}")
    assert stackctl("config", "-q")[0] == 1
    assert stackctl("config", "-q", "--no-env-resolution")[0] == 0


def test_output_goes_to_a_file_on_request(stackctl, tmp_path):
    code, output, _ = stackctl("config", "-o", "out.yaml")
    assert (code, output) == (0, "")
    assert (tmp_path / "out.yaml").read_text() == stackctl("config")[1]


def test_the_reference_page_needs_no_stack(stackctl, tmp_path):
    (tmp_path / "stack.yaml").write_text("nonsense: [")
    code, output, _ = stackctl("config", "--reference")
    assert code == 0
    assert "| `services.NAME.image` |" in output


# validate ------------------------------------------------------------------------------------------------------------

WRONG = """\
services:
  a: {image: x, ports: ["80:80"], imge: y}
  b: {image: x, ports: ["80:80"]}
"""


def test_a_valid_stack_is_silent(stackctl):
    assert stackctl("validate") == (0, "", "")


def test_validate_counts_what_config_only_warns_of_and_tells_it_with_the_other_mistakes(
    stackctl, tmp_path
):
    (tmp_path / "wrong.yaml").write_text(WRONG)
    code, output, _ = stackctl("validate", "wrong.yaml")
    assert code == 1
    assert [line for line in output.splitlines() if line.startswith("wrong.yaml")] == [
        'wrong.yaml:2:35: services.a.imge: unknown key "imge" (services.a)',
        'wrong.yaml:3:25: service "b": port 80 of the host is claimed already by service "a"',
    ]
    (tmp_path / "wrong.yaml").write_text(WRONG.replace(", imge: y", ""))
    code, _, errors = stackctl("-f", "wrong.yaml", "config", "-q")
    assert code == 0
    assert "claimed already" in errors
    assert stackctl("-f", "wrong.yaml", "validate", "-q") == (1, "", "")


def test_mistakes_of_several_stacks_come_in_one_report(stackctl, tmp_path):
    (tmp_path / "wrong.yaml").write_text(WRONG)
    (tmp_path / "worse.yaml").write_text("services: {a: {}}")
    code, output, _ = stackctl("validate", "--format", "json", "wrong.yaml", "worse.yaml")
    assert code == 1
    assert [problem["path"] for problem in json.loads(output)] == [
        "wrong.yaml",
        "wrong.yaml",
        "worse.yaml",
    ]
    code, output, _ = stackctl("validate", "--format", "sarif", "wrong.yaml")
    (run,) = json.loads(output)["runs"]
    place = run["results"][0]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "wrong.yaml"
    assert place["region"] == {"startLine": 2, "startColumn": 35}


def test_a_valid_stack_gives_an_empty_report(stackctl):
    assert json.loads(stackctl("validate", "--format", "json")[1]) == []
    assert json.loads(stackctl("validate", "--format", "sarif")[1])["runs"][0]["results"] == []


@pytest.mark.parametrize("command", [["up", "-d"], ["plan"], ["create"]])
def test_what_cannot_work_is_refused_before_an_engine_is_asked(stackctl, tmp_path, command):
    (tmp_path / "wrong.yaml").write_text(WRONG.replace(", imge: y", ""))
    address = ("--engine", "unix:///nowhere/engine.sock", "-f", "wrong.yaml")
    code, _, errors = stackctl(*address, *command)
    assert code == 1
    assert errors.startswith("wrong.yaml:3:25: ")
    code, _, errors = stackctl(*address, *command, "a")
    assert code == 1
    assert "/nowhere/engine.sock" in errors


def test_digests_need_an_engine_and_say_so(stackctl):
    code, _, errors = stackctl(
        "--engine", "unix:///nowhere/engine.sock", "config", "--resolve-image-digests"
    )
    assert code == 1
    assert "cannot learn the digest of nginx:1" in errors
    assert "/nowhere/engine.sock" in errors
