"""Every case of the table built by us is, file by file, what Docker's builder made of it (recorded.json)."""

import json

import pytest

from tests.compat.dockercli import docker_cli
from tests.conformance.cases import BASE, CASES
from tests.conformance.record import RECORDED, made

pytestmark = pytest.mark.root
RECORD = json.loads(RECORDED.read_text())["cases"]


def test_every_case_is_recorded_and_every_record_has_its_case():
    assert sorted(RECORD) == sorted(CASES)


@pytest.mark.parametrize("name", CASES)
def test_a_build_makes_what_docker_makes(engine, name):
    engine.import_busybox(BASE)
    environ = {**engine.environ, "DOCKER_HOST": engine.docker_host, "DOCKER_BUILDKIT": "0"}
    found = made([docker_cli()], name, CASES[name], environ)
    assert found == RECORD[name]
