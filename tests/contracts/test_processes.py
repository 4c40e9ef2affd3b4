"""What every Processes promises: the host's."""

import asyncio
import os
import subprocess

import pytest

from stackctl.adapters.runtime.processes import HostProcesses


@pytest.fixture
def sleeper():
    process = subprocess.Popen(["sleep", "1000"])
    yield process
    process.kill()
    process.wait()


async def test_a_process_is_known_by_its_start_and_its_end_is_noticed(sleeper):
    processes = HostProcesses()
    started = processes.start_time(sleeper.pid)
    assert started > 0
    gone = asyncio.create_task(processes.gone(sleeper.pid, started))
    await asyncio.sleep(0.05)
    assert not gone.done()
    sleeper.kill()
    # Dead and not waited for yet: it is gone for whoever it owned something for.
    await asyncio.wait_for(gone, 20)
    assert processes.start_time(sleeper.pid) == 0


async def test_another_process_of_the_same_number_is_not_the_one(sleeper):
    processes = HostProcesses()
    other = processes.start_time(sleeper.pid) - 1
    await asyncio.wait_for(processes.gone(sleeper.pid, other), 20)


@pytest.mark.parametrize("pid", [0, -1, 2**22 + 1])
async def test_there_is_no_such_process(pid):
    processes = HostProcesses()
    assert processes.start_time(pid) == 0
    await asyncio.wait_for(processes.gone(pid, 1), 20)


def test_numbers_are_those_of_this_boot_and_namespace():
    boot, space = HostProcesses().space().split()
    assert len(boot) == 36
    assert space == os.readlink("/proc/self/ns/pid")
