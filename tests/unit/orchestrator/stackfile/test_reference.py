"""The reference page."""

from stackctl.orchestrator.stackfile.reference import to_markdown
from stackctl.orchestrator.stackfile.schema import load_schema

PAGE = to_markdown()


def test_every_key_of_a_service_and_of_the_top_has_a_row():
    schema = load_schema()
    for name in schema["properties"]:
        assert f"| `{name}` |" in PAGE
    for name in schema["$defs"]["service"]["properties"]:
        assert f"| `services.NAME.{name}` |" in PAGE


def test_nested_keys_lists_and_choices_are_there():
    for path in (
        "services.NAME.build.context",
        "services.NAME.ports[].target",
        "services.NAME.networks.NAME.aliases",
        "services.NAME.depends_on.NAME.condition",
        "services.NAME.deploy.resources.limits.memory",
        "services.NAME.develop.watch[].action",
        "networks.NAME.ipam.config[].subnet",
    ):
        assert f"| `{path}` |" in PAGE, path


def test_a_row_tells_type_default_example_and_meaning():
    (row,) = [
        line
        for line in PAGE.splitlines()
        if line.startswith("| `services.NAME.stop_grace_period` ")
    ]
    assert row == (
        "| `services.NAME.stop_grace_period` | text | `10s` | `1m30s` | Time between the stop signal and the kill. |"
    )


def test_every_row_has_five_cells():
    rows = [line for line in PAGE.splitlines() if line.startswith("|")]
    assert len(rows) > 250
    assert {line.replace("\\|", "").count("|") for line in rows} == {6}
