"""One container takes the place of another that serves: its published ports and its names, in one step.

The newcomer is started *aside*: it runs, with neither its published ports nor its aliases. When it *relieves* the
other one, new connections come to it, those that are open go on where they are, and the former stands aside until it
is stopped. *Draining* waits for the connections that it still has.
"""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from stackctl.engine import lifecycle
from stackctl.errors import ConflictError, InvalidInputError

if TYPE_CHECKING:
    from stackctl.engine.core import Engine

_LOOK_AGAIN = 0.05
_LISTENING = "0A"
# Established, SYN received, FIN sent or received and not all acknowledged: bytes may still be on their way.
_OPEN = frozenset({"01", "03", "04", "08", "09"})


async def relieve(engine: "Engine", ref: str, donor_ref: str) -> None:
    """Let a running container take over from another one; repeating it changes nothing.

    Raises NotFoundError, ConflictError where it does not run or a third container has one of its ports.
    """
    record, donor = engine.containers.resolve(ref), engine.containers.resolve(donor_ref)
    if record.id == donor.id:
        raise InvalidInputError("a container cannot relieve itself")
    async with AsyncExitStack() as locks:
        for one in sorted(
            (record.id, donor.id)
        ):  # in one order, so that two calls cannot wait for each other
            await locks.enter_async_context(engine.book.live(one).lock)
        record, donor = engine.book.container(record.id), engine.book.container(donor.id)
        if record.status not in lifecycle.LIVE:
            raise ConflictError(
                f"container {record.name} is not running, so it cannot relieve another"
            )
        record, donor = await engine.sandboxes.relieve(record, donor)
        engine.book.save(record)
        engine.book.save(donor)


async def drain(engine: "Engine", ref: str, seconds: float) -> int:
    """Wait until nobody is connected to a container, and return how many are when the time is over.

    Connections to the ports that it listens on count. One that has the host's or another's network is not waited for.
    """
    record = engine.containers.resolve(ref)
    mode = record.spec.network_mode
    if mode == "host" or mode.startswith("container:"):
        return 0
    clock = engine.world.clock
    end = clock.now() + seconds
    quiet = 0
    while True:
        now = engine.book.find(record.id)
        if now is None or now.status not in lifecycle.LIVE or not now.pid:
            return 0
        found = await asyncio.to_thread(connections, now.pid)
        quiet = 0 if found else quiet + 1
        # Twice: a connection may have been on its way when its port changed hands.
        if quiet >= 2 or (found and clock.now() >= end):
            return found
        await clock.sleep(_LOOK_AGAIN)


def connections(pid: int) -> int:
    """Count the open TCP connections to listening ports in the network namespace of a process."""
    listening: set[str] = set()
    ports: list[str] = []
    for name in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]
        except OSError:
            continue  # it ended, or there is no IPv6
        for line in lines:
            words = line.split()
            port, state = words[1].rpartition(":")[2], words[3]
            if state == _LISTENING:
                listening.add(port)
            elif state in _OPEN:
                ports.append(port)
    return sum(port in listening for port in ports)
