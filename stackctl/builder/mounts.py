"""RUN --mount: binds of the context or a stage, caches that stay, tmpfs and secrets."""

import asyncio
import contextlib
import hashlib
import os
import posixpath
import shutil
import socket
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import field
from pathlib import Path
from weakref import WeakValueDictionary

from stackctl.builder import copying
from stackctl.builder import instructions as ins
from stackctl.builder.context import Context, Digests, Node, Tree, named_tree
from stackctl.builder.copying import Source
from stackctl.builder.image import State
from stackctl.builder.metadata import Scope, absolute
from stackctl.builder.request import BuildRequest
from stackctl.contracts.container import MountPoint
from stackctl.contracts.storage import LayerStore
from stackctl.errors import NotFoundError
from stackctl.frozen import frozen
from stackctl.values import Json

Other = Callable[[str, int, int], Awaitable[State]]


@frozen
class StepMount:
    """One mount of a step: ``identity`` is what the cache knows of it, ``env`` what a secret sets.

    ``prepare`` makes it for the duration of the stack; None when there is nothing to mount.
    """

    identity: Json
    prepare: Callable[[AsyncExitStack], Awaitable[MountPoint | None]]
    env: tuple[str, ...] = field(default=(), repr=False)


class CacheDirectories:
    """Cache mounts: a directory per ID below the data root, locked where they are asked to be."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def lock(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())

    def directory(self, name: str, mount: ins.RunMount, seed: str | None = None) -> Path:
        """Return the directory of a cache, made with the owner and mode asked for; blocks.

        A new one starts with a copy of the directory ``seed``.
        """
        path = self._root / hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        if not path.exists():
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh = Path(tempfile.mkdtemp(prefix=".new-", dir=self._root))
            if seed is not None:
                shutil.copytree(seed, fresh, symlinks=True, dirs_exist_ok=True)
            os.chown(fresh, mount.uid, mount.gid)
            fresh.chmod(0o755 if mount.mode is None else mount.mode)
            try:
                fresh.rename(path)
            except OSError:  # another step was quicker
                shutil.rmtree(fresh)
        return path

    def clear(self) -> None:
        """Remove every cache; blocks."""
        shutil.rmtree(self._root, ignore_errors=True)


class StepMounts:
    """Turns the mounts of an instruction into what the runtime mounts."""

    def __init__(
        self,
        context: Context,
        layers: LayerStore,
        digests: Digests,
        caches: CacheDirectories,
        request: BuildRequest,
        scratch: Path,
    ) -> None:
        self._context = context
        self._layers = layers
        self._digests = digests
        self._caches = caches
        self._secrets = request.secrets
        self._request = request
        self._scratch = scratch

    async def plan(
        self,
        instruction: ins.Run,
        scope: Scope,
        state: State,
        index: int,
        stack: AsyncExitStack,
        other: Other,
    ) -> list[StepMount]:
        """Return the mounts of a RUN; raises InvalidInputError naming the line."""
        planned = []
        agents = 0
        for mount in instruction.mounts:
            if mount.fields:
                fields = {key: scope.text(value) for key, value in mount.fields.items()}
                mount = ins.read_mount(fields, scope.error)
            target = absolute(state, mount.target) if mount.target else ""
            if target == "/":
                raise scope.error("a mount's target cannot be /")
            if mount.type == "bind":
                planned.append(await self._bind(mount, target, scope, index, stack, other))
            elif mount.type == "cache":
                planned.append(await self._cache(mount, target, scope, index, stack, other))
            elif mount.type == "tmpfs":
                planned.append(_tmpfs(mount, target))
            elif mount.type == "secret":
                found = self._secret(mount, target, scope)
                planned += [found] if found else []
            else:
                planned.append(self._agent(mount, target, scope, agents))
                agents += 1
        return planned

    async def _bind(
        self,
        mount: ins.RunMount,
        target: str,
        scope: Scope,
        index: int,
        stack: AsyncExitStack,
        other: Other,
    ) -> StepMount:
        tree = self._context.tree
        if mount.from_:
            tree, _ = await self._files(mount.from_, index, scope, stack, other)
        node = await asyncio.to_thread(self._found, tree, mount.source, scope)
        one = Source(name=posixpath.basename(node.path), tree=tree, node=node)
        content = await asyncio.to_thread(copying.fingerprint, [one])
        host = tree.host_path(node.path)
        read_only = mount.read_only is not False

        async def prepare(stack: AsyncExitStack) -> MountPoint:
            path = host
            if not read_only or await asyncio.to_thread(_needs_view, tree, node):
                # What is written is discarded: it goes to a copy. What is ignored is not to be seen.
                path = await asyncio.to_thread(self._copy, tree, node, writable=not read_only)
                stack.callback(shutil.rmtree, Path(path).parent, ignore_errors=True)
            return MountPoint(type="bind", source=path, target=target, read_only=read_only)

        return StepMount(identity=["bind", target, content, read_only], prepare=prepare)

    def _copy(self, tree: Tree, node: Node, *, writable: bool) -> str:
        """Return the path of a copy without what the tree ignores; one only to be read has links for its files."""
        self._scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        target = Path(tempfile.mkdtemp(prefix="bind-", dir=self._scratch)) / "copy"
        source = tree.host_path(node.path)
        if not node.is_dir:
            shutil.copy2(source, target)
            return str(target)
        target.mkdir()
        start = len(node.path) + 1 if node.path else 0
        made = [(source, target)]
        for below in tree.walk(node.path):
            source_path, place = tree.host_path(below.path), target / below.path[start:]
            if below.is_dir:
                place.mkdir()
                made.append((source_path, place))
            elif writable or not _linked(source_path, place):
                shutil.copy2(source_path, place, follow_symlinks=False)
        for source_path, place in reversed(made):
            shutil.copystat(source_path, place)
        if tree.ours and not node.path:
            target.chmod(0o755)
        return str(target)

    def script(self, name: str, text: str) -> StepMount:
        """Return the mount of a heredoc that is a program of its own, below /dev/pipes."""
        target = f"/dev/pipes/{posixpath.basename(name)}"

        async def prepare(stack: AsyncExitStack) -> MountPoint:
            path = await asyncio.to_thread(self._write, text.encode(), 0o755, 0, 0)
            stack.callback(shutil.rmtree, path.parent, ignore_errors=True)
            return MountPoint(type="bind", source=str(path), target=target, read_only=True)

        return StepMount(identity=["script", target, text], prepare=prepare)

    async def _cache(
        self,
        mount: ins.RunMount,
        target: str,
        scope: Scope,
        index: int,
        stack: AsyncExitStack,
        other: Other,
    ) -> StepMount:
        name = mount.id or target
        seed: str | None = None
        if mount.from_:
            # What it starts with is part of what it is: another beginning is another cache.
            tree, layers = await self._files(mount.from_, index, scope, stack, other)
            node = await asyncio.to_thread(self._found, tree, mount.source, scope)
            seed = tree.host_path(node.path)
            name = "\0".join((name, node.path, *layers))

        async def prepare(stack: AsyncExitStack) -> MountPoint:
            if mount.sharing != "shared":
                await stack.enter_async_context(self._caches.lock(name))
            path = await asyncio.to_thread(self._caches.directory, name, mount, seed)
            return MountPoint(
                type="bind", source=str(path), target=target, read_only=mount.read_only is True
            )

        return StepMount(identity=["cache", target, name], prepare=prepare)

    async def _files(
        self, from_: str, index: int, scope: Scope, stack: AsyncExitStack, other: Other
    ) -> tuple[Tree, tuple[str, ...]]:
        """Return the files that a mount's ``from`` names and the layers that make them; () for a named context."""
        named = self._request.contexts.get(from_.lower())
        if isinstance(named, Path):
            return named_tree(named, self._digests, self._request.fetched), ()
        state = await other(from_, index, scope.line)
        root = await stack.enter_async_context(self._layers.view(state.layers))
        return Tree(root, self._digests), state.layers

    def _found(self, tree: Tree, source: str, scope: Scope) -> Node:
        try:
            return tree.find(source or "/")
        except NotFoundError as error:
            raise scope.error(f"cannot mount {source or '/'}: {error.message}") from error

    def _secret(self, mount: ins.RunMount, target: str, scope: Scope) -> StepMount | None:
        name = mount.id or posixpath.basename(mount.target or mount.source)
        data = self._secrets.get(name)
        if data is None:
            if mount.required:
                raise scope.error(f"secret {name}: not found", hint="Pass it to the build.")
            return None
        env: tuple[str, ...] = ()
        if mount.env:
            env = (f"{mount.env}={data.decode(errors='surrogateescape')}",)
        place = target or ("" if mount.env else f"/run/secrets/{name}")

        async def prepare(stack: AsyncExitStack) -> MountPoint | None:
            if not place:
                return None
            path = await asyncio.to_thread(self._write, data, mode, mount.uid, mount.gid)
            stack.callback(shutil.rmtree, path.parent, ignore_errors=True)
            return MountPoint(type="bind", source=str(path), target=place, read_only=True)

        mode = 0o400 if mount.mode is None else mount.mode
        # Secrets are no part of the key: a changed password does not rebuild (as BuildKit has it).
        return StepMount(identity=["secret", place, name, mount.env], prepare=prepare, env=env)

    def _agent(self, mount: ins.RunMount, target: str, scope: Scope, number: int) -> StepMount:
        """Return the mount of an SSH agent's socket; the agent is no part of the cache key, as a secret is not."""
        name = mount.id or "default"
        agent = self._request.ssh.get(name)
        place = target or f"/run/buildkit/ssh_agent.{number}"
        if agent is None and mount.required:
            raise scope.error(
                f'no SSH agent "{name}" was given to this build', hint="Pass it with ssh."
            )

        async def prepare(stack: AsyncExitStack) -> MountPoint | None:
            if agent is None:
                return None
            own = await self._relay(agent, mount, stack)
            return MountPoint(type="bind", source=str(own), target=place)

        env = () if number else (f"SSH_AUTH_SOCK={place}",)  # the first agent's
        return StepMount(identity=["ssh", place, name], prepare=prepare, env=env)

    async def _relay(self, agent: Path, mount: ins.RunMount, stack: AsyncExitStack) -> Path:
        """Return a socket that leads to the agent, with the owner and mode asked for.

        An agent answers nobody but its own user and root (sshd's ssh-agent looks at the peer), and a step may be anyone.
        """
        self._scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        home = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="ssh-", dir=self._scratch))
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        path = home / "agent"
        # The address of a socket is short (108 bytes), and the data root's path may not be.
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as listening:
            directory = os.open(home, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                listening.bind(f"/proc/self/fd/{directory}/agent")
            finally:
                os.close(directory)
            os.chown(path, mount.uid, mount.gid)
            path.chmod(0o600 if mount.mode is None else mount.mode)
            server = await asyncio.start_unix_server(_Relay(agent).pass_on, sock=listening.dup())
        stack.callback(server.close)
        return path

    def _write(self, data: bytes, mode: int, uid: int, gid: int) -> Path:
        self._scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = Path(tempfile.mkdtemp(prefix="file-", dir=self._scratch)) / "file"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(data)
        os.chown(path, uid, gid)
        path.chmod(mode)
        return path


class _Relay:
    """Passes what comes on a connection to an agent, and its answers back."""

    def __init__(self, agent: Path) -> None:
        self._agent = agent

    async def pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            theirs, ours = await asyncio.open_unix_connection(self._agent)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(_pipe(reader, ours))
                    group.create_task(_pipe(theirs, writer))
            except BaseExceptionGroup:
                pass
            finally:
                ours.close()
        writer.close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


def _needs_view(tree: Tree, node: Node) -> bool:
    """Tell whether a directory is to be seen as another: without what is ignored, or by whoever the step is."""
    own = tree.ours and not node.path and node.info.st_mode & 0o5 != 0o5
    return node.is_dir and (own or tree.hides(node.path))


def _linked(source: str, target: Path) -> bool:
    """Tell whether a file could be linked: it cannot from another file system."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        return False
    return True


def _tmpfs(mount: ins.RunMount, target: str) -> StepMount:
    async def prepare(stack: AsyncExitStack) -> MountPoint:
        del stack
        options = (f"size={mount.size}",) if mount.size else ()
        return MountPoint(type="tmpfs", target=target, tmpfs_options=options)

    return StepMount(identity=["tmpfs", target, mount.size], prepare=prepare)
