"""/images, /commit and /distribution: list, inspect, pull, import, push, load, save, tag, remove, prune, commit."""

import re
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing

from aiohttp import web

from stackctl.api.codec import encode_message
from stackctl.api.filters import Filters, atoi, flag, until
from stackctl.api.gotime import filter_instant
from stackctl.contracts.registry import ResolvedManifest
from stackctl.contracts.state import ImageConfig
from stackctl.daemon.bodies import images as bodies
from stackctl.daemon.bodies import progress
from stackctl.daemon.call import JSON_TYPE, TAR_TYPE, Call
from stackctl.daemon.errors import text_of
from stackctl.daemon.streams import until_gone
from stackctl.engine.image_config import parse_document
from stackctl.engine.image_transfer import reported
from stackctl.engine.image_values import ImagePruneFilter, Progress, check_platform
from stackctl.errors import InvalidInputError, StackctlError
from stackctl.oci.image import MAX_MANIFEST, Index, parse_manifest
from stackctl.oci.platform import Platform, parse_platform
from stackctl.oci.reference import Reference, parse_reference
from stackctl.values import Json

_SEARCH_KEYS = frozenset({"is-automated", "is-official", "stars"})
_SEARCH_LIMIT, _MAX_SEARCH = 25, 100
_PRUNE_KEYS = frozenset({"dangling", "label", "label!", "until"})
_WITHOUT_FILTER = (1, 41)
_FULL_ID = re.compile("(?:sha256:)?[0-9a-f]{64}")


async def list_(call: Call) -> web.StreamResponse:
    engine = call.engine
    filters = dict(call.filters(bodies.KEYS))
    if call.version < _WITHOUT_FILTER and (name := call.text("filter")):
        filters["reference"] = (*filters.get("reference", ()), name)
    fits = bodies.selector(filters)
    older, newer = _bounds(call, filters)
    everything = call.flag("all")
    parents = {image.parent for image in engine.images.all()}
    found = []
    for image in engine.images.all():
        intermediate = not image.tags and not image.digests and image.id in parents
        if intermediate and not everything:
            continue
        if newer < bodies.created_at(image) < older and fits(image):
            found.append(image)
    found.sort(key=lambda image: (bodies.created_at(image), image.tagged_at), reverse=True)
    shared = await shared_sizes(call) if call.flag("shared-size") else {}
    users = Counter(record.image_id for record in engine.containers.all())
    wanted = filters.get("reference", ())
    return call.json(
        [
            bodies.entry_body(
                image,
                containers=users[image.id],
                shared=shared.get(image.id, -1),
                references=wanted,
                version=call.version,
            )
            for image in found
        ]
    )


async def shared_sizes(call: Call) -> dict[str, int]:
    """Return by image how many bytes of its layers other images have too."""
    images = call.engine.images.all()
    store = call.engine.world.layers
    having = Counter(layer for image in images for layer in image.layers)
    # One that is not unpacked (its blob was lost) has no size.
    sizes = {
        layer: await store.size(layer)
        for layer, count in having.items()
        if count > 1 and store.has(layer)
    }
    return {image.id: sum(sizes.get(layer, 0) for layer in image.layers) for image in images}


def _bounds(call: Call, filters: Filters) -> tuple[float, float]:
    """Return the instants that before, until and since leave between them."""
    images = call.engine.images
    now = call.engine.world.clock.now()
    before = [bodies.created_at(images.resolve(name)) for name in filters.get("before", ())]
    before += [filter_instant(text, now=now) for text in filters.get("until", ())]
    since = [bodies.created_at(images.resolve(name)) for name in filters.get("since", ())]
    return min(before, default=float("inf")), max(since, default=-1.0)


async def inspect(call: Call) -> web.StreamResponse:
    image = call.engine.images.resolve(call.args["name"])
    check_platform(image, _name(call), bodies.read_platform(call.text("platform")))
    places = call.engine.world.layers.places(image.layers)
    return call.json(bodies.inspect_body(image, places, version=call.version))


async def history(call: Call) -> web.StreamResponse:
    image = call.engine.images.resolve(call.args["name"])
    check_platform(image, _name(call), bodies.read_platform(call.text("platform")))
    lines = await call.engine.images.history(call.args["name"])
    return call.json([bodies.history_body(line) for line in lines])


def _name(call: Call) -> str:
    return call.args["name"]


async def tag(call: Call) -> web.StreamResponse:
    repository = call.text("repo")
    if not repository:
        raise InvalidInputError("invalid repo: repository name must have at least one component")
    target = parse_reference(repository)
    if word := call.text("tag"):
        target = target.with_tag(word)
    if target.digest:
        raise InvalidInputError("refusing to create a tag with a digest reference")
    await call.engine.images.tag(_name(call), str(target.with_default_tag()))
    return call.empty(201)


async def remove(call: Call) -> web.StreamResponse:
    gone = await call.engine.images.remove(
        _name(call), force=call.flag("force"), prune=not call.flag("noprune")
    )
    return call.json(bodies.removals_body(gone))


async def prune(call: Call) -> web.StreamResponse:
    filters = call.filters(_PRUNE_KEYS)
    wanted = ImagePruneFilter(
        dangling=flag(filters, "dangling", default=True),
        until=until(filters, now=call.engine.world.clock.now()),
        labels=bodies.label_pairs(filters.get("label", ())),
        not_labels=bodies.label_pairs(filters.get("label!", ())),
    )
    gone, freed = await call.engine.images.prune(wanted)
    return call.json({"ImagesDeleted": bodies.removals_body(gone) or None, "SpaceReclaimed": freed})


async def create(call: Call) -> web.StreamResponse:
    """Pull an image (fromImage) or import one from a tar (fromSrc)."""
    if call.text("fromImage"):
        return await _pull(call)
    if call.text("fromSrc"):
        return await _import(call)
    raise InvalidInputError("invalid fromImage: name an image to pull, or fromSrc to import")


def _platform(call: Call) -> Platform | None:
    text = call.text("platform")
    return parse_platform(text) if text else None


async def _pull(call: Call) -> web.StreamResponse:
    """Pull one image, or every tag of a repository where no tag is named."""
    reference = parse_reference(call.text("fromImage"))
    if word := call.text("tag"):
        is_digest = word.startswith("sha256:")
        reference = (
            parse_reference(f"{reference.name}@{word}") if is_digest else reference.with_tag(word)
        )
    if reference.name == "scratch":
        raise InvalidInputError("'scratch' is a reserved name")
    images = call.engine.images
    pull = images.pull if reference.tag or reference.digest else images.pull_all
    source = pull(str(reference), platform=_platform(call), credentials=call.auth())
    return await tell(call, source, progress.line)


async def _import(call: Call) -> web.StreamResponse:
    from stackctl.builder.changes import apply_changes

    source = call.text("fromSrc")
    reference = _target(call.text("repo"), call.text("tag"))
    config = apply_changes(ImageConfig(), call.request.query.getall("changes", []))
    platform = _platform(call)
    if platform is not None and platform.os != "linux":
        raise InvalidInputError("operating system is not supported")

    async def made(chunks: AsyncIterator[bytes]) -> str:
        return await call.engine.images.import_(
            chunks,
            reference=reference,
            config=config,
            message=call.text("message") or f"Imported from {source}",
            platform=platform,
        )

    async def sent() -> AsyncIterator[Progress]:
        yield Progress(status=await made(call.chunks()))

    return await tell(call, sent() if source == "-" else _fetched(source, made), progress.line)


async def _fetched(
    source: str, made: Callable[[AsyncIterator[bytes]], Awaitable[str]]
) -> AsyncIterator[Progress]:
    """Import what is at a URL (without a scheme: by http), telling the bytes that came."""
    from stackctl.builder.download import Fetch

    url = source if "://" in source else f"http://{source}"
    async with Fetch(url) as fetch:
        yield Progress(status=f"Downloading from {url}")

        async def work(report: Callable[[Progress], None]) -> None:
            async def counted() -> AsyncIterator[bytes]:
                got = 0
                async for chunk in fetch.chunks():
                    got += len(chunk)
                    report(Progress(status="Importing", current=got, total=fetch.size))
                    yield chunk

            report(Progress(status=await made(counted())))

        async with aclosing(reported(work)) as messages:
            async for message in messages:
                yield message


def _target(repository: str, tag: str) -> str:
    """Return the full reference that a new image is to have; "" for none."""
    if not repository:
        return ""
    target = parse_reference(repository)
    if tag:
        target = target.with_tag(tag)
    if target.digest:
        raise InvalidInputError("cannot import digest reference")
    return str(target.with_default_tag())


async def push(call: Call) -> web.StreamResponse:
    reference = parse_reference(_name(call))
    if word := call.text("tag"):
        reference = reference.with_tag(word)
    if (image := call.engine.images.find(str(reference))) is not None:
        check_platform(image, str(reference), bodies.read_platform(call.text("platform")))
    source = call.engine.images.push(str(reference), credentials=call.auth())
    return await tell(call, source, progress.line)


async def load(call: Call) -> web.StreamResponse:
    source = call.engine.images.load(
        call.chunks(),
        platform=bodies.read_platform(call.text("platform")),
        quiet=call.flag("quiet", default=True),
    )
    return await tell(call, source, progress.line, at_once=True)


async def save_one(call: Call) -> web.StreamResponse:
    return await _save(call, (_name(call),))


async def save(call: Call) -> web.StreamResponse:
    names = tuple(call.request.query.getall("names", []))
    if not names:
        raise InvalidInputError("invalid names: no image named")
    return await _save(call, names)


async def _save(call: Call, names: Sequence[str]) -> web.StreamResponse:
    platform = bodies.read_platform(call.text("platform"))
    return await call.pour(TAR_TYPE, call.engine.images.save_archive(names, platform=platform))


async def commit(call: Call) -> web.StreamResponse:
    from stackctl.builder.changes import apply_changes

    body = await call.body()
    container = call.text("container")
    if not container:
        raise InvalidInputError("invalid container: no container named")
    record = call.engine.containers.resolve(container)
    config = bodies.commit_config(body) or call.engine.containers.config_of(record)
    image_id = await call.engine.containers.commit(
        record.id,
        reference=_target(call.text("repo"), call.text("tag")),
        message=call.text("comment"),
        author=call.text("author"),
        config=apply_changes(config, call.request.query.getall("changes", [])),
        pause=call.flag("pause", default=True),
    )
    return call.json({"Id": image_id}, status=201)


async def distribution(call: Call) -> web.StreamResponse:
    if _FULL_ID.fullmatch(_name(call)):
        raise InvalidInputError("no manifest found for full image ID")
    reference = parse_reference(_name(call)).with_default_tag()
    registry = call.engine.world.registry
    found = await registry.resolve(reference, None, call.auth())
    top = found.top
    platforms: list[Json] = [
        {
            "architecture": one.architecture,
            "os": one.os,
            **({"variant": one.variant} if one.variant else {}),
        }
        for one in await _platforms(call, reference, found)
    ]
    return call.json(
        {
            "Descriptor": {"mediaType": top.media_type, "digest": top.digest, "size": top.size},
            "Platforms": platforms,
        }
    )


async def _platforms(
    call: Call, reference: Reference, found: ResolvedManifest
) -> tuple[Platform, ...]:
    """Return what an image is for: its index tells, or else its configuration."""
    if found.platforms:
        return found.platforms
    manifest = parse_manifest(found.data, found.descriptor.media_type)
    if isinstance(manifest, Index):
        return ()
    data = bytearray()
    fetched = call.engine.world.registry.fetch(reference, manifest.config, call.auth())
    async for chunk in fetched:
        data += chunk
        if len(data) > MAX_MANIFEST:
            raise InvalidInputError(f"{reference}: its configuration is too long")
    document = parse_document(bytes(data))
    return (Platform(architecture=document.architecture, os=document.os, variant=document.variant),)


async def search(call: Call) -> web.StreamResponse:
    limit = atoi(call.text("limit") or "0") or _SEARCH_LIMIT
    if not 1 <= limit <= _MAX_SEARCH:
        raise InvalidInputError(f"limit {limit} is outside the range of [1, {_MAX_SEARCH}]")
    filters = call.filters(_SEARCH_KEYS)
    bodies.search_body((), filters)
    term = call.text("term").strip()
    if not term.isprintable() or not term:
        raise InvalidInputError("invalid term: name what to look for")
    found = await call.engine.world.registry.search(term, limit, call.auth())
    return call.json(bodies.search_body(found, filters))


async def tell(
    call: Call,
    source: AsyncIterator[Progress],
    line: Callable[[Progress], Json],
    *,
    at_once: bool = False,
) -> web.StreamResponse:
    """Answer with JSON lines; an error before the first line has its own status, a later one is a line.

    With ``at_once`` the headers do not wait for the first line, so that every error is a line.
    """
    first: Progress | None = None if at_once else await anext(source, None)
    response = await call.stream(JSON_TYPE)

    async def lines() -> AsyncGenerator[bytes, None]:
        if first is not None:
            yield encode_message(line(first))
        try:
            async for step in source:
                yield encode_message(line(step))
        except StackctlError as error:
            yield encode_message(progress.error_line(text_of(error)))

    async with aclosing(lines()) as rendered:
        await until_gone(call, rendered, response.write)
    await response.write_eof()
    return response


ROUTES = (
    ("GET", "/images/json", list_),
    ("POST", "/images/create", create),
    ("POST", "/images/load", load),
    ("POST", "/images/prune", prune),
    ("GET", "/images/search", search),
    ("GET", "/images/get", save),
    ("GET", "/images/{name:*}/json", inspect),
    ("GET", "/images/{name:*}/history", history),
    ("GET", "/images/{name:*}/get", save_one),
    ("POST", "/images/{name:*}/tag", tag),
    ("POST", "/images/{name:*}/push", push),
    ("DELETE", "/images/{name:*}", remove),
    ("POST", "/commit", commit),
    ("GET", "/distribution/{name:*}/json", distribution),
)
