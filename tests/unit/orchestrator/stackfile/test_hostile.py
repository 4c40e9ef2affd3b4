"""Hostile stack files, each in a process of its own: one clear error, soon, in little memory."""

import json
import os
import subprocess
import sys
import textwrap

import pytest

MEMORY = 200 << 20
# The promise is one second; a loaded machine gets more.
CPU_SECONDS = 5.0

PROBE = """
import json, re, resource, sys
from stackctl.cli.main import run
code = run(["config", "-q"])
status = open("/proc/self/status").read()
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({
    "code": code,
    "memory": int(re.search(r"VmHWM:\\s+(\\d+)", status)[1]) << 10,
    "cpu": used.ru_utime + used.ru_stime,
}))
"""
SERVICE = "services: {a: {image: x}}\n"


def laughs(levels, width):
    lines = ["x-l:", "  l0: &l0 [lol]"]
    lines += [f"  l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * width)}]" for n in range(1, levels)]
    return "\n".join(lines) + f"\n{SERVICE}"


def laughing_maps(levels):
    lines = ["x-l:", "  m0: &m0 {a: 1}"]
    lines += [f"  m{n}: &m{n} {{x: *m{n - 1}, y: *m{n - 1}}}" for n in range(1, levels)]
    return "\n".join(lines) + f"\n{SERVICE}"


def service(lines):
    return "services:\n  a:\n    image: x\n" + textwrap.indent(lines, "    ")


def many(template, count):
    return "services:\n" + "".join(
        f"  {template.format(n=n, m=(n + 1) % count)}\n" for n in range(count)
    )


def expanding(count):
    return "A0=xxxxxxxxxx\n" + "".join(
        f"A{n}=" + f"${{A{n - 1}}}" * 10 + "\n" for n in range(1, count)
    )


LABELS = "".join(f"      l{n}: x\n" for n in range(10_000))

# What the error says -> the file, or files by name.
HOSTILE = {
    "billion laughs": (lambda: laughs(30, 9), "aliases expand this file"),
    "wide laughs": (lambda: laughs(3000, 50), "aliases expand this file"),
    "laughing maps": (lambda: laughing_maps(40), "aliases expand this file"),
    "a list that holds itself": (lambda: f"x-a: &a [*a]\n{SERVICE}", 'the anchor "a" contains'),
    "a mapping that merges itself": (lambda: f"x-a: &a {{<<: *a}}\n{SERVICE}", 'the anchor "a"'),
    "open brackets": (lambda: "x-a: " + "[" * 2_000_000, "nested deeper than 1000"),
    "nested mappings": (lambda: "x-a: " + "{a: " * 1_000_000, "nested deeper than 1000"),
    "nested dashes": (lambda: "x-a:\n " + "- " * 2_000_000, "nested deeper than 1000"),
    "deep indentation": (
        lambda: "x-a:\n" + "\n".join(f"{' ' * n}a:" for n in range(1, 3000)),
        "nested deeper than 1000",
    ),
    "a huge scalar": (lambda: "x-a: " + "a" * 30_000_000, "larger than 10 MiB"),
    "a huge number": (lambda: service("scale: " + "9" * 1_000_000), "expected an integer"),
    "a huge word": (lambda: service("stop_grace_period: '" + "1s" * 2_000_000 + "'"), "a duration"),
    "a huge key": (lambda: service("? " + "imag" * 500_000 + "\n: 1"), "unknown key"),
    "values without number": (lambda: "x-a: [" + "a," * 4_000_000 + "]", "values in one file"),
    "documents without number": (lambda: ("---\n" + SERVICE) * 5000, "more than 100 documents"),
    "variables in variables": (
        lambda: service("labels: {a: '" + "${A:-" * 100_000 + "}" * 100_000 + "'}"),
        "references nested deeper",
    ),
    "variables without number": (
        lambda: service("labels: {a: '" + "${A}" * 1_000_000 + "'}"),
        "variables and $$",
    ),
    "dollars without number": (lambda: service("labels: {a: '" + "$" * 4_000_000 + "'}"), "$$"),
    "variables that grow": (
        lambda: {"compose.yaml": SERVICE, ".env": expanding(30)},
        "variables expand to more than",
    ),
    "extends itself": (lambda: "services: {a: {extends: a}}", "extends goes in a circle"),
    "extends in a wide circle": (
        lambda: many("s{n}: {{image: x, extends: s{m}}}", 3000),
        "extends goes deeper",
    ),
    "extends in a circle of files": (
        lambda: {
            "compose.yaml": "services: {a: {extends: {file: b.yaml, service: b}}}",
            "b.yaml": "services: {b: {extends: {file: compose.yaml, service: a}}}",
        },
        "extends goes in a circle",
    ),
    "extends that multiplies": (
        lambda: (
            f"services:\n  base:\n    image: x\n    labels:\n{LABELS}"
            + "".join(f"  s{n}: {{extends: base}}\n" for n in range(2000))
        ),
        "extends copies more than",
    ),
    "includes itself": (lambda: f"include: [compose.yaml]\n{SERVICE}", "include goes in a circle"),
    "includes that multiply": (
        lambda: {
            "compose.yaml": f"include: [{','.join(['b.yaml'] * 60)}]\n{SERVICE}",
            "b.yaml": f"include: [{','.join(['c.yaml'] * 60)}]\n",
            "c.yaml": "services: {z: {image: x}}",
        },
        "files take part",
    ),
    "includes that weigh": (
        lambda: {
            "compose.yaml": f"include: [{','.join(['b.yaml'] * 1000)}]\n{SERVICE}",
            "b.yaml": "x-a: " + "a" * 2_000_000,
        },
        "the files together are larger",
    ),
    "a file without end": (lambda: f"include: [/dev/zero]\n{SERVICE}", "larger than 10 MiB"),
    "an env file without end": (lambda: service("env_file: /dev/zero"), "larger than 4 MiB"),
    "a NUL byte": (lambda: b"services: {a: {image: 'x\0'}}", "a NUL byte may not stand here"),
    "nothing but NUL": (lambda: b"\0" * 5_000_000, "a NUL byte"),
    "a path with NUL": (lambda: service('env_file: "a\\0b"'), "embedded null byte"),
    "Latin-1": (lambda: "services: {a: {image: café}}".encode("latin-1"), ":1:26: not UTF-8 text"),
    "UTF-16 without its mark": (lambda: SERVICE.encode("utf-16-le"), "a NUL byte"),
    "UTF-32": (lambda: SERVICE.encode("utf-32"), "a NUL byte"),
    "half a surrogate": (lambda: b"services: {a: {image: \xed\xa0\x80}}", "not UTF-8 text"),
    "no text at all": (lambda: bytes(range(256)) * 1000, "not UTF-8 text"),
    "an object of Python": (
        lambda: "services: {a: {image: !!python/object/apply:os.system [id]}}",
        "!!python/object/apply:os.system",
    ),
    "names without number": (
        lambda: many("s{n}: {{image: x, networks: [m{n}], depends_on: [d{n}]}}", 4000),
        "which is not defined",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_ends_soon_in_one_error_and_little_memory(tmp_path, name):
    make, message = HOSTILE[name]
    files = make()
    for path, text in (files if isinstance(files, dict) else {"compose.yaml": files}).items():
        (tmp_path / path).write_bytes(text if isinstance(text, bytes) else text.encode())
    done = subprocess.run(
        [sys.executable, "-c", PROBE],
        cwd=tmp_path,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    said = json.loads(done.stdout)
    assert said["code"] == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr) < 100_000
    assert said["memory"] < MEMORY
    assert said["cpu"] < CPU_SECONDS
