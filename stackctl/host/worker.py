"""Run one of the package's own modules in a process of its own, so that heavy work never holds the event loop.

The module is run as ``python -m``: it gets one JSON value on standard input, answers one on standard output and ends.
"""

import asyncio
import json
import os
import sys
from pathlib import Path

import stackctl
from stackctl.errors import HostError
from stackctl.values import Json

_PACKAGE_PARENT = str(Path(stackctl.__file__).resolve().parent.parent)


async def run_module(module: str, request: Json) -> Json:
    """Run ``python -m module`` with the request; return its answer. Killed when cancelled.

    Raises HostError when it fails without an answer.
    """
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "PYTHONPATH": _PACKAGE_PARENT,
        "LC_ALL": "C.UTF-8",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        module,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
        cwd="/",
    )
    try:
        output, errors = await process.communicate(json.dumps(request).encode())
    except BaseException:
        if process.returncode is None:
            process.kill()
            await asyncio.shield(process.wait())
        raise
    if process.returncode != 0:
        raise HostError(
            f"{module} failed: {errors.decode(errors='replace').strip()[-2000:]}",
            exit_code=process.returncode or 0,
        )
    answer: Json = json.loads(output)
    return answer
