"""Run the stages: from a request to an image, telling what happens in the classic builder's words.

Stages that do not need each other run at the same time. Whatever way a build ends, its containers, snapshots and
temporary files are gone; layers that were made stay, since the cache names them.
"""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol
from weakref import WeakKeyDictionary

from stackctl.builder import instructions as ins
from stackctl.builder.cache import BuildCache
from stackctl.builder.context import Context, Digests, receive
from stackctl.builder.image import State, encode, of_record, scratch
from stackctl.builder.instructions import Instruction
from stackctl.builder.metadata import PROXY_ARGS
from stackctl.builder.mounts import CacheDirectories, StepMounts
from stackctl.builder.network import Directories, EngineNetwork, Opener, Planner
from stackctl.builder.parser import Dockerfile
from stackctl.builder.request import BuildOutput, BuildRequest, BuildResult
from stackctl.builder.run import Runner, StepNetwork
from stackctl.builder.stage import RunFailedError, StageBuilder, Tools
from stackctl.builder.stages import SCRATCH, Stage, StagePlan, find_stage, plan_stages
from stackctl.contracts.state import ImageRecord
from stackctl.engine.image_config import parse_document
from stackctl.engine.image_gc import collect_everything
from stackctl.engine.image_making import layers_of
from stackctl.engine.image_values import short
from stackctl.engine.images import Images
from stackctl.engine.world import World
from stackctl.errors import HostError, InvalidInputError, NotFoundError, StackctlError
from stackctl.oci.digest import digest_of
from stackctl.oci.platform import Platform, of_machine, parse_platform
from stackctl.oci.reference import parse_reference


class EngineParts(Protocol):
    """What the builder asks of the engine's core."""

    @property
    def world(self) -> World: ...
    @property
    def images(self) -> Images: ...
    @property
    def networks(self) -> Planner: ...
    @property
    def sandboxes(self) -> Opener: ...
    @property
    def files(self) -> Directories: ...


_BUILDERS: "WeakKeyDictionary[object, Builder]" = WeakKeyDictionary()


def builder_of(engine: EngineParts) -> "Builder":
    """Return the engine's builder; there is one, so that builds at the same time share their work."""
    found = _BUILDERS.get(engine)
    if found is None:
        network = EngineNetwork(engine.networks, engine.sandboxes, engine.files)
        found = Builder(engine.world, engine.images, network)
        _BUILDERS[engine] = found
    return found


def build(request: BuildRequest, engine: EngineParts) -> AsyncGenerator[BuildOutput, None]:
    """Build on the engine; see ``Builder.build``."""
    return builder_of(engine).build(request)


class Builder:
    """Builds images. Raises nothing once output has begun: a failure is the last output."""

    def __init__(self, world: World, images: Images, network: StepNetwork) -> None:
        self._world = world
        self._images = images
        self._digests = Digests()
        self._cache = BuildCache(world.state, world.content, world.layers, world.clock)
        self._scratch = world.host.data_root / "build"
        # What a daemon that was killed left there.
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._caches = CacheDirectories(world.host.data_root / "build-cache")
        self._runner = Runner(world.runtime, world.files, world.host, network)

    async def build(self, request: BuildRequest) -> AsyncGenerator[BuildOutput, None]:
        """Yield the build's output; closing the iterator stops the build.

        Raises InvalidInputError or NotFoundError before the first output when the request, the context or the
        Dockerfile is wrong; later failures are outputs with ``error``.
        """
        for tag in request.tags:
            parse_reference(tag)
        platform = self._platform(request)
        context = await receive(request.context, self._world.files, self._digests, self._scratch)
        try:
            file, instructions = await asyncio.to_thread(_read, context, request)
            defaults = _platform_args(platform, of_machine(self._world.host.machine))
            plan = plan_stages(
                file,
                instructions,
                target=request.target,
                args=request.args,
                defaults=defaults,
                named=request.contexts,
            )
            run = _Run(self, request, file, plan, context, platform, defaults)
            async with contextlib.aclosing(run.outputs()) as outputs:
                async for output in outputs:
                    yield output
        finally:
            await asyncio.shield(asyncio.to_thread(context.close))

    async def prune(self) -> tuple[int, int]:
        """Forget every cached step and empty the cache mounts; return (steps, bytes of layers that went)."""
        before = {
            chain: await self._world.layers.size(chain)
            for chain in await self._world.layers.layers()
        }
        count = self._cache.prune()
        await asyncio.to_thread(self._caches.clear)
        await collect_everything(self._images)
        after = set(await self._world.layers.layers())
        return count, sum(size for chain, size in before.items() if chain not in after)

    def _platform(self, request: BuildRequest) -> Platform:
        if request.platform:
            return parse_platform(request.platform)
        return of_machine(self._world.host.machine)

    def tools(self, run: "_Run") -> Tools:
        """Return what the stages of a run work with."""
        world = self._world
        return Tools(
            request=run.request,
            file=run.file,
            context=run.context,
            layers=world.layers,
            files=world.files,
            images=self._images,
            cache=self._cache,
            digests=self._digests,
            runner=self._runner,
            mounts=StepMounts(
                run.context, world.layers, self._digests, self._caches, run.request, self._scratch
            ),
            scratch=self._scratch,
            say=run.say,
            other=run.other,
            hold=run.hold,
            used=run.keys.append,
            epoch=_epoch(run.request),
            sources=run.sources if run.request.cache_from else None,
        )  # fmt: skip

    @property
    def cache(self) -> BuildCache:
        return self._cache

    @property
    def images(self) -> Images:
        return self._images

    async def export(self, state: State, result: BuildResult) -> None:
        """Write a stage's files where they were asked for; a tar is there whole or not at all."""
        async with self._world.layers.view(state.layers) as root:
            packed = self._world.files.pack(root, "")
            try:
                if result.kind == "local":
                    await asyncio.to_thread(result.path.mkdir, parents=True, exist_ok=True)
                    await self._world.files.unpack(result.path, "/", packed)
                else:
                    await _write_tar(result.path, packed)
            except OSError as error:
                raise HostError(
                    f"cannot write {result.path}: {error.strerror}", errno=error.errno or 0
                ) from error

    async def state_of(self, record: ImageRecord) -> State:
        """Return the state FROM an image starts with."""
        document = parse_document(await self._world.content.read(record.id))
        return of_record(record, document, await layers_of(self._images, record))


def _read(context: Context, request: BuildRequest) -> tuple[Dockerfile, tuple[Instruction, ...]]:
    name = request.dockerfile or "Dockerfile"
    text = request.dockerfile_text
    if text is None:
        try:
            text = context.read(name)
        except NotFoundError as error:
            if name != "Dockerfile":
                raise InvalidInputError(f"Cannot locate specified Dockerfile: {name}") from error
            try:
                text = context.read("dockerfile")
            except NotFoundError:
                raise InvalidInputError(f"Cannot locate specified Dockerfile: {name}") from error
    context.apply_ignore(name)
    shown = "Dockerfile" if name.startswith(".dockerfile.") else name
    return ins.read_text(text, name=shown)


def _platform_args(target: Platform, host: Platform) -> dict[str, str]:
    args: dict[str, str] = {}
    for word, platform in (("TARGET", target), ("BUILD", host)):
        args[f"{word}PLATFORM"] = str(platform)
        args[f"{word}OS"] = platform.os
        args[f"{word}ARCH"] = platform.architecture
        args[f"{word}VARIANT"] = platform.variant
    return args


async def _write_tar(target: Path, chunks: AsyncIterator[bytes]) -> None:
    part = target.with_name(f".{target.name}.part")
    try:
        file = await asyncio.to_thread(part.open, "wb")
        with file:
            async for chunk in chunks:
                await asyncio.to_thread(file.write, chunk)
        await asyncio.to_thread(part.replace, target)
    finally:
        await asyncio.to_thread(part.unlink, missing_ok=True)


def _epoch(request: BuildRequest) -> int | None:
    text = request.args.get("SOURCE_DATE_EPOCH", "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 12):
        raise InvalidInputError(f"SOURCE_DATE_EPOCH {text[:40]!r} is not a number of seconds")
    return int(text)


class _Run:
    """One build under way."""

    def __init__(
        self,
        builder: Builder,
        request: BuildRequest,
        file: Dockerfile,
        plan: StagePlan,
        context: Context,
        platform: Platform,
        defaults: Mapping[str, str],
    ) -> None:
        self._builder = builder
        self.request = request
        self.file = file
        self.context = context
        self._plan = plan
        self._platform = platform
        self._defaults = defaults
        self._queue: asyncio.Queue[BuildOutput | None] = asyncio.Queue()
        self._states: dict[int, asyncio.Future[State]] = {}
        self._pulls: dict[str, asyncio.Lock] = {}
        self._fresh: set[str] = set()
        self._sources: Sequence[State] | None = None
        self.keys: list[str] = []
        self._held = ExitStack()
        self._tools = builder.tools(self)
        self._steps = plan.steps + (1 if request.labels else 0)

    # What the stages use

    def say(self, text: str) -> None:
        self._queue.put_nowait(BuildOutput(stream=text))

    def hold(self, state: State) -> None:
        names = (*state.layers, *(blob.digest for blob in state.blobs), digest_of(encode(state)))
        self._held.enter_context(self._builder.images.held.hold(names))

    async def other(self, reference: str, before: int, line: int) -> State:
        """Return the state a --from names: an earlier stage's, else an image's."""
        named = self.request.contexts.get(reference.lower())
        names = {stage.name: stage.index for stage in self._plan.stages if stage.name}
        index = find_stage(names, reference, before) if named is None else None
        if index is not None:
            return await asyncio.shield(self._states[index])
        try:
            return await self._image(named if isinstance(named, str) else reference, self._platform)
        except StackctlError as error:
            raise self.file.error(
                line, f"invalid from flag value {reference}: {error.message}", hint=error.hint
            ) from error

    async def sources(self) -> Sequence[State]:
        """Return the images that --cache-from names, those that are here."""
        if self._sources is None:
            found = []
            for name in self.request.cache_from:
                record = self._builder.images.find(name)
                if record is not None:
                    found.append(await self._builder.state_of(record))
            self._sources = found
        return self._sources

    # The run

    async def outputs(self) -> AsyncGenerator[BuildOutput, None]:
        task = asyncio.create_task(self._whole(), name="build")
        try:
            while (output := await self._queue.get()) is not None:
                yield output
            await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self._held.close()

    async def _whole(self) -> None:
        try:
            for directory in self.request.cache_sources:
                await self._builder.cache.take(directory)
            state = await self._stages()
            await self._finish(state)
            for directory in self.request.cache_targets:
                await self._builder.cache.export(self.keys, directory)
        except RunFailedError as error:
            self._queue.put_nowait(BuildOutput(error=error.message, code=error.code))
        except StackctlError as error:
            hint = f" ({error.hint})" if error.hint else ""
            self._queue.put_nowait(BuildOutput(error=f"{error.message}{hint}"))
        finally:
            self._queue.put_nowait(None)

    async def _stages(self) -> State:
        loop = asyncio.get_running_loop()
        self._states = {stage.index: loop.create_future() for stage in self._plan.stages}
        for number, line in enumerate(self._global_lines(), 1):
            self.say(f"Step {number}/{self._steps} : {line}\n")
        try:
            async with asyncio.TaskGroup() as group:
                for stage in self._plan.stages:
                    group.create_task(self._stage(stage), name=f"stage {stage.index}")
        except BaseExceptionGroup as failures:
            raise _first(failures) from failures
        finally:
            for future in self._states.values():
                future.cancel()
        return self._states[self._plan.target].result()

    def _global_lines(self) -> list[str]:
        lines = []
        for statement in self.file.statements:
            if statement.keyword == "FROM":
                break
            lines.append(statement.original)
        return lines

    async def _stage(self, stage: Stage) -> None:
        for index in stage.needs:
            await asyncio.shield(self._states[index])
        number = stage.first_step
        self.say(f"Step {number}/{self._steps} : {stage.start.original}\n")
        state = await self._base(stage)
        platform_args = {**self._defaults, "TARGETSTAGE": stage.name or self.request.target}
        builder = StageBuilder(
            self._tools,
            state,
            index=stage.index,
            outer=self._plan.global_args,
            platform_args=platform_args,
        )
        await self._triggers(builder, stage)
        for instruction in stage.instructions:
            number += 1
            self.say(f"Step {number}/{self._steps} : {instruction.original}\n")
            await builder.step(instruction)
        if stage.index == self._plan.target and self.request.labels:
            pairs = tuple(sorted(self.request.labels.items()))
            text = "LABEL " + " ".join(f"{name}={value}" for name, value in pairs)
            self.say(f"Step {self._steps}/{self._steps} : {text}\n")
            label = ins.Label(line=stage.start.line, original=text, pairs=pairs)
            await builder.step(label, literal=True)
        self._states[stage.index].set_result(builder.state)

    async def _base(self, stage: Stage) -> State:
        if stage.parent is not None:
            state = self._states[stage.parent].result()
            self.say(f" ---> {digest_of(encode(state))[7:19]}\n")
            return State(
                document=state.document, layers=state.layers, blobs=state.blobs, parent=state.parent
            )
        platform = parse_platform(stage.platform) if stage.platform else self._platform
        if stage.base == SCRATCH:
            self.say(" ---> \n")
            return scratch(platform)
        named = self.request.contexts.get(stage.base.lower())
        if isinstance(named, Path):
            raise self.file.error(
                stage.start.line,
                f"FROM {stage.base}: a context that is a directory cannot be a base",
                hint="FROM scratch, then COPY --from it",
            )
        try:
            state = await self._image(named or stage.base, platform)
        except InvalidInputError as error:
            raise self.file.error(stage.start.line, error.message, hint=error.hint) from error
        self.say(f" ---> {short(state.parent)}\n")
        return state

    async def _image(self, reference: str, platform: Platform) -> State:
        images = self._builder.images
        lock = self._pulls.setdefault(reference, asyncio.Lock())
        async with lock:
            record = images.find(reference)
            fresh = record is not None and platform.accepts(
                Platform(os=record.os, architecture=record.architecture, variant=record.variant)
            )
            if record is None or not fresh or (self.request.pull and reference not in self._fresh):
                record = await self._pull(reference, platform)
            state = await self._builder.state_of(record)
            self.hold(state)
            return state

    async def _pull(self, reference: str, platform: Platform) -> ImageRecord:
        images = self._builder.images
        parsed = parse_reference(reference).with_default_tag()
        credentials = self.request.credentials
        chosen = credentials.get(parsed.registry) or (
            credentials.get("https://index.docker.io/v1/")
            if parsed.registry == "docker.io"
            else None
        )
        async for progress in images.pull(str(parsed), platform=platform, credentials=chosen):
            if progress.error:
                raise NotFoundError(progress.error)
            if progress.status:
                self._queue.put_nowait(
                    BuildOutput(
                        status=progress.status,
                        id=progress.id,
                        current=progress.current,
                        total=progress.total,
                    )
                )
        self._fresh.add(reference)
        return images.resolve(str(parsed))

    async def _triggers(self, builder: StageBuilder, stage: Stage) -> None:
        triggers = builder.take_triggers() if stage.parent is None else ()
        if not triggers:
            return
        word = "trigger" if len(triggers) == 1 else "triggers"
        self.say(f"# Executing {len(triggers)} build {word}\n")
        for trigger in triggers:
            await builder.step(ins.read_trigger(trigger, line=stage.start.line))

    async def _finish(self, state: State) -> None:
        images = self._builder.images
        unused = sorted(
            self._plan.unused_args - PROXY_ARGS - set(self._defaults) - {"SOURCE_DATE_EPOCH"}
        )
        if unused:
            self.say(f"[Warning] One or more build-args [{' '.join(unused)}] were not consumed\n")
        if self.request.result is not None:
            await self._builder.export(state, self.request.result)
            self.say(f"Successfully wrote {self.request.result.path}\n")
        record = await images.add(encode(state), layers=state.blobs)
        self._queue.put_nowait(BuildOutput(image_id=record.id))
        self.say(f"Successfully built {short(record.id)}\n")
        for tag in self.request.tags:
            await images.tag(record.id, tag)
            self.say(f"Successfully tagged {parse_reference(tag).with_default_tag()}\n")


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    leaves: list[BaseException] = []
    waiting: list[BaseException] = [group]
    while waiting:
        item = waiting.pop()
        if isinstance(item, BaseExceptionGroup):
            waiting.extend(item.exceptions)
        else:
            leaves.append(item)
    with contextlib.suppress(StopIteration):
        return next(item for item in leaves if isinstance(item, StackctlError))
    return leaves[0]
