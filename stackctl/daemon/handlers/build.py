"""/build: a Dockerfile and its context in, progress out; the builder itself is imported when it is needed."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING

from aiohttp import web

from stackctl.api.auth import CONFIG_HEADER, decode_config
from stackctl.api.codec import Reader, encode_message
from stackctl.api.refusal import Refusal
from stackctl.contracts.container import Ulimit
from stackctl.contracts.registry import Credentials
from stackctl.daemon.bodies import build as bodies
from stackctl.daemon.bodies import progress
from stackctl.daemon.bodies.build import LOCAL_TYPE, with_local
from stackctl.daemon.bodies.create import read_ulimits
from stackctl.daemon.call import JSON_TYPE, Call, credentials
from stackctl.daemon.errors import text_of
from stackctl.daemon.streams import finish, hijack, until_gone
from stackctl.engine.image_values import Progress
from stackctl.errors import InvalidInputError, StackctlError, UnsupportedError
from stackctl.oci.reference import parse_reference
from stackctl.values import JsonObject

if TYPE_CHECKING:
    from stackctl.builder.request import BuildOutput, BuildRequest

NO_BUILDKIT = "this engine does not speak BuildKit's protocol, but builds by the classic one"
HINT = "set DOCKER_BUILDKIT=0, or use stackctl build"


async def build(call: Call) -> web.StreamResponse:
    from stackctl.builder.build import build as run

    request = _request(call)
    places = call.request.content_type == LOCAL_TYPE
    if places:
        request = await asyncio.to_thread(with_local, request, await call.body())
    source = run(request, call.engine)
    first = await anext(source, None)
    quiet = call.flag("q")
    response = await call.stream(JSON_TYPE)

    async def lines() -> AsyncGenerator[bytes, None]:
        if first is not None:
            for body in _lines(first, quiet=quiet, places=places):
                yield encode_message(body)
        try:
            async for output in source:
                for body in _lines(output, quiet=quiet, places=places):
                    yield encode_message(body)
        except StackctlError as error:
            yield encode_message(progress.error_line(text_of(error)))

    async with aclosing(lines()) as rendered:
        await until_gone(call, rendered, response.write)
    await response.write_eof()
    return response


def _lines(output: "BuildOutput", *, quiet: bool, places: bool) -> list[JsonObject]:
    """Return what one piece of output is on the wire; a quiet build tells the image's ID alone.

    With ``places`` a step that failed is told with its line, which Docker's classic builder does not.
    """
    if output.error:
        text = (output.located if places else "") or output.error
        return [progress.error_line(text, code=output.code)]
    if output.checked:
        return [{"aux": {"Checked": True}}]
    if output.image_id:
        found: list[JsonObject] = [{"aux": {"ID": output.image_id}}]
        return [*found, {"stream": f"{output.image_id}\n"}] if quiet else found
    if quiet:
        return []
    if output.status:
        step = Progress(
            status=output.status, id=output.id, current=output.current, total=output.total
        )
        return [progress.line(step)]
    return [{"stream": output.stream}] if output.stream else []


def _request(call: Call) -> "BuildRequest":
    from stackctl.builder.remote import is_remote
    from stackctl.builder.request import BuildRequest

    if call.text("version") == "2":
        raise UnsupportedError(NO_BUILDKIT, hint=HINT)
    remote = call.text("remote")
    if remote and remote != "client-session" and not is_remote(remote):
        raise InvalidInputError(
            f"the remote build context {remote[:200]!r} is no http:// or https:// URL and no repository"
        )
    tags = tuple(
        str(parse_reference(tag).with_default_tag())
        for tag in call.request.query.getall("t", [])
        if tag
    )
    return BuildRequest(
        context=remote if remote and remote != "client-session" else call.chunks(),
        dockerfile=call.text("dockerfile") or "Dockerfile",
        target=call.text("target"),
        tags=tags,
        args=_arguments(call),
        labels={key: value or "" for key, value in _texts(call, "labels").items()},
        no_cache=call.flag("nocache"),
        pull=call.flag("pull"),
        cache_from=_names(call, "cachefrom"),
        network_mode=call.text("networkmode"),
        extra_hosts=_extra_hosts(call),
        shm_size=call.integer("shmsize") or 0,
        memory=call.integer("memory") or 0,
        memory_swap=call.integer("memswap") or 0,
        cpu_shares=call.integer("cpushares") or 0,
        cpu_period=call.integer("cpuperiod") or 0,
        cpu_quota=call.integer("cpuquota") or 0,
        cpuset_cpus=call.text("cpusetcpus"),
        cpuset_mems=call.text("cpusetmems"),
        cgroup_parent=call.text("cgroupparent"),
        ulimits=_ulimits(call),
        platform=call.text("platform"),
        credentials=_credentials(call),
        quiet=call.flag("q"),
        squash=call.flag("squash"),
        remove=call.flag("rm", default=True),
        force_remove=call.flag("forcerm"),
    )


def _parse(call: Call, name: str) -> object:
    text = call.text(name)
    if not text:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"invalid {name}: {error}") from error


def _texts(call: Call, name: str) -> Mapping[str, str | None]:
    value = _parse(call, name)
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(
        item is None or isinstance(item, str) for item in value.values()
    ):
        raise InvalidInputError(f"invalid {name}: expected a JSON object of strings")
    return {str(key): item for key, item in value.items()}


def _arguments(call: Call) -> Mapping[str, str]:
    """Return the build arguments; null means "the environment's", of which the daemon has none."""
    return {key: value for key, value in _texts(call, "buildargs").items() if value is not None}


def _names(call: Call, name: str) -> tuple[str, ...]:
    value = _parse(call, name)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidInputError(f"invalid {name}: expected a JSON array of strings")
    return tuple(value)


def _extra_hosts(call: Call) -> tuple[str, ...]:
    texts = call.request.query.getall("extrahosts", [])
    return tuple(host for text in texts for host in text.split(",") if host)


def _ulimits(call: Call) -> tuple[Ulimit, ...]:
    value = _parse(call, "ulimits")
    return () if value is None else read_ulimits(Reader({"Ulimits": value}))  # type: ignore[dict-item]  # checked there


def _credentials(call: Call) -> Mapping[str, Credentials]:
    found = {}
    for host, auth in decode_config(call.request.headers.get(CONFIG_HEADER, "")).items():
        known = credentials(auth)
        if known is not None:
            found[host] = known
    return found


async def prune(call: Call) -> web.StreamResponse:
    from stackctl.builder.build import builder_of

    for name in ("reserved-space", "max-used-space", "min-free-space", "keep-storage"):
        if text := call.text(name):
            bodies.check_space(name, text)
    # Not the keys: they are told of in other words.
    filters = call.filters()
    wanted = bodies.read_prune(filters, now=call.engine.world.clock.now())
    steps, freed = await builder_of(call.engine).prune(wanted)
    return call.json({"CachesDeleted": [*steps] or None, "SpaceReclaimed": freed})


async def no_buildkit(call: Call) -> web.StreamResponse:
    """Take the connection that docker's build plugin asks for, and tell every call on it what to do instead.

    Refused at once, the plugin would start a builder of its own in a container here, whose images stay in there.
    """
    if "h2c" not in call.request.headers.get("Upgrade", "").lower():
        raise UnsupportedError(NO_BUILDKIT, hint=HINT)
    connection = await hijack(call, tty=True, protocol="h2c")
    refusal = Refusal(f"{NO_BUILDKIT}: {HINT}")
    with contextlib.suppress(OSError):
        while not refusal.over and (data := await connection.receive()):
            if answer := refusal.feed(data):
                await connection.send(answer)
    return finish(call, connection)


async def cancel(call: Call) -> web.StreamResponse:
    return call.empty(200)


ROUTES = (
    ("POST", "/build", build),
    ("POST", "/build/prune", prune),
    ("POST", "/build/cancel", cancel),
    ("POST", "/session", no_buildkit),
    ("POST", "/grpc", no_buildkit),
)
