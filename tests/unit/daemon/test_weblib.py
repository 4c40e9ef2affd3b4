"""The deferred client of aiohttp; in processes of their own, since a package is imported once."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent.parent


def python(code):
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_serving_imports_no_client_and_the_client_is_there_when_asked_for():
    assert python(
        "import sys\n"
        "from stackctl.daemon.weblib import defer_client\n"
        "defer_client()\n"
        "from aiohttp import web\n"
        "import stackctl.daemon.routes, stackctl.daemon.wiring, stackctl.daemon.app\n"
        "print('aiohttp.client' in sys.modules)\n"
        "import aiohttp\n"
        "print(aiohttp.ClientSession.__name__, aiohttp.__version__ != '', 'aiohttp.client' in sys.modules)\n"
        "print(aiohttp.web is web, aiohttp.hdrs.HOST, hasattr(aiohttp, 'nothing'))\n"
    ) == ["False", "ClientSession", "True", "True", "True", "Host", "False"]


def test_a_package_that_is_there_already_stays_as_it_is():
    code = (
        "import aiohttp, sys\n"
        "from stackctl.daemon.weblib import defer_client\n"
        "defer_client()\n"
        "print(sys.modules['aiohttp'] is aiohttp)\n"
    )
    assert python(code) == ["True"]
