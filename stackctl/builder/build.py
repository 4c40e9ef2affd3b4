"""The builder: from a request to an image, telling what happens in the classic builder's words.

Whatever way a build ends, its containers, snapshots and
temporary files are gone; layers that were made stay, since the cache names them.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Protocol
from weakref import WeakKeyDictionary

from stackctl.builder import checks, layout
from stackctl.builder import instructions as ins
from stackctl.builder.cache import BuildCache
from stackctl.builder.context import Context, Digests
from stackctl.builder.image import State, encode, of_record
from stackctl.builder.instructions import Instruction
from stackctl.builder.job import Job, Several, credentials_of, tags_of
from stackctl.builder.keeping import CredentialsFor, Keeping
from stackctl.builder.layout import Built
from stackctl.builder.mounts import CacheDirectories, StepMounts
from stackctl.builder.network import Directories, EngineNetwork, Opener, Planner
from stackctl.builder.parser import Dockerfile
from stackctl.builder.receiving import Receiver
from stackctl.builder.remote import Remotes, is_remote
from stackctl.builder.request import BuildOutput, BuildRequest, BuildResult, CachePrune
from stackctl.builder.run import Runner, StepNetwork
from stackctl.builder.stage import Tools
from stackctl.builder.stages import SCRATCH, plan_stages
from stackctl.contracts.registry import Credentials
from stackctl.contracts.repositories import GitAccess
from stackctl.contracts.state import ImageRecord
from stackctl.engine.image_config import instant, parse_document
from stackctl.engine.image_gc import collect
from stackctl.engine.image_making import layers_of
from stackctl.engine.image_values import short
from stackctl.engine.images import Images
from stackctl.engine.world import World
from stackctl.errors import HostError, InvalidInputError, NotFoundError, StackctlError
from stackctl.oci.descriptor import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST
from stackctl.oci.image import Manifest
from stackctl.oci.platform import Platform, of_machine, parse_platform
from stackctl.oci.reference import Reference, parse_reference


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


EVERYTHING = CachePrune()
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
        self._cache = BuildCache(world.state, world.content, world.layers, world.clock, images.left)
        self._scratch = world.host.data_root / "build"
        self._receiver = Receiver(world.files, self._digests, self._scratch, world.host.memory_root)
        self._caches = CacheDirectories(world.host.data_root / "build-cache")
        self._runner = Runner(world.runtime, world.files, world.host, network)

    async def build(self, request: BuildRequest) -> AsyncGenerator[BuildOutput, None]:
        """Yield the build's output; closing the iterator stops the build.

        Raises InvalidInputError or NotFoundError before the first output when the request, the context or the
        Dockerfile is wrong; later failures are outputs with ``error``.
        """
        for tag in request.tags:
            parse_reference(tag)
        platforms = self._platforms(request)
        agent = request.ssh.get("default")
        access = GitAccess(secrets=request.secrets, agent=str(agent) if agent else "")
        remotes = Remotes(self._world.repositories, self._scratch, self._digests, access)
        fetched = AsyncExitStack()
        try:
            request = await self._brought(request, remotes, fetched)
            async with contextlib.aclosing(self._run(request, platforms, remotes)) as outputs:
                async for output in outputs:
                    yield output
        finally:
            await asyncio.shield(fetched.aclose())

    async def _brought(
        self, request: BuildRequest, remotes: Remotes, stack: AsyncExitStack
    ) -> BuildRequest:
        """Return the request with the contexts that are elsewhere fetched: directories while the stack is open."""
        files = self._world.files
        context = request.context
        if isinstance(context, str):
            context = await remotes.context(context, files, stack)
        named = dict(request.contexts)
        fetched: set[Path] = set()
        for name, place in request.contexts.items():
            if isinstance(place, str) and is_remote(place):
                named[name] = brought = await remotes.context(place, files, stack)
                fetched.add(brought)
        return replace(request, context=context, contexts=named, fetched=frozenset(fetched))

    async def _run(
        self, request: BuildRequest, platforms: Sequence[Platform], remotes: Remotes
    ) -> AsyncGenerator[BuildOutput, None]:
        if isinstance(request.context, str):
            raise InvalidInputError(f"the build context {request.context} was not fetched")
        context = await self._receiver.receive(request.context)
        try:
            file, instructions = await asyncio.to_thread(_read, context, request)
            if request.check:
                self._job(request, file, instructions, context, platforms[-1], remotes, None)
                yield _only_checked(file, instructions, request, self._env_of)
                return
            for finding in _checked(file, instructions, request, self._env_of):
                text = f"{file.name}:{finding.line}: {finding.rule}: {finding.message}"
                yield BuildOutput(stream=f"[Warning] {text}\n")
            with ExitStack() as holds:
                several = Several(platforms[-1], holds) if len(platforms) > 1 else None
                for platform in platforms:
                    job = self._job(
                        request, file, instructions, context, platform, remotes, several
                    )
                    if several is not None:
                        yield BuildOutput(stream=f"Platform {platform}\n")
                    async with contextlib.aclosing(job.outputs()) as outputs:
                        async for output in outputs:
                            yield output
                            if output.error:
                                return
                if several is not None:
                    async for output in self._finish(request, several.built):
                        yield output
        finally:
            await asyncio.shield(asyncio.to_thread(context.close))

    def _job(
        self,
        request: BuildRequest,
        file: Dockerfile,
        instructions: tuple[Instruction, ...],
        context: Context,
        platform: Platform,
        remotes: Remotes,
        several: Several | None,
    ) -> Job:
        defaults = _platform_args(platform, self._machine)
        plan = plan_stages(
            file,
            instructions,
            target=request.target,
            args=request.args,
            defaults=defaults,
            named=request.contexts,
            triggers_of=lambda base: self._triggers_of(request, base),
        )
        return Job(
            self,
            request=request,
            file=file,
            plan=plan,
            context=context,
            platform=platform,
            defaults=defaults,
            remotes=remotes,
            several=several,
        )

    def _env_of(self, base: str) -> Sequence[str] | None:
        """Return the names of the variables of an image that is here."""
        if base == SCRATCH:
            return ()
        record = self._here(base)
        env = record.config.env if record is not None else None
        return None if env is None else [item.partition("=")[0] for item in env]

    def _triggers_of(self, request: BuildRequest, base: str) -> Sequence[str]:
        """Return the triggers of an image that is here; those of one to be pulled can name no stage that is not built."""
        named = request.contexts.get(base.lower(), base)
        record = self._here(named) if isinstance(named, str) else None
        return record.config.on_build if record is not None else ()

    def _here(self, base: str) -> ImageRecord | None:
        try:
            return self._images.find(base)
        except InvalidInputError:
            return None

    async def _finish(
        self, request: BuildRequest, built: Sequence[Built]
    ) -> AsyncGenerator[BuildOutput, None]:
        """Keep this machine's image, and write and push what is of all platforms; a failure is an output."""
        try:
            mine = [item for item in built if self._machine.accepts(item.platform)]
            _, said = await self.keep(request, (mine or built)[0].state)
            for output in said:
                yield output
            tags = tags_of(request)
            result = request.result
            if result is not None:
                await self._write(result, built, tags)
                yield BuildOutput(stream=f"Successfully wrote {result.path}\n")
            for tag in tags if request.push else ():
                await self._push(built, tag, credentials_of(request, tag))
                yield BuildOutput(stream=f"Successfully pushed {tag}\n")
        except StackctlError as error:
            yield BuildOutput(error=error.worded)

    async def keep(
        self, request: BuildRequest, state: State
    ) -> tuple[ImageRecord, list[BuildOutput]]:
        """Make an image of what was built, under the build's tags; return it, and what is to be said of it."""
        tags = [str(tag) for tag in tags_of(request)]
        record = await self._images.add(encode(state), layers=state.blobs, tags=tags)
        said = [
            BuildOutput(image_id=record.id),
            BuildOutput(stream=f"Successfully built {short(record.id)}\n"),
        ]
        self._images.event("create", record)
        for tag in tags:
            self._images.event("tag", record, name=tag)
            said.append(BuildOutput(stream=f"Successfully tagged {tag}\n"))
        return record, said

    async def _write(
        self, result: BuildResult, built: Sequence[Built], tags: Sequence[Reference]
    ) -> None:
        if result.kind == "local":
            for item in built:
                words = (item.platform.os, item.platform.architecture, item.platform.variant)
                place = result.path / "_".join(word for word in words if word)
                await self.export(item.state, replace(result, path=place))
            return
        mtime = max(int(instant(item.state.document.created)) for item in built)
        files = sorted(layout.archive_files(built, tags).items())
        chunks = self._world.content.archive(files, max(mtime, 0))
        await _written(result.path, chunks)

    async def _push(
        self, built: Sequence[Built], tag: Reference, credentials: Credentials | None
    ) -> None:
        """Push every image by its digest, then the index of them under the tag."""
        content, registry, held = self._world.content, self._world.registry, self._images.held
        plain = replace(tag, tag="")
        manifests = []
        with ExitStack() as holds:
            for item in built:
                layers = []
                for blob in item.state.blobs:
                    if blob.media_type == OCI_LAYER:
                        blob = await content.compress(blob.digest)
                        holds.enter_context(held.hold([blob.digest]))
                    await registry.push_blob(plain, blob, content.path(blob.digest), credentials)
                    layers.append(blob)
                config = await content.put(encode(item.state), OCI_CONFIG)
                holds.enter_context(held.hold([config.digest]))
                await registry.push_blob(plain, config, content.path(config.digest), credentials)
                manifests.append((item.platform, Manifest(config=config, layers=tuple(layers))))
            data, documents = layout.index_of(manifests)
            for text in documents.values():
                await registry.push_manifest(plain, text, OCI_MANIFEST, credentials)
            await registry.push_manifest(tag, data, OCI_INDEX, credentials)
        left = [blob.digest for _, one in manifests for blob in (one.config, *one.layers)]
        await self._images.collect_blobs(left)

    async def bring(self, image: layout.LayoutImage) -> State:
        """Return the state that FROM an image of a layout starts with."""
        return await layout.bring(image, self._world.content, self._world.layers)

    async def prune(self, wanted: CachePrune = EVERYTHING) -> tuple[Sequence[str], int]:
        """Forget cached steps and empty the cache mounts; return the steps' IDs and the bytes of layers that went."""
        before = {
            chain: await self._world.layers.size(chain)
            for chain in await self._world.layers.layers()
        }
        async with self._images.gate.alone():
            steps = self._cache.prune(wanted.takes) if wanted.steps else ()
            if wanted.mounts:
                await asyncio.to_thread(self._caches.clear)
            # Only what the steps named: what somebody is just storing has no record yet.
            layers = dict.fromkeys(name for step in steps for name in step.layers)
            blobs = dict.fromkeys(name for step in steps for name in step.blobs)
            await collect(self._images, list(layers), list(blobs))
        after = set(await self._world.layers.layers())
        freed = sum(size for chain, size in before.items() if chain not in after)
        self._images.parts.publish("builder", "prune", "", {"reclaimed": str(freed)})
        return [step.id for step in steps], freed

    @property
    def _machine(self) -> Platform:
        return of_machine(self._world.host.machine)

    def _platforms(self, request: BuildRequest) -> list[Platform]:
        """Return the platforms to build for, this machine's last, so that names of base images end on its own."""
        texts = [text.strip() for text in request.platform.split(",") if text.strip()]
        found = [*dict.fromkeys(parse_platform(text) for text in texts)] or [self._machine]
        if (
            len(found) > 1
            and request.result is not None
            and request.result.kind not in ("oci", "local")
        ):
            raise InvalidInputError(
                f"a result of type {request.result.kind} is of one platform, and {len(found)} are asked for",
                hint="type=oci has an index of all, type=local a directory for each",
            )
        return sorted(found, key=self._machine.accepts)

    def tools(self, run: Job) -> Tools:
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
            remotes=run.remotes,
            say=run.say,
            other=run.other,
            hold=run.hold,
            keep=run.keep,
            used=run.used,
            keeping=run.keeping(),
            kept=run.kept,
            epoch=_epoch(run.request),
            sources=run.sources if run.request.cache_from else None,
        )  # fmt: skip

    def keeping(self, credentials: CredentialsFor, platform: Platform) -> Keeping:
        """Return what keeps steps outside the engine and takes them from there."""
        world = self._world
        return Keeping(
            self._cache, self._images, world.layers, world.registry, credentials, platform
        )

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

    async def archive(self, names: Sequence[str], path: Path) -> None:
        """Write an archive of images; it is there whole or not at all."""
        await _written(path, self._images.save_archive(names))

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


def _checked(
    file: Dockerfile,
    instructions: tuple[Instruction, ...],
    request: BuildRequest,
    env_of: checks.EnvOf,
) -> tuple[checks.Finding, ...]:
    """Return what the checks that the file asks for find; raises InvalidInputError where that ends the build."""
    options = checks.read_options(file, request.args)
    found = checks.findings(file, instructions, options, env_of) if options else ()
    if found and options is not None and options.error:
        raise checks.refuse(file, found)
    return found


def _only_checked(
    file: Dockerfile,
    instructions: tuple[Instruction, ...],
    request: BuildRequest,
    env_of: checks.EnvOf,
) -> BuildOutput:
    """Return the end of a build that is only to be checked: an error that lists the findings, if there are any."""
    options = checks.read_options(file, request.args) or checks.Options()
    found = checks.findings(file, instructions, options, env_of)
    if not found:
        return BuildOutput(checked=True)
    return BuildOutput(error=checks.listed(file, found))


def _platform_args(target: Platform, host: Platform) -> dict[str, str]:
    args: dict[str, str] = {}
    for word, platform in (("TARGET", target), ("BUILD", host)):
        args[f"{word}PLATFORM"] = str(platform)
        args[f"{word}OS"] = platform.os
        args[f"{word}ARCH"] = platform.architecture
        args[f"{word}VARIANT"] = platform.variant
    return args


async def _written(path: Path, chunks: AsyncIterator[bytes]) -> None:
    try:
        await _write_tar(path, chunks)
    except OSError as error:
        raise HostError(f"cannot write {path}: {error.strerror}", errno=error.errno or 0) from error


async def _write_tar(target: Path, chunks: AsyncIterator[bytes]) -> None:
    # What is no file, such as /dev/null, is written to as it is; renaming would put a file in its place.
    is_special = target.exists() and not target.is_file()
    part = target if is_special else target.with_name(f".{target.name}.part")
    try:
        file = await asyncio.to_thread(part.open, "wb")
        with file:
            async for chunk in chunks:
                await asyncio.to_thread(file.write, chunk)
        if not is_special:
            await asyncio.to_thread(part.replace, target)
    finally:
        if not is_special:
            await asyncio.to_thread(part.unlink, missing_ok=True)


def _epoch(request: BuildRequest) -> int | None:
    text = request.args.get("SOURCE_DATE_EPOCH", "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 12):
        raise InvalidInputError(f"SOURCE_DATE_EPOCH {text[:40]!r} is not a number of seconds")
    return int(text)
