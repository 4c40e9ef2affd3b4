"""One stage, step by step: what is cached is taken, what is not is done.

A step that touches files gets a writable snapshot on the state's layers, works in it, and leaves one layer, or none
when nothing changed. The snapshot is gone afterwards however the step ended.
"""

import asyncio
import contextlib
import os
import posixpath
import stat
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from stackctl.builder import copying
from stackctl.builder import instructions as ins
from stackctl.builder.cache import BuildCache, step_key
from stackctl.builder.context import Context, Digests, Tree, named_tree
from stackctl.builder.copying import Destination, Ownership, Source
from stackctl.builder.download import url_name
from stackctl.builder.expand import ExpandError, expand
from stackctl.builder.git import check_commit, is_git, parse_git
from stackctl.builder.image import State, after_step, encode
from stackctl.builder.keeping import Keeping, Kept, KeptImage, continued
from stackctl.builder.metadata import (
    PROXY_ARGS,
    Scope,
    absolute,
    change,
    declared,
    proxy_env,
    shell_of,
    variables,
    working_dir,
)
from stackctl.builder.mounts import StepMount, StepMounts
from stackctl.builder.parser import Dockerfile, Heredoc, heredoc_word
from stackctl.builder.remote import Remotes, is_remote
from stackctl.builder.request import BuildRequest
from stackctl.builder.run import HOSTNAME, Command, Runner, new_container_id
from stackctl.contracts.repositories import GitSource
from stackctl.contracts.state import ImageConfig
from stackctl.contracts.storage import Change, LayerStore, PackedLayer, RootTree
from stackctl.engine.images import Images
from stackctl.engine.users import owner_of
from stackctl.errors import InvalidInputError, NotFoundError, StackctlError
from stackctl.frozen import frozen
from stackctl.oci.digest import digest_of
from stackctl.oci.platform import Platform
from stackctl.values import Json

_MAX_LINKS = 40
_FOREIGN = "exec format error"


class RunFailedError(InvalidInputError):
    """A RUN ended with a code other than 0."""

    def __init__(self, message: str, *, code: int, located: str) -> None:
        """``message`` is what Docker's classic builder says, ``located`` the same with its place and line."""
        super().__init__(message)
        self.code = code
        self.located = located


@frozen
class Tools:
    """What every stage of a build works with.

    ``say`` shows text, ``other`` gives the state a ``--from`` names (a stage's, else an image's), ``hold`` keeps
    a state's layers and blobs from being collected until the build ends, ``keep`` those named,
    ``used`` notes the key of a step of a stage; ``kept`` is what is kept elsewhere, for this build to take from.
    """

    request: BuildRequest
    file: Dockerfile
    context: Context
    layers: LayerStore
    files: RootTree
    images: Images
    cache: BuildCache
    digests: Digests
    runner: Runner
    mounts: StepMounts
    remotes: Remotes
    say: Callable[[str], None]
    other: Callable[[str, int, int], Awaitable[State]]
    hold: Callable[[State], None]
    keep: Callable[[Sequence[str]], None]
    used: Callable[[int, str], None]
    keeping: Keeping
    kept: Callable[[], Awaitable[Sequence[Kept | KeptImage]]]
    epoch: int | None = None
    sources: Callable[[], Awaitable[Sequence[State] | None]] | None = None


class StageBuilder:
    """Builds one stage from the state its FROM gave."""

    def __init__(
        self,
        tools: Tools,
        state: State,
        *,
        index: int,
        fresh: bool = False,
        outer: Mapping[str, str],
        platform_args: Mapping[str, str],
    ) -> None:
        self._tools = tools
        self.state = state
        self._index = index
        # Every step is done anew.
        self._fresh = fresh or tools.request.no_cache
        self._outer = {**platform_args, **outer}
        self._given = dict(tools.request.args)
        self._cmd_set = False

    async def step(self, instruction: ins.Instruction, *, literal: bool = False) -> None:
        """Do one instruction. Raises InvalidInputError naming the line, RunFailedError, or what the host refused."""
        scope = Scope(file=self._tools.file, line=instruction.line, variables=variables(self.state))
        try:
            await self._step(instruction, scope, literal=literal)
        except RunFailedError:
            raise
        except StackctlError as error:
            raise _located(error, scope) from error

    async def _step(self, instruction: ins.Instruction, scope: Scope, *, literal: bool) -> None:
        if literal and isinstance(instruction, ins.Label):
            config = replace(
                self.state.config, labels={**self.state.config.labels, **dict(instruction.pairs)}
            )
            words = " ".join(f"{name}={value}" for name, value in instruction.pairs)
            await self._configure(config, f"/bin/sh -c #(nop)  LABEL {words}")
            return
        if isinstance(instruction, ins.Run):
            await self._run(instruction, scope)
        elif isinstance(instruction, ins.Copy):
            await self._copy(instruction, scope)
        elif isinstance(instruction, ins.Workdir):
            await self._workdir(instruction, scope)
        elif isinstance(instruction, ins.Arg):
            state, words = declared(instruction, self.state, scope, self._given, self._outer)
            args = state.args
            await self._configure(state.config, words)
            self.state = replace(self.state, args=args)
        else:
            changed = change(instruction, self.state, scope, cmd_set=self._cmd_set)
            if changed is None:
                raise scope.error("this instruction is not possible here")
            if isinstance(instruction, ins.Cmd):
                self._cmd_set = True
            await self._configure(changed.config, changed.created_by, author=changed.author)
            if isinstance(instruction, ins.Env):
                # It hides the ARG before it, as an ARG does the ENV before it.
                hidden = {scope.text(name) for name, _ in instruction.pairs}
                args = {key: one for key, one in self.state.args.items() if key not in hidden}
                self.state = replace(self.state, args=args)

    def take_triggers(self) -> tuple[str, ...]:
        """Return the ONBUILD triggers that the base image left, and clear them."""
        config = self.state.config
        document = replace(self.state.document, config=replace(config, on_build=()))
        self.state = replace(self.state, document=document)
        return config.on_build

    async def _configure(self, config: ImageConfig, created_by: str, *, author: str = "") -> None:
        key = step_key(self.state, ["config", created_by, author])
        goal = _Goal(config=config, created_by=created_by, author=author)

        async def work() -> State:
            return after_step(
                self.state, config=config, created=self._now(), created_by=created_by, author=author
            )

        await self._cached(key, work, goal)

    async def _cached(
        self, key: str, work: Callable[[], Awaitable[State]], goal: "_Goal | None"
    ) -> None:
        """Take the step from the cache or do it; with a goal an image may be gone on with as well."""
        tools = self._tools
        before = self.state
        tools.used(self._index, key)
        async with tools.cache.lock(key):
            found = None if self._fresh else await self._found(key, before)
            if found is not None and not await self._allowed(found):
                found = None
            if found is None and not self._fresh:
                found = await self._elsewhere(key, before, goal)
            if found is not None:
                tools.say(" ---> Using cache\n")
                self.state = found
            else:
                after = await work()
                # Its layer is held since it was made; this holds its configuration as well.
                tools.hold(after)
                await tools.cache.remember(key, after)
                self.state = after
        tools.say(f" ---> {digest_of(encode(self.state))[7:19]}\n")

    async def _found(self, key: str, before: State) -> State | None:
        """Return the state after a cached step, held before anything of it can be removed."""
        async with self._tools.images.gate.shared():
            found = await self._tools.cache.find(key, before)
            if found is not None:
                self._tools.hold(found)
            return found

    async def _elsewhere(self, key: str, before: State, goal: "_Goal | None") -> State | None:
        """Return the state after the step as another place has it; what a place gets wrong is passed over."""
        tools = self._tools
        for kept in await tools.kept():
            try:
                if isinstance(kept, Kept):
                    if key in kept.steps:
                        await tools.keeping.take(kept, key)
                        return await self._found(key, before)
                    continue
                if goal is None:
                    continue
                further = continued(kept, before, goal.config, goal.created_by, goal.author)
                if further is None:
                    continue
                after, layer = further
                tools.hold(after)
                await tools.keeping.go_on(kept, after, layer)
                await tools.cache.remember(key, after)
                return await self._found(key, before)
            except StackctlError as error:
                tools.say(f"[Warning] a cached step cannot be taken: {error.message}\n")
        return None

    async def _allowed(self, found: State) -> bool:
        """Tell whether a cached step may be used: with --cache-from only those that led to the images it names."""
        sources = await self._tools.sources() if self._tools.sources is not None else None
        if sources is None:
            return True
        return any(
            _leads_to(found.document.history, source.document.history)
            and _leads_to(found.document.diff_ids, source.document.diff_ids)
            for source in sources
        )

    def _now(self) -> str:
        seconds = time.time() if self._tools.epoch is None else float(self._tools.epoch)
        text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
        return f"{text.rstrip('0').rstrip('.')}Z"

    # Snapshots

    @contextlib.asynccontextmanager
    async def _snapshot(self, state: State) -> AsyncIterator[tuple[str, Path]]:
        key = f"build-{new_container_id()[:32]}"
        layers = self._tools.layers
        try:
            await layers.prepare(key, state.layers, volatile=True)
            yield key, await layers.mount(key)
        finally:
            await asyncio.shield(layers.discard(key))

    async def _commit(self, key: str, state: State) -> PackedLayer | None:
        layers = self._tools.layers
        changes = await layers.changes(key)
        if not changes:
            return None
        if self._tools.epoch is not None:
            root = await layers.mount(key)
            await asyncio.to_thread(_clamp, root, changes, self._tools.epoch)
        async with self._tools.images.gate.shared():
            packed = await layers.commit(key, state.layers, consume=True)
            if packed is not None:
                self._tools.keep([packed.chain_id, packed.blob.digest])
            return packed

    # WORKDIR

    async def _workdir(self, instruction: ins.Workdir, scope: Scope) -> None:
        path = working_dir(instruction, self.state, scope)
        config = replace(self.state.config, working_dir=path)
        created_by = f"/bin/sh -c #(nop) WORKDIR {path}"

        async def work() -> State:
            layer = None
            async with self._tools.layers.view(self.state.layers) as root:
                real = await self._resolved(root, path, scope)
                missing = await self._missing(root, real)
            if missing:
                async with self._snapshot(self.state) as (key, root):
                    place = Destination(path=real, directory=True, exists=True, missing=missing)
                    # It belongs to the USER of that moment, as BuildKit has it.
                    owner = await self._owner(root, self.state.config.user, "", scope)
                    packed = copying.pack(
                        [], place, owner, now=int(time.time()), epoch=self._tools.epoch
                    )
                    await self._tools.files.unpack(root, "/", copying.in_thread(packed))
                    layer = await self._commit(key, self.state)
            return after_step(
                self.state, config=config, created=self._now(), created_by=created_by, layer=layer
            )

        key = step_key(self.state, ["workdir", path, self.state.config.user])
        await self._cached(key, work, _Goal(config=config, created_by=created_by))

    async def _missing(self, root: Path, path: str) -> tuple[str, ...]:
        """Return the directories on the way to the path, itself included, that are not there; topmost first."""
        missing: list[str] = []
        while path not in ("/", ""):
            try:
                await self._tools.files.stat(root, path, follow=True)
                break
            except NotFoundError:
                missing.append(path)
                path = posixpath.dirname(path)
        return tuple(reversed(missing))

    # RUN

    async def _run(self, instruction: ins.Run, scope: Scope) -> None:
        tools = self._tools
        args, shown = self._command(instruction)
        visible = {name: value for name, value in self.state.args.items() if name not in PROXY_ARGS}
        network = instruction.network
        if network not in ("", "default", "none", "host"):
            raise scope.error(f"invalid network mode {network[:40]!r}: default, none or host")
        if network == "host" and not (
            tools.request.host_network or tools.request.network_mode == "host"
        ):
            raise scope.error(
                "RUN --network=host is not allowed to this build",
                hint="network: host, or entitlements: [network.host]",
            )
        insecure = instruction.security == "insecure"
        if insecure and not tools.request.privileged:
            raise scope.error("RUN --security=insecure needs a privileged build")
        async with AsyncExitStack() as stack:
            mounts = await tools.mounts.plan(
                instruction, scope, self.state, self._index, stack, tools.other
            )
            script = self._script(instruction) if instruction.shell else None
            mounts += [script] if script else []
            key = step_key(
                self.state,
                [
                    "run", list(args), [list(item) for item in sorted(visible.items())],
                    [mount.identity for mount in mounts], network, insecure, tools.request.network_mode,
                ],
            )  # fmt: skip
            created_by = " ".join(args)
            if visible:
                pairs = " ".join(f"{name}={value}" for name, value in sorted(visible.items()))
                created_by = f"|{len(visible)} {pairs} {created_by}"
            own = dict(item.partition("=")[::2] for item in self.state.config.env)
            values = {**proxy_env(self._given), **own, **visible}
            # A step's name of its own is no secret, but it would make each run another.
            env = ("HOSTNAME", *(f"{name}={value}" for name, value in values.items()))

            said: deque[str] = deque(maxlen=4)

            def say(text: str) -> None:
                said.append(text)
                tools.say(text)

            async def work() -> State:
                async with self._snapshot(self.state) as (key, root), AsyncExitStack() as mounted:
                    points = [await mount.prepare(mounted) for mount in mounts]
                    secret_env = tuple(item for mount in mounts for item in mount.env)
                    container_id = new_container_id()
                    tools.say(f" ---> Running in {container_id[:12]}\n")
                    command = Command(
                        args=args,
                        env=(*env, *secret_env),
                        user=self.state.config.user,
                        working_dir=await self._resolved(
                            root, self.state.config.working_dir or "/", scope
                        ),
                        network=network,
                        privileged=insecure,
                        mounts=tuple(point for point in points if point is not None),
                        hostname=tools.request.args.get("BUILDKIT_SANDBOX_HOSTNAME") or HOSTNAME,
                    )
                    try:
                        code = await tools.runner.run(
                            container_id, root, command, tools.request, say
                        )
                    except StackctlError as error:
                        self._refuse_foreign(error.message, scope)
                        raise scope.error(error.message, hint=error.hint) from error
                    if code:
                        self._refuse_foreign("".join(said), scope)
                        text = f"The command '{shown}' returned a non-zero code: {code}"
                        raise RunFailedError(text, code=code, located=scope.error(text).message)
                    tools.say(f" ---> Removed intermediate container {container_id[:12]}\n")
                    await mounted.aclose()
                    layer = await self._commit(key, self.state)
                return after_step(
                    self.state,
                    config=self.state.config,
                    created=self._now(),
                    created_by=created_by,
                    layer=layer,
                )

            # The history does not tell what was mounted or how the network was.
            plain = not (mounts or network or insecure)
            goal = _Goal(config=self.state.config, created_by=created_by) if plain else None
            await self._cached(key, work, goal)

    def _refuse_foreign(self, said: str, scope: Scope) -> None:
        """Raise when a step failed since its programs are another machine's (with an emulator they would run)."""
        document, mine = self.state.document, self._tools.images.parts.platform
        wanted = Platform(
            os=document.os, architecture=document.architecture, variant=document.variant
        )
        if _FOREIGN not in said or mine.accepts(wanted):
            return
        raise scope.error(
            f"RUN for {wanted} does not run on this machine, which is {mine}",
            hint="FROM --platform=$BUILDPLATFORM builds here what COPY --from then takes; or install an emulator"
            " (qemu-user-static, binfmt_misc)",
        )

    def _command(self, instruction: ins.Run) -> tuple[tuple[str, ...], str]:
        if not instruction.shell:
            return instruction.args, " ".join(instruction.args)
        shell = shell_of(self.state.config)
        text = instruction.args[0]
        documents = instruction.heredocs
        if documents:
            if len(documents) == 1 and heredoc_word(text):
                if documents[0].text.startswith("#!"):
                    return (f"/dev/pipes/{documents[0].name}",), documents[0].text
                text = documents[0].text
            else:
                text += "\n" + "".join(f"{item.content}{item.name}\n" for item in documents)
        args = (*shell, text)
        return args, " ".join(args)

    def _script(self, instruction: ins.Run) -> StepMount | None:
        """Return the mount of a heredoc that names its own interpreter ("#!…"), None when there is none."""
        documents = instruction.heredocs
        if len(documents) != 1 or not heredoc_word(instruction.args[0]):
            return None
        if not documents[0].text.startswith("#!"):
            return None
        return self._tools.mounts.script(documents[0].name, documents[0].text)

    # COPY and ADD

    async def _copy(self, instruction: ins.Copy, scope: Scope) -> None:
        tools = self._tools
        word = "ADD" if instruction.add else "COPY"
        patterns = [scope.text(text) for text in instruction.sources]
        destination = scope.text(instruction.destination)
        chmod, chown = scope.text(instruction.chmod), scope.text(instruction.chown)
        # As Docker has it, patterns to leave out are taken as they are written.
        exclude = list(instruction.exclude)
        try:
            copying.changed_mode(chmod, 0, is_dir=False)
        except InvalidInputError as error:
            raise scope.error(error.message, hint=error.hint) from error
        wanted = _Wanted(
            instruction=instruction,
            patterns=tuple(patterns),
            destination=destination,
            exclude=tuple(exclude),
            checksum=scope.text(instruction.checksum),
        )
        async with AsyncExitStack() as stack:
            note = await self._note(wanted, scope)
            known = tools.cache.note(note) if note else ""
            sources: list[Source] | None = None
            if not known:
                sources = await self._gather(wanted, scope, stack)
                content = await asyncio.to_thread(copying.fingerprint, sources, exclude)
                known = f"{'file' if len(sources) == 1 else 'multi'}:{content}"
                if note:
                    tools.cache.save_note(note, known)
            options: list[Json] = [
                chmod, chown, list(exclude), instruction.parents, instruction.unpack,
            ]  # fmt: skip
            key = step_key(self.state, ["copy", word, known, destination, options])
            flags = "".join(
                f"--{name}={value} "
                for name, value in (("chown", chown), ("chmod", chmod))
                if value
            )
            created_by = f"/bin/sh -c #(nop) {word} {flags}{known} in {destination} "

            async def work() -> State:
                found = sources if sources is not None else await self._gather(wanted, scope, stack)
                async with self._snapshot(self.state) as (snapshot, root):
                    owner = await self._owner(root, chown, chmod, scope)
                    if not found:
                        return self._nothing_copied(created_by)
                    place = await self._place(root, found, destination, instruction, scope)
                    if place.exists and not place.missing and not instruction.link:
                        # What --link makes lies over what was there, whatever that is.
                        await asyncio.to_thread(
                            self._check_kinds, root, found, place, scope, exclude
                        )
                    packed = copying.pack(
                        found,
                        place,
                        owner,
                        exclude=exclude,
                        now=int(time.time()),
                        epoch=tools.epoch,
                    )
                    await tools.files.unpack(root, "/", copying.in_thread(packed))
                    await self._extract(root, found, place, owner)
                    layer = await self._commit(snapshot, self.state)
                return after_step(
                    self.state,
                    config=self.state.config,
                    created=self._now(),
                    created_by=created_by,
                    layer=layer,
                )

            plain = instruction.unpack is None
            goal = _Goal(config=self.state.config, created_by=created_by) if plain else None
            await self._cached(key, work, goal)

    def _nothing_copied(self, created_by: str) -> State:
        return after_step(
            self.state, config=self.state.config, created=self._now(), created_by=created_by
        )

    async def _note(self, wanted: "_Wanted", scope: Scope) -> str:
        """Return the name under which the digest of what is copied is noted; "" for what may change unseen.

        Layers and commits never change, so what a stage's or a repository's files are need not be read again.
        """
        instruction = wanted.instruction
        if instruction.add and not instruction.heredocs and all(map(is_git, wanted.patterns)):
            found = [self._repository(item, wanted, scope) for item in wanted.patterns]
            words = ["git", *wanted.exclude]
            for source in found:
                commit = await self._commit_of(source, wanted, scope)
                words += [source.remote, commit, source.subdir, str(source.keep_git_dir)]
            return digest_of("\0".join(words).encode("utf-8", "surrogateescape"))
        if not instruction.from_ or self._named(instruction) is not None:
            return ""
        state = await self._tools.other(instruction.from_, self._index, instruction.line)
        words = [
            *state.layers, *wanted.patterns, "", *wanted.exclude, str(instruction.parents),
            *(f"{item.name}={item.text}" for item in instruction.heredocs),
        ]  # fmt: skip
        return digest_of("\0".join(words).encode("utf-8", "surrogateescape"))

    async def _gather(self, wanted: "_Wanted", scope: Scope, stack: AsyncExitStack) -> list[Source]:
        """Return the sources; what was downloaded or mounted for them is there as long as the stack is open."""
        instruction = wanted.instruction
        word = "ADD" if instruction.add else "COPY"
        tree = await self._tree(instruction, stack)
        remote = [item for item in wanted.patterns if instruction.add and is_remote(item)]
        local = [item for item in wanted.patterns if item not in remote]
        if local and wanted.checksum:
            raise scope.error(
                f"ADD --checksum is for what is fetched, and {local[0][:200]} is a path of the context",
                hint="http://, https:// or a git repository",
            )
        for item in local:
            if instruction.add and "://" in item:
                scheme = item.partition("://")[0][:20]
                raise scope.error(
                    f"ADD {item[:200]}: {scheme}:// is not a source",
                    hint="a path in the build context, http://, https:// or a git repository",
                )
        try:
            sources = await asyncio.to_thread(
                copying.choose,
                tree,
                local,
                unpack=instruction.add and instruction.unpack is not False,
                parents=instruction.parents,
            )
        except NotFoundError as error:
            where = (
                f"in {instruction.from_}"
                if instruction.from_
                else ("in build context or excluded by .dockerignore")
            )
            raise scope.error(f"{word} failed: file not found {where}: {error.message}") from error
        sources += [self._heredoc(item, scope) for item in instruction.heredocs]
        for item in remote:
            sources.append(await self._fetch(item, wanted, scope, stack))
        if len(sources) > 1 and not instruction.parents and not _is_directory(wanted.destination):
            self._tools.say(
                f"[Warning] {scope.file.name}:{scope.line}: several sources go to "
                f"{wanted.destination}, which does not end with a /: each replaces the one before\n"
            )
        return sources

    async def _tree(self, instruction: ins.Copy, stack: AsyncExitStack) -> Tree:
        if not instruction.from_:
            return self._tools.context.tree
        named = self._named(instruction)
        if named is not None:
            return named_tree(named, self._tools.digests, self._tools.request.fetched)
        state = await self._tools.other(instruction.from_, self._index, instruction.line)
        root = await stack.enter_async_context(self._tools.layers.view(state.layers))
        return Tree(root, self._tools.digests)

    def _named(self, instruction: ins.Copy) -> Path | None:
        """Return the directory of the named context that --from names, None when it is something else."""
        found = self._tools.request.contexts.get(instruction.from_.lower())
        return found if isinstance(found, Path) else None

    def _heredoc(self, item: Heredoc, scope: Scope) -> Source:
        text = item.text
        if item.expand:
            try:
                text = expand(
                    text, scope.variables, escape=self._tools.file.escape, raw_quotes=True
                ).text
            except ExpandError as error:
                raise scope.error(f"failed to process heredoc {item.name}: {error}") from error
        return Source(name=item.name, data=text.encode(), mode=0o644)

    async def _fetch(
        self, item: str, wanted: "_Wanted", scope: Scope, stack: AsyncExitStack
    ) -> Source:
        remotes = self._tools.remotes
        try:
            if is_git(item):
                source = self._repository(item, wanted, scope)
                await self._commit_of(source, wanted, scope)
                tree, node = await remotes.repository(source, stack, keep=source.keep_git_dir)
                return Source(name="", tree=tree, node=node)
            if not url_name(item) and _is_directory(wanted.destination):
                raise scope.error(f"cannot determine filename for source {item}")
            unpack = bool(wanted.instruction.unpack)
            return await remotes.source(item, stack, checksum=wanted.checksum, unpack=unpack)
        except StackctlError as error:
            raise _located(error, scope) from error

    def _repository(self, item: str, wanted: "_Wanted", scope: Scope) -> GitSource:
        try:
            source = parse_git(item)
        except StackctlError as error:
            raise _located(error, scope) from error
        keep = wanted.instruction.keep_git_dir or source.keep_git_dir
        return replace(source, keep_git_dir=keep)

    async def _commit_of(self, source: GitSource, wanted: "_Wanted", scope: Scope) -> str:
        try:
            commit = await self._tools.remotes.commit(source)
            check_commit(commit, wanted.checksum, source.remote)
        except StackctlError as error:
            raise _located(error, scope) from error
        return commit

    async def _owner(self, root: Path, chown: str, chmod: str, scope: Scope) -> Ownership:
        """Return who owns what a step makes: as Docker has it, root for names that the image does not know."""
        if not chown:
            return Ownership(chmod=chmod)
        texts = []
        for path in ("/etc/passwd", "/etc/group"):
            try:
                data = await self._tools.files.read(root, path, limit=4 << 20)
                texts.append(data.decode(errors="replace"))
            except StackctlError:
                texts.append("")
        try:
            uid, gid, unknown = owner_of(chown, *texts)
        except InvalidInputError as error:
            raise scope.error(f"--chown={chown[:80]}: {error.message}") from error
        if unknown and not texts[0]:
            raise scope.error(
                f"--chown={chown[:80]}: unable to find {unknown}: the image has no /etc/passwd"
            )
        if unknown:
            self._tools.say(
                f"[Warning] {scope.file.name}:{scope.line}: {chown[:80]}: the image has no {unknown}\n"
            )
        return Ownership(uid=uid, gid=gid, chmod=chmod)

    async def _place(
        self, root: Path, sources: list[Source], text: str, instruction: ins.Copy, scope: Scope
    ) -> Destination:
        path = await self._resolved(root, absolute(self.state, text), scope)
        # Of several sources the first one makes it what it is.
        wants = _is_directory(text) or instruction.parents or sources[0].archive
        wants = wants or (len(sources) > 1 and sources[0].is_dir)
        try:
            found = await self._tools.files.stat(root, path, follow=True)
            exists, is_dir = True, stat.S_ISDIR(found.mode)
        except NotFoundError:
            exists = is_dir = False
        if exists and not is_dir and (wants or any(item.is_dir for item in sources)):
            raise scope.error(f"cannot copy to non-directory: {path}")
        directory = is_dir or wants
        if not directory and any(item.is_dir or item.archive for item in sources[1:]):
            raise scope.error(f"cannot copy to non-directory: {path}", hint="end it with a slash")
        only_archives = all(item.archive for item in sources)
        if directory and not exists and (only_archives or not any(item.is_dir for item in sources)):
            missing = await self._missing(root, path)
            return Destination(path=path, directory=True, exists=True, missing=missing)
        missing = await self._missing(root, posixpath.dirname(path)) if path != "/" else ()
        return Destination(path=path, directory=directory, exists=is_dir, missing=missing)

    def _check_kinds(
        self,
        root: Path,
        sources: list[Source],
        place: Destination,
        scope: Scope,
        exclude: list[str],
    ) -> None:
        tree = Tree(root, self._tools.digests)
        node = tree.find(place.path)
        host = tree.host_path(node.path)
        if node.is_dir and (found := copying.clash(host, sources, place, exclude)):
            raise scope.error(found)

    async def _resolved(self, root: Path, path: str, scope: Scope) -> str:
        """Return where a path leads, symlinks followed inside the root whether or not there is something behind them."""
        waiting = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        found = "/"
        links = 0
        while waiting:
            part = waiting.pop()
            if part == "..":
                found = posixpath.dirname(found)
                continue
            try:
                target = (
                    await self._tools.files.stat(root, posixpath.join(found, part))
                ).link_target
            except NotFoundError:
                target = ""
            if not target:
                found = posixpath.join(found, part)
                continue
            links += 1
            if links > _MAX_LINKS:
                raise scope.error(f"{path}: too many levels of symbolic links")
            if target.startswith("/"):
                found = "/"
            waiting += [item for item in reversed(target.split("/")) if item not in ("", ".")]
        return found

    async def _extract(
        self, root: Path, sources: list[Source], place: Destination, owner: Ownership
    ) -> None:
        for source in sources:
            if not source.archive or source.tree is None or source.node is None:
                continue
            host = source.tree.host_path(source.node.path)
            chunks = (
                copying.file_chunks(host) if owner.uid is None else copying.reowned(host, owner)
            )
            await self._tools.files.unpack(root, place.path, copying.in_thread(chunks))


@frozen
class _Goal:
    """What a step's history and configuration will be."""

    config: ImageConfig
    created_by: str
    author: str = ""


@frozen
class _Wanted:
    """A COPY or ADD with its variables replaced."""

    instruction: ins.Copy
    patterns: tuple[str, ...]
    destination: str
    exclude: tuple[str, ...]
    checksum: str


def _clamp(root: Path, changes: Sequence[Change], epoch: int) -> None:
    """Give what a step made or changed times that are not after the epoch; blocks.

    The step has ended, and the places of changes are directories of the snapshot itself: no symlink is on the way.
    """
    for item in reversed(changes):
        path = root / item.path.lstrip("/")
        try:
            info = path.lstat()
        except FileNotFoundError:
            continue  # deleted
        if info.st_mtime_ns > epoch * 1_000_000_000:
            os.utime(path, (epoch, epoch), follow_symlinks=False)


def _located(error: StackctlError, scope: Scope) -> StackctlError:
    """Return the error with the place of the instruction, once."""
    if isinstance(error, InvalidInputError) and error.message.startswith(f"{scope.file.name}:"):
        return error
    return scope.error(error.message, hint=error.hint)


def _is_directory(destination: str) -> bool:
    return destination.endswith("/") or posixpath.basename(destination) in (".", "..")


def _leads_to(first: Sequence[object], whole: Sequence[object]) -> bool:
    return tuple(whole[: len(first)]) == tuple(first)
