"""Every case of the table built by us is, file by file, what Docker's builder made of it (recorded.json)."""

import json

import pytest

from tests.compat.dockercli import docker_cli
from tests.conformance.cases import BASE, CASES, publish
from tests.conformance.record import RECORDED, made
from tests.sourceserver import Sources

pytestmark = pytest.mark.root
RECORD = json.loads(RECORDED.read_text())["cases"]


def test_every_case_is_recorded_and_every_record_has_its_case():
    assert sorted(RECORD) == sorted(CASES)


@pytest.fixture(scope="module")
def words(engine, tmp_path_factory):
    engine.import_busybox(BASE)
    with Sources(tmp_path_factory.mktemp("sources")).serving() as sources:
        yield publish(sources)


@pytest.mark.parametrize("name", CASES)
def test_a_build_makes_what_docker_makes(engine, words, name):
    environ = {**engine.environ, "DOCKER_HOST": engine.docker_host, "DOCKER_BUILDKIT": "0"}
    found = made([docker_cli()], name, CASES[name], words, environ)
    assert failure(found) == failure(RECORD[name]), found.get("said", "")


def failure(found: dict) -> dict:
    """Return what is compared: that a build failed, since no two builders put it the same way."""
    return {"error": True} if found.get("error") else found
