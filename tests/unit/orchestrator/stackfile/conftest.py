"""Loading stack files from text."""

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from stackctl.errors import Problem, StackFileError
from stackctl.orchestrator.stackfile.load import Loaded, LoadOptions, load


@pytest.fixture
def loader(tmp_path: Path) -> Callable[..., Loaded]:
    """Write files (text by name) into a directory called app and load them; further options are LoadOptions'."""
    directory = tmp_path / "app"
    directory.mkdir()

    def run(main: str = "", **options: object) -> Loaded:
        others = options.pop("also", {})
        environ = {"XDG_CACHE_HOME": str(tmp_path / "cache"), **options.pop("environ", {})}
        for name, text in {"stack.yaml": main, **others}.items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if text:
                path.write_text(textwrap.dedent(text), encoding="utf-8")
        return load(
            LoadOptions(environ={"HOME": "/home/me", **environ}, cwd=str(directory), **options)
        )

    return run


@pytest.fixture
def problems(loader: Callable[..., Loaded]) -> Callable[..., list[Problem]]:
    """Load and return the mistakes."""

    def run(main: str = "", **options: object) -> list[Problem]:
        with pytest.raises(StackFileError) as caught:
            loader(main, **options)
        return list(caught.value.problems)

    return run
