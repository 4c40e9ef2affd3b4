"""What RUN --mount makes on the host."""

import asyncio
from contextlib import AsyncExitStack

from stackctl.builder.context import Context, Digests
from stackctl.builder.instructions import RunMount
from stackctl.builder.mounts import CacheDirectories, StepMounts
from stackctl.builder.request import BuildRequest


def step_mounts(tmp_path, depth: str = "") -> StepMounts:
    context = Context(tmp_path, Digests(), temporary=False)
    scratch = tmp_path / f"scratch{depth}"
    request = BuildRequest(context=tmp_path)
    return StepMounts(context, None, Digests(), CacheDirectories(tmp_path / "c"), request, scratch)


async def test_an_agent_is_reached_through_a_socket_of_the_mode_asked_for(tmp_path):
    async def agent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"you said " + await reader.read())
        writer.close()

    server = await asyncio.start_unix_server(agent, tmp_path / "agent")
    mounts = step_mounts(tmp_path, "-" + "long" * 30)
    async with server, AsyncExitStack() as stack:
        path = await mounts._relay(tmp_path / "agent", RunMount(type="ssh", mode=0o640), stack)
        assert path.stat().st_mode & 0o7777 == 0o640
        (path.parent.parent / "short").symlink_to(path.parent)
        # A path that is too long for an address is reached through a shorter one.
        short = tmp_path / "s"
        short.symlink_to(path.parent)
        for _ in range(2):
            reader, writer = await asyncio.open_unix_connection(short / "agent")
            writer.write(b"hello")
            writer.write_eof()
            assert await reader.read() == b"you said hello"
            writer.close()
    assert not path.exists()


async def test_an_agent_that_is_gone_ends_the_connection(tmp_path):
    async with AsyncExitStack() as stack:
        path = await step_mounts(tmp_path)._relay(tmp_path / "none", RunMount(type="ssh"), stack)
        reader, writer = await asyncio.open_unix_connection(path)
        assert await reader.read() == b""
        writer.close()
