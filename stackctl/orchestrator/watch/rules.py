"""The rules of ``develop.watch``: which file means what for which service. Pure; paths are absolute, as strings."""

import posixpath
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from stackctl.frozen import frozen
from stackctl.ignore import Ignore
from stackctl.orchestrator.model.develop import Hook, WatchRule
from stackctl.orchestrator.model.stack import Stack

# What version control, editors and file managers write beside one's files; the same as Compose leaves out, and more.
DEFAULT_IGNORES = (
    "**/.git",
    "**/.hg",
    "**/.svn",
    "**/.bzr",
    "**/.jj",
    "**/CVS",
    "**/*___jb_tmp___",
    "**/*___jb_old___",
    "**/*.idea_compile",
    "**/4913",
    "**/*~",
    "**/.*.sw?",
    "**/.*.sw?x",
    "**/.#*",
    "**/#*#",
    "**/.*.kate-swp",
    "**/.goutputstream-*",
    "**/.DS_Store",
    "**/.~lock.*#",
    "**/.stackctl-????????????",
)
SYNCS = frozenset({"sync", "sync+restart", "sync+exec"})


@frozen
class Rule:
    """One watch rule of a service, ready to be asked.

    ``base`` is the directory the patterns of ``context`` (its .dockerignore) are relative to. ``directory`` tells that
    the path is one: it is never deleted in the container as a whole.
    """

    service: str
    index: int
    source: WatchRule
    ignore: Ignore
    include: Ignore | None = None
    base: str = ""
    context: Ignore | None = None
    directory: bool = True

    @property
    def path(self) -> str:
        return self.source.path

    @property
    def action(self) -> str:
        return self.source.action

    @property
    def where(self) -> str:
        """How messages name the rule."""
        return f"service {self.service}: develop.watch[{self.index}]"

    def covers(self, path: str) -> bool:
        """Tell whether a change of the path is one of the rule's."""
        relative = _below(path, self.path)
        if relative is None or self._ignored(path, relative):
            return False
        return not self.include or relative == "" or bool(self.include.ignores(relative))

    def enters(self, directory: str) -> bool:
        """Tell whether something below the directory may be the rule's, so that it has to be watched."""
        relative = _below(directory, self.path)
        if relative is None:
            return False
        if relative and self.ignore.skips(relative):
            return False
        if self.context is not None:
            outer = _below(directory, self.base)
            return not outer or not self.context.skips(outer)
        return True

    def target(self, path: str) -> str:
        """Return where the path belongs in the container."""
        relative = _below(path, self.path)
        where = posixpath.join(self.source.target, relative) if relative else self.source.target
        return posixpath.normpath(f"/{where}").replace("//", "/")

    def _ignored(self, path: str, relative: str) -> bool:
        if relative and self.ignore.ignores(relative):
            return True
        if self.context is None:
            return False
        outer = _below(path, self.base)
        return bool(outer) and self.context.ignores(outer or "")


def _below(path: str, root: str) -> str | None:
    """Return the path relative to a root, "" for the root itself, None outside of it."""
    if path == root:
        return ""
    prefix = root if root.endswith("/") else f"{root}/"
    return path[len(prefix) :] if path.startswith(prefix) else None


def make_rules(
    stack: Stack,
    services: Sequence[str],
    dockerignores: Mapping[str, Sequence[str]],
    *,
    files: Container[str] = (),
) -> tuple[Rule, ...]:
    """Return the rules of the services (all when none is named).

    ``dockerignores`` are the patterns of each service's build context, by service; ``files`` those paths of rules that
    are no directories. Raises InvalidInputError for a pattern that is not well formed.
    """
    rules = []
    for name, service in stack.services.items():
        if services and name not in services:
            continue
        patterns = tuple(dockerignores.get(name, ()))
        context = Ignore(patterns) if patterns and service.build is not None else None
        for index, source in enumerate(service.watch):
            rules.append(
                Rule(
                    service=name,
                    index=index,
                    source=source,
                    ignore=Ignore((*DEFAULT_IGNORES, *source.ignore)),
                    include=Ignore(source.include) if source.include else None,
                    base=service.build.context.rstrip("/") if service.build is not None else "",
                    context=context,
                    directory=source.path not in files,
                )
            )
    return tuple(rules)


@dataclass(slots=True, kw_only=True)
class Work:
    """What is to be done for one service.

    ``files`` maps a path in the container to where it comes from; what is there by then is sent, or it is deleted.
    ``since`` is when the first change was seen (monotonic seconds), 0.0 for none.
    """

    files: dict[str, str] = field(default_factory=dict)
    rebuild: bool = False
    restart: bool = False
    hooks: list[Hook] = field(default_factory=list)
    since: float = 0.0
    why: str = ""

    def __bool__(self) -> bool:
        return bool(self.files or self.rebuild or self.restart or self.hooks)

    def add(self, other: "Work") -> None:
        """Join what came later."""
        self.files.update(other.files)
        self.rebuild = self.rebuild or other.rebuild
        self.restart = self.restart or other.restart
        self.hooks += [hook for hook in other.hooks if hook not in self.hooks]
        self.since = min(filter(None, (self.since, other.since)), default=0.0)
        self.why = self.why or other.why


def decide(rules: Iterable[Rule], paths: Iterable[str], *, since: float = 0.0) -> dict[str, Work]:
    """Return what a batch of changed paths means, by service. A path may be covered by several rules: all count."""
    found: dict[str, Work] = {}
    grouped = tuple(rules)
    for path in paths:
        for rule in grouped:
            if not rule.covers(path) or (rule.directory and path == rule.path):
                continue
            work = found.setdefault(rule.service, Work(since=since))
            if rule.action in SYNCS:
                work.files[rule.target(path)] = path
            if rule.action == "rebuild":
                work.rebuild = True
                work.why = work.why or path
            if rule.action in ("restart", "sync+restart"):
                work.restart = True
                work.why = work.why or path
            hook = rule.source.exec
            if rule.action == "sync+exec" and hook is not None and hook not in work.hooks:
                work.hooks.append(hook)
    return found
