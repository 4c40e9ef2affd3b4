import json
import tarfile

import pytest

from stackctl.errors import NotFoundError, UnsupportedError
from stackctl.orchestrator.apply.context import build_query, dockerfile_name, pack
from stackctl.orchestrator.model.build import Build
from stackctl.orchestrator.model.files import FileReference
from stackctl.orchestrator.model.service import Service
from stackctl.orchestrator.model.stack import Stack
from stackctl.orchestrator.planning.plan import BuildImage


def packed(build: Build) -> dict[str, tarfile.TarInfo]:
    with pack(build, service="web") as file, tarfile.open(fileobj=file) as archive:
        return {item.name: item for item in archive}


@pytest.fixture
def context(tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "app.py").write_text("print()\n")
    (tmp_path / "src" / "app.pyc").write_text("x")
    (tmp_path / "link").symlink_to("src/app.py")
    return tmp_path


def test_what_dockerignore_names_is_left_out_but_never_the_dockerfile(context) -> None:
    (context / ".dockerignore").write_text("**/*.pyc\nDockerfile\n")
    found = packed(Build(context=str(context)))
    assert set(found) == {".dockerignore", "Dockerfile", "src", "src/app.py", "link"}
    assert found["link"].issym()
    assert {(item.uid, item.gid, item.uname) for item in found.values()} == {(0, 0, "")}


def test_an_ignore_file_of_the_dockerfile_comes_first(context) -> None:
    (context / ".dockerignore").write_text("src\n")
    (context / "Dockerfile.dockerignore").write_text("link\n")
    assert "src/app.py" in packed(Build(context=str(context)))


def test_an_inline_dockerfile_and_one_outside_the_context_are_sent_along(context) -> None:
    inline = Build(context=str(context / "src"), dockerfile_inline="FROM scratch\n")
    assert dockerfile_name(inline) in packed(inline)
    outside = Build(context=str(context / "src"), dockerfile="../Dockerfile")
    assert dockerfile_name(outside).startswith(".dockerfile.")
    assert packed(outside)[dockerfile_name(outside)].size == 13


def test_a_missing_dockerfile_is_named(tmp_path) -> None:
    with pytest.raises(NotFoundError, match="service 'web': there is no Dockerfile at"):
        pack(Build(context=str(tmp_path)), service="web")


def query(build: Build) -> dict[str, str]:
    service = Service(name="web", build=build)
    stack = Stack(name="shop", working_dir="/", services={"web": service}, tree={})
    return build_query(stack, service, BuildImage(name="shop-web", service="web", pull=True))


def test_the_query_says_how_to_build() -> None:
    made = query(Build(context="/x", target="prod", args={"A": "1", "B": None}, shm_size=64))
    assert made["t"] == "shop-web"
    assert made["target"] == "prod"
    assert json.loads(made["buildargs"]) == {"A": "1"}
    assert (made["pull"], made["shmsize"]) == ("1", "64")


def test_what_the_classic_builder_cannot_do_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedError, match=r"build\.secrets is not offered"):
        query(Build(context="/x", secrets=(FileReference(source="s"),)))
