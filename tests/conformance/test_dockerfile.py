"""Every case of the table built by us is, file by file, what Docker's builder made of it (recorded.json)."""

import contextlib
import json
import re
from concurrent.futures import ThreadPoolExecutor

import docker
import pytest

from tests.conformance.cases import BASE, CASES, publish
from tests.conformance.ours import made_by_us
from tests.conformance.record import RECORDED
from tests.sourceserver import Sources

pytestmark = pytest.mark.root
RECORD = json.loads(RECORDED.read_text())["cases"]
_AT_ONCE = 3
# Every failure names file, line and what stands there; but the classic wire tells of a step's failure as Docker does.
_PLACE = re.compile(
    r"(?:file|\.dockerignore|\)):[0-9]+: .*\n  [0-9]+ \| .|^The command '", re.MULTILINE | re.DOTALL
)
_OF_NO_FILE = frozenset({"build-context-missing", "build-file-missing"})


def test_every_case_is_recorded_and_every_record_has_its_case():
    assert sorted(RECORD) == sorted(CASES)


@pytest.fixture(scope="module")
def results(engine, request, tmp_path_factory):
    """What becomes of the cases that are asked for, by name; several are built at a time."""
    engine.import_busybox(BASE)
    asked = [item.callspec.params["name"] for item in request.session.items if _is_case(item)]
    home = tmp_path_factory.mktemp("sources")
    with (
        contextlib.closing(docker.DockerClient(base_url=engine.docker_host)) as client,
        Sources(home).serving() as sources,
        ThreadPoolExecutor(_AT_ONCE) as pool,
    ):
        words = publish(sources)
        yield {
            name: pool.submit(made_by_us, engine, client, name, CASES[name], words)
            for name in asked
        }


def _is_case(item: pytest.Item) -> bool:
    return getattr(item, "originalname", "") == test_a_build_makes_what_docker_makes.__name__


@pytest.mark.parametrize("name", CASES)
def test_a_build_makes_what_docker_makes(results, name):
    found = results[name].result()
    assert failure(found) == failure(RECORD[name]), found.get("said", "")
    if found.get("error") and name not in _OF_NO_FILE:
        assert _PLACE.search(found["said"]), found["said"]


def failure(found: dict) -> dict:
    """Return what is compared: that a build failed, since no two builders put it the same way."""
    return {"error": True} if found.get("error") else found
