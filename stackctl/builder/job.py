"""One build under way: its stages side by side, what they say in one stream, and what becomes of the last one.

Stages that do not need each other run at the same time.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from stackctl.builder import instructions as ins
from stackctl.builder import layout
from stackctl.builder.checks import ARGUMENT
from stackctl.builder.context import Context
from stackctl.builder.image import State, encode, scratch
from stackctl.builder.keeping import Keeping, Kept, KeptImage
from stackctl.builder.layout import Built, is_layout, parse_place
from stackctl.builder.metadata import PROXY_ARGS
from stackctl.builder.parser import Dockerfile
from stackctl.builder.remote import Remotes
from stackctl.builder.request import BuildOutput, BuildRequest, CachePlace
from stackctl.builder.stage import RunFailedError, StageBuilder
from stackctl.builder.stages import SCRATCH, Stage, StagePlan, find_stage
from stackctl.contracts.registry import Credentials
from stackctl.engine.image_values import short
from stackctl.engine.images import Images
from stackctl.errors import InvalidInputError, NotFoundError, StackctlError, UnavailableError
from stackctl.oci.digest import digest_of
from stackctl.oci.platform import Platform, parse_platform
from stackctl.oci.reference import DEFAULT_REGISTRY, Reference, parse_reference

if TYPE_CHECKING:
    from stackctl.builder.build import Builder


_PULLS = 3


class Several:
    """What the jobs of one build for several platforms leave: their images, held until ``holds`` closes."""

    def __init__(self, last: Platform, holds: ExitStack) -> None:
        self.last = last
        self.keys: list[tuple[int, str]] = []
        self.built: list[Built] = []
        self._holds = holds

    def take(self, platform: Platform, state: State, images: Images) -> None:
        names = (*state.layers, *(blob.digest for blob in state.blobs))
        self._holds.enter_context(images.held.hold(names))
        self.built.append(Built(platform=platform, state=state))


class Job:
    """One build under way."""

    def __init__(
        self,
        builder: "Builder",
        *,
        request: BuildRequest,
        file: Dockerfile,
        plan: StagePlan,
        context: Context,
        platform: Platform,
        defaults: Mapping[str, str],
        remotes: Remotes,
        several: Several | None = None,
    ) -> None:
        self._builder = builder
        self.request = request
        self.file = file
        self.context = context
        self.remotes = remotes
        self._plan = plan
        self._platform = platform
        self._defaults = defaults
        self._several = several
        self._queue: asyncio.Queue[BuildOutput | None] = asyncio.Queue()
        self._states: dict[int, asyncio.Future[State]] = {}
        self._pulls: dict[str, asyncio.Lock] = {}
        self._fresh: set[str] = set()
        self._sources: Sequence[State] | None = None
        self._keys: list[tuple[int, str]] = several.keys if several else []
        self._kept: list[Kept | KeptImage] | None = None
        self._held = ExitStack()
        self._opening = asyncio.Lock()
        self._names: set[str] = set()
        self._done = False
        self._tools = builder.tools(self)
        self._steps = plan.steps + (1 if request.labels else 0)

    # What the stages use

    def say(self, text: str) -> None:
        self._queue.put_nowait(BuildOutput(stream=text))

    def hold(self, state: State) -> None:
        names = (*state.layers, *(blob.digest for blob in state.blobs), digest_of(encode(state)))
        self.keep(names)

    def keep(self, names: Sequence[str]) -> None:
        self._names.update(names)
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

    def used(self, stage: int, key: str) -> None:
        self._keys.append((stage, key))

    def keeping(self) -> Keeping:
        return self._builder.keeping(self._credentials, self._platform)

    async def kept(self) -> Sequence[Kept | KeptImage]:
        """Return what the places of ``cache_sources`` have; one that cannot be read is said and passed over."""
        async with self._opening:
            if self._kept is None:
                found: list[Kept | KeptImage] = []
                for place in self.request.cache_sources:
                    try:
                        opened = await self._tools.keeping.open(place)
                    except StackctlError as error:
                        self.say(f"[Warning] cache_from: {error.message}\n")
                        continue
                    found += [opened] if opened is not None else []
                self._kept = found
            return self._kept

    async def _keep(self, place: CachePlace) -> None:
        wanted = {stage.index for stage in self._plan.stages}
        if not place.everything:
            parents = {stage.index: stage.parent for stage in self._plan.stages}
            wanted = set()
            at: int | None = self._plan.target
            while at is not None:
                wanted.add(at)
                at = parents[at]
        try:
            await self._tools.keeping.keep(
                place, [key for stage, key in self._keys if stage in wanted]
            )
        except StackctlError as error:
            if not place.lenient:
                raise type(error)(f"cache_to: {error.message}", hint=error.hint) from error
            self.say(f"[Warning] cache_to: {error.message}\n")

    def _credentials(self, reference: Reference) -> Credentials | None:
        return credentials_of(self.request, reference)

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
            if not self._done:
                # What a broken step made is named by nothing.
                self._builder.images.left.update(self._names)
            await asyncio.shield(self._builder.images.collect_left())

    async def _whole(self) -> None:
        try:
            state = await self._stages()
            if self._several is None:
                await self._finish(state)
            else:
                self._several.take(self._platform, state, self._builder.images)
            if self._several is None or self._several.last is self._platform:
                for place in self.request.cache_targets:
                    await self._keep(place)
            self._done = True
        except RunFailedError as error:
            self._queue.put_nowait(
                BuildOutput(error=error.message, code=error.code, located=error.located)
            )
        except StackctlError as error:
            self._queue.put_nowait(BuildOutput(error=error.worded))
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
            fresh=not {stage.name, str(stage.index)}.isdisjoint(self.request.no_cache_filter),
            outer=self._plan.global_args,
            platform_args=platform_args,
        )
        named = self.request.contexts.get(stage.base.lower())
        if isinstance(named, Path) and stage.parent is None:
            await builder.step(
                ins.Copy(
                    line=stage.start.line,
                    original=stage.start.original,
                    sources=(".",),
                    destination="/",
                    from_=stage.base,
                )
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
            # What is in the image goes before what was only an argument there.
            names = {item.partition("=")[0] for item in state.config.env}
            args = {name: value for name, value in state.args.items() if name not in names}
            return replace(state, args=args)
        try:
            platform = parse_platform(stage.platform) if stage.platform else self._platform
        except InvalidInputError as error:
            raise self.file.error(stage.start.line, error.message, hint=error.hint) from error
        named = self.request.contexts.get(stage.base.lower())
        if isinstance(named, Path) or (named is None and stage.base == SCRATCH):
            # The files of a directory are copied into it.
            self.say(" ---> \n")
            return scratch(platform)
        try:
            state = await self._image(named or stage.base, platform)
        except StackctlError as error:
            raise self.file.error(stage.start.line, error.message, hint=error.hint) from error
        self.say(f" ---> {short(state.parent or digest_of(encode(state)))}\n")
        return state

    async def _image(self, reference: str, platform: Platform) -> State:
        images = self._builder.images
        lock = self._pulls.setdefault(reference, asyncio.Lock())
        async with lock:
            if is_layout(reference):
                found = await asyncio.to_thread(layout.read, parse_place(reference), platform)
                self.keep(found.names)
                return await self._builder.bring(found)
            for _ in range(_PULLS):
                async with images.gate.shared():
                    record = images.find(reference)
                    fits = record is not None and platform.accepts(
                        Platform(
                            os=record.os, architecture=record.architecture, variant=record.variant
                        )
                    )
                    known = not self.request.pull or reference in self._fresh
                    if record is not None and fits and known:
                        state = await self._builder.state_of(record)
                        self.hold(state)
                        return state
                await self._pull(reference, platform)
        raise NotFoundError(f"{reference} was removed as soon as it was pulled, again and again")

    async def _pull(self, reference: str, platform: Platform) -> None:
        images = self._builder.images
        parsed = parse_reference(reference).with_default_tag()
        chosen = self._credentials(parsed)
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

    async def _push(self, tag: str) -> None:
        chosen = self._credentials(parse_reference(tag))
        async for progress in self._builder.images.push(tag, credentials=chosen):
            if progress.error:
                raise UnavailableError(progress.error)
        self.say(f"Successfully pushed {tag}\n")

    async def _triggers(self, builder: StageBuilder, stage: Stage) -> None:
        # Those of a stage of this file count as well as those of an image.
        triggers = builder.take_triggers()
        if not triggers:
            return
        word = "trigger" if len(triggers) == 1 else "triggers"
        self.say(f"# Executing {len(triggers)} build {word}\n")
        for trigger in triggers:
            await builder.step(ins.read_trigger(trigger, line=stage.start.line))

    async def _finish(self, state: State) -> None:
        unused = sorted(
            self._plan.unused_args
            - PROXY_ARGS
            - set(self._defaults)
            - {"SOURCE_DATE_EPOCH", ARGUMENT}
        )
        if unused:
            self.say(f"[Warning] One or more build-args [{' '.join(unused)}] were not consumed\n")
        result = self.request.result
        if result is not None and result.kind in ("tar", "local"):
            await self._builder.export(state, result)
            self.say(f"Successfully wrote {result.path}\n")
        tags = [str(tag) for tag in tags_of(self.request)]
        record, said = await self._builder.keep(self.request, state)
        for output in said:
            self._queue.put_nowait(output)
        if result is not None and result.kind in ("oci", "docker"):
            await self._builder.archive(tags or [record.id], result.path)
            self.say(f"Successfully wrote {result.path}\n")
        if self.request.push:
            for tag in tags:
                await self._push(tag)


def tags_of(request: BuildRequest) -> list[Reference]:
    """Return the names that a build is to have."""
    return [parse_reference(tag).with_default_tag() for tag in request.tags]


def credentials_of(request: BuildRequest, reference: Reference) -> Credentials | None:
    """Return the credentials that came with a build for the registry of a name."""
    known = request.credentials
    hub = reference.registry == DEFAULT_REGISTRY
    return known.get(reference.registry) or (
        known.get("https://index.docker.io/v1/") if hub else None
    )


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
