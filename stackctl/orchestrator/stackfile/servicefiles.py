"""The files that services take variables and labels from: ``env_file`` and ``label_file``."""

from collections.abc import Callable, Mapping
from pathlib import Path

from stackctl.orchestrator.stackfile import dotenv
from stackctl.orchestrator.stackfile.files import Files
from stackctl.orchestrator.stackfile.marks import Map, Raw, Source, mark_of, shown
from stackctl.orchestrator.stackfile.problems import Problems


class ServiceFiles:
    """Reads the files of services in normal form; ``tree`` is the marked tree they were made from."""

    def __init__(
        self, files: Files, tree: Map, environment: Mapping[str, str], problems: Problems
    ) -> None:
        self.files = files
        self.tree = tree
        self.environment = environment
        self.problems = problems

    def resolve(self, services: Mapping[str, Raw], *, environment: bool) -> None:
        """Put the variables (where ``environment`` says so) and labels of the files into the services."""
        for name, service in services.items():
            if environment:
                self.resolve_environment(name, service)
            self.resolve_labels(name, service)

    def resolve_environment(self, name: str, service: Raw) -> None:
        own: dict[str, str | None] = dict(service.get("environment") or {})
        for key, value in own.items():
            if value is None and key in self.environment:
                own[key] = self.environment[key]
        files = service.pop("env_file", None)
        values: dict[str, str] = {key: value for key, value in own.items() if value is not None}

        def lookup(key: str) -> str | None:
            known = self.environment.get(key)
            return own.get(key) if known is None else known

        for index, entry in enumerate(files or ()):
            plain = isinstance(entry, str)
            path = entry if plain else entry.get("path", "")
            if not plain and not Path(path).exists():
                continue
            mark = mark_of(self.tree["services"][name]["env_file"], index)
            text = self.files.env_text(path, mark)
            if text is None:
                continue
            try:
                kind = "" if plain else entry.get("format", "")
                raw = self.tree["services"][name]["env_file"][index]
                kind = raw.get("format", kind) if isinstance(raw, dict) else kind
                self.parse_env(text, kind, values, lookup)
            except dotenv.EnvFileError as error:
                source = Source(name=shown(path, self.files.cwd), path=path, text=text)
                self.problems.add_in(source, error.line, 1, str(error))
            except ValueError as error:
                self.problems.add_at(mark, str(error))
        if files is not None or own:
            merged = {**values, **own}
            if merged:
                service["environment"] = merged

    def parse_env(
        self, text: str, kind: str, values: dict[str, str], lookup: Callable[[str], str | None]
    ) -> None:
        if kind == "raw":
            dotenv.parse_raw(text, values, lookup)
        elif kind in ("", ".env"):
            dotenv.parse(text, values, lookup)
        else:
            raise ValueError(f"unknown env_file format {kind!r}; use raw or leave it out")

    def resolve_labels(self, name: str, service: Raw) -> None:
        files = service.pop("label_file", None)
        labels: dict[str, str] = {}
        for index, path in enumerate(files or ()):
            mark = mark_of(self.tree["services"][name]["label_file"], index)
            text = self.files.env_text(path, mark)
            if text is None:
                continue
            try:
                dotenv.parse(text, labels, labels.get)
            except dotenv.EnvFileError as error:
                source = Source(name=shown(path, self.files.cwd), path=path, text=text)
                self.problems.add_in(source, error.line, 1, str(error))
        labels.update(service.get("labels") or {})
        if labels:
            service["labels"] = labels
