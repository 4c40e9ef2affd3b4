"""Images pinned to digests."""

import pytest

from stackctl.cli import digests
from stackctl.errors import NotFoundError, UnavailableError
from stackctl.orchestrator.stackfile import dump
from stackctl.orchestrator.stackfile.load import LoadOptions, load

DIGEST = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64


def loaded(tmp_path, text):
    (tmp_path / "stack.yaml").write_text(text)
    return load(LoadOptions(environ={"XDG_CACHE_HOME": str(tmp_path)}, cwd=str(tmp_path)))


def test_every_image_gets_the_digest_that_its_registry_has(tmp_path):
    asked = []

    def digest_of(reference):
        asked.append(reference)
        return DIGEST

    text = f"services: {{a: {{image: nginx}}, b: {{image: 'r.io/x/y:2'}}, c: {{build: .}}, d: {{image: 'z@{OTHER}'}}}}"
    stack = digests.pinned(loaded(tmp_path, text), digest_of)
    services = stack.tree["services"]
    assert services["a"]["image"] == f"docker.io/library/nginx:latest@{DIGEST}"
    assert services["b"]["image"] == f"r.io/x/y:2@{DIGEST}"
    assert "image" not in services["c"]
    assert services["d"]["image"] == f"docker.io/library/z@{OTHER}"
    assert asked == ["docker.io/library/nginx:latest", "r.io/x/y:2"]


def test_a_lock_file_holds_the_images_and_nothing_else(tmp_path):
    stack = digests.pinned(
        loaded(tmp_path, "services: {a: {image: nginx, labels: {x: y}}}"), lambda _: DIGEST
    )
    text = dump.to_yaml(digests.lock(stack))
    assert text == f"services:\n  a:\n    image: docker.io/library/nginx:latest@{DIGEST}\n"


def test_an_image_that_no_registry_has_is_named_with_its_service(tmp_path):
    def digest_of(reference):
        raise NotFoundError(f"{reference}: not found")

    with pytest.raises(UnavailableError, match="service a: cannot learn the digest of nginx:9"):
        digests.pinned(loaded(tmp_path, "services: {a: {image: 'nginx:9'}}"), digest_of)
