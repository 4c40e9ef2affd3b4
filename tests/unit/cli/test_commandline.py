"""Plain command lines mean what typer takes them for; others are left to it."""

import importlib
import random
import subprocess
import sys

import pytest
import typer
from typer._click.exceptions import ClickException
from typer.main import get_command

from stackctl.cli import commandline, tree
from stackctl.cli.commandline import Form
from stackctl.cli.main import COMMANDS, options

# Groups of commands are left to typer, and "test", to which two dashes say more than to others.
PLAIN = sorted({*COMMANDS} - {"agent", "engine", "image", "test"})
SAMPLES = {str: ("x", "a=b", "-", "-5"), int: ("3", "-1", "007"), float: ("1.5", "2")}


def taken_by_typer(name: str, words: list[str]) -> dict | None:
    """Return the parameters as typer reads them, None where it does not."""
    group = get_command(tree.app)
    with group.make_context("stackctl", [name], resilient_parsing=True) as context:
        try:
            return group.get_command(context, name).make_context(name, list(words)).params
        except (ClickException, typer.Exit):
            return None


def line_for(form: Form, pick: random.Random) -> list[str]:
    """Return a command line of some of the options, sometimes a wrong one."""
    words: list[str] = []
    for word in pick.sample(sorted(form.options), min(len(form.options), pick.randint(0, 5))):
        field = form.options[word]
        value = pick.choice(SAMPLES.get(field.cast, SAMPLES[str]))
        if field.switch:
            words.append(word)
        elif word.startswith("--"):
            words += pick.choice([[word, value], [f"{word}={value}"]])
        else:
            words += pick.choice([[word, value], [f"{word}{value}"]])
        if pick.random() < 0.1:
            words.append(pick.choice(["--dry-run", "--nonsense", "-Z", "--"]))
    for field in form.arguments:
        count = pick.randint(0, 3) if field.repeats else pick.choice([1, 1, 1, 0])
        choices = ["80", "8"] if field.cast is int else ["one", "two=2", "three"]
        words += [pick.choice(choices) for _ in range(count)]
        if field.repeats and pick.random() < 0.2:
            words += ["-x", "--", "y"]
    return words


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_line_means_what_typer_takes_it_for(name):
    loaded = importlib.import_module(f"stackctl.cli.commands.{COMMANDS[name]}")
    form = Form(loaded.command)
    mixed = getattr(loaded, "CONTEXT", {}).get("allow_interspersed_args", True)
    pick = random.Random(name)
    plain = 0
    for _ in range(60):
        words = line_for(form, pick)
        line = commandline.read([name, *words], options)
        values = line.values(loaded.command, mixed=mixed)
        if values is None:
            continue
        plain += 1
        values.pop("--dry-run", None)
        wanted = taken_by_typer(name, words)
        assert wanted is not None, words
        for key, given in wanted.items():
            value = list(given) if isinstance(given, tuple) else given
            assert values.get(key, value) == value, (words, key)
            if key not in values:
                assert value in (None, [], (), "", False, True, 0) or value == default(
                    loaded, key
                ), (words, key)
    assert plain > 20


def default(loaded, key):
    code = loaded.command.__code__
    names = code.co_varnames[: code.co_argcount]
    values = loaded.command.__defaults__ or ()
    return dict(zip(names[len(names) - len(values) :], values, strict=True)).get(key)


@pytest.mark.parametrize(
    "words",
    [
        ["--help"], [], ["ps", "--help"], ["ps", "-h"], ["--version"], ["ps", "--nonsense"],
        ["ps", "--filter"], ["up", "-t", "soon"], ["up", "--detach=yes"], ["-f"], ["port"], ["cp", "a"],
        ["up", "--det"], ["--nonsense", "ps"],
    ],
)  # fmt: skip
def test_what_is_not_plain_is_left_alone(words):
    line = commandline.read(words, options)
    if line is not None:
        loaded = importlib.import_module(f"stackctl.cli.commands.{COMMANDS[line.name]}")
        assert line.values(loaded.command, mixed=True) is None


def test_options_before_the_command():
    words = [
        "-f",
        "a.yaml",
        "-fb.yaml",
        "--profile=x",
        "-p",
        "shop",
        "--dry-run",
        "exec",
        "-T",
        "web",
        "ls",
        "-l",
    ]
    line = commandline.read(words, options)
    assert line.before == {
        "file": ["a.yaml", "b.yaml"], "profile": ["x"], "project_name": "shop", "dry_run": True,
    }  # fmt: skip
    from stackctl.cli.commands import exec as command

    values = line.values(command.command, mixed=False)
    assert (values["service"], values["argv"]) == ("web", ["ls", "-l"])


def test_a_plain_command_never_imports_typer():
    code = "import sys; from stackctl.cli.main import run; run(['config', '--reference', '-o', '/dev/null']); print('typer' in sys.modules, 'click' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"
