"""The output, read again, gives the same output."""

import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stackctl.orchestrator.stackfile import dump
from stackctl.orchestrator.stackfile.load import LoadOptions, load

TEXT = st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=12)
AWKWARD = st.sampled_from(
    [
        "yes",
        "null",
        "~",
        "0x1",
        "1_000",
        "1e3",
        "2001-01-01",
        "<<",
        "$",
        "${A}",
        "$$",
        "a: b",
        "# x",
        "- y",
        " lead",
        "trail ",
        "'",
        '"',
        "é",
        "😀",
        "!tag",
        "&a",
        "*a",
        "{",
        "[",
        "%",
    ]
)
MULTILINE = st.sampled_from(
    ["multi\nline", "multi\nline\n\n", "\n", "\ttab", "a\u2028b", "\x85", "\ufeff"]
)
VALUES = st.one_of(TEXT, AWKWARD, MULTILINE)
NAMES = st.text(alphabet="abcXYZ019_.-", min_size=1, max_size=6)
LABELS = st.dictionaries(NAMES, VALUES, max_size=3)
DURATIONS = st.integers(0, 10**14).map(lambda ns: f"{ns}ns")
PORTS = st.builds(
    "{}{}:{}/{}".format,
    st.sampled_from(["", "127.0.0.1:", "[::1]:"]),
    st.integers(1, 65535),
    st.integers(1, 65535),
    st.sampled_from(["tcp", "udp"]),
)
MOUNTS = st.sampled_from(
    [
        "./src:/src",
        "vol:/vol:ro",
        "/abs:/abs:z,ro",
        "~/home:/home",
        "/anonymous",
        "vol:/copy:nocopy",
    ]
)
SERVICES = st.fixed_dictionaries(
    {"image": st.just("x")},
    optional={
        "command": st.one_of(st.lists(VALUES, max_size=3), st.none()),
        "entrypoint": st.lists(VALUES, max_size=2),
        "environment": st.dictionaries(
            NAMES, st.one_of(VALUES, st.integers(), st.booleans(), st.none()), max_size=3
        ),
        "labels": LABELS,
        "annotations": LABELS,
        "build": st.fixed_dictionaries(
            {}, optional={"context": st.just("ctx"), "args": LABELS, "target": NAMES}
        ),
        "healthcheck": st.fixed_dictionaries(
            {"test": st.lists(VALUES, max_size=2).map(lambda words: ["CMD", *words])},
            optional={
                "interval": DURATIONS,
                "retries": st.integers(0, 9),
                "disable": st.booleans(),
            },
        ),
        "ports": st.lists(PORTS, max_size=2, unique=True),
        "volumes": st.lists(MOUNTS, max_size=3, unique=True),
        "mem_limit": st.integers(0, 2**50),
        "cpus": st.floats(0, 64, allow_nan=False),
        "scale": st.integers(0, 3),
        "extra_hosts": st.dictionaries(
            st.text(alphabet="abc", min_size=1), st.just("10.0.0.1"), max_size=2
        ),
        "ulimits": st.dictionaries(
            st.sampled_from(["nofile", "nproc"]),
            st.one_of(
                st.integers(1, 9),
                st.fixed_dictionaries({"soft": st.integers(1, 9), "hard": st.integers(1, 9)}),
            ),
        ),
        "networks": st.dictionaries(
            st.sampled_from(["front", "back"]),
            st.one_of(
                st.none(),
                st.fixed_dictionaries({"aliases": st.lists(NAMES, max_size=2, unique=True)}),
            ),
        ),
        "tty": st.booleans(),
        "stop_grace_period": DURATIONS,
        "x-note": st.recursive(VALUES, lambda inner: st.lists(inner, max_size=2), max_leaves=3),
    },
)


def escaped(value):
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, dict):
        return {key: escaped(item) for key, item in value.items()}
    return [escaped(item) for item in value] if isinstance(value, list) else value


def loaded(directory, text):
    (directory / "stack.yaml").write_text(text, encoding="utf-8")
    environ = {"HOME": str(directory), "XDG_CACHE_HOME": str(directory / "cache")}
    return load(LoadOptions(environ=environ, cwd=str(directory), all_resources=True))


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), SERVICES, min_size=1))
def test_output_read_again_gives_the_same_output(tmp_path, services):
    stack = {
        "services": services,
        "networks": {"front": None, "back": {}},
        "volumes": {"vol": None},
    }
    text = json.dumps(escaped(stack), ensure_ascii=False)
    text = dump._UNREADABLE.sub(lambda match: f"\\u{ord(match.group()):04x}", text)
    first = loaded(tmp_path, text)
    as_yaml, as_json = dump.to_yaml(first), dump.to_json(first)
    assert dump.to_yaml(loaded(tmp_path, as_yaml)) == as_yaml
    assert dump.to_json(loaded(tmp_path, as_json)) == as_json
    assert dump.to_json(loaded(tmp_path, as_yaml)) == as_json
    for name, service in services.items():
        assert first.stack.services[name].command == (
            None if service.get("command") is None else tuple(service["command"])
        )
