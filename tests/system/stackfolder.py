"""A folder with a stack file in it, and the commands that are typed beside it."""

import json
from pathlib import Path


class StackFolder:
    """Writes the stack called ``name``; calling it types a command."""

    def __init__(self, engine, folder: Path, name: str) -> None:
        self.engine = engine
        self.folder = folder
        self.name = name

    def write(self, text: str) -> None:
        (self.folder / "stack.yaml").write_text(f"name: {self.name}\n{text}")

    def __call__(self, *argv, **options):
        return self.engine.stackctl(*argv, cwd=self.folder, **options)

    def inspect(self, name: str) -> dict:
        return json.loads(self.engine.docker("inspect", name).stdout)[0]
