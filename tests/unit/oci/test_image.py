"""Manifests and indexes: read, written, and never two things at once."""

import json

import pytest

from stackctl.errors import InvalidInputError, NotFoundError
from stackctl.oci.descriptor import (
    DOCKER_MANIFEST,
    DOCKER_MANIFEST_LIST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
    Descriptor,
)
from stackctl.oci.image import Index, Manifest, choose, manifest_bytes, parse_manifest
from stackctl.oci.platform import Platform

DIGEST = "sha256:" + "a" * 64
CONFIG = Descriptor(media_type=OCI_CONFIG, digest=DIGEST, size=3)
LAYER = Descriptor(media_type=OCI_LAYER_GZIP, digest=DIGEST, size=4, annotations={"a": "b"})


def document(**changes: object) -> bytes:
    tree = json.loads(manifest_bytes(Manifest(config=CONFIG, layers=(LAYER,))))
    return json.dumps(
        {key: value for key, value in (tree | changes).items() if value is not ...}
    ).encode()


@pytest.mark.parametrize(
    "value",
    [
        Manifest(config=CONFIG, layers=(LAYER, LAYER)),
        Manifest(config=CONFIG, layers=(), media_type=DOCKER_MANIFEST, annotations={"x": "y"}),
        Index(manifests=(CONFIG,)),
        Index(
            manifests=(
                Descriptor(media_type="x", digest=DIGEST, size=1, platform=Platform(variant="v8")),
            ),
            media_type=DOCKER_MANIFEST_LIST,
        ),
    ],
)
def test_what_is_written_is_read_back(value):
    assert parse_manifest(manifest_bytes(value)) == value
    assert parse_manifest(manifest_bytes(value), value.media_type + "; charset=utf-8") == value


def test_a_document_without_a_media_type_is_told_by_its_fields():
    assert isinstance(parse_manifest(document(mediaType=...)), Manifest)
    assert isinstance(parse_manifest(b'{"schemaVersion":2,"manifests":[]}'), Index)


@pytest.mark.parametrize(
    ("data", "content_type", "text"),
    [
        (document(manifests=[]), "", 'should not have "manifests"'),
        (document(fsLayers=[]), "", 'should not have "fsLayers"'),
        (document(mediaType=..., manifests=[]), "", "is not an image manifest"),
        (document(), OCI_INDEX, "was served as"),
        (document(mediaType=OCI_INDEX), "", 'should not have "config"'),
        (document(mediaType="text/plain"), "", "is not an image manifest"),
        (document(schemaVersion=1), "", "schema version 1"),
        (document(config=None), "", '"config" is not an object'),
        (document(layers={}), "", '"layers" is not an array'),
        (document(layers=[{"digest": "sha256:../../x", "size": 1}]), "", "is not a digest"),
        (document(layers=[{"digest": DIGEST, "size": -1}]), "", "no possible size"),
        (document(layers=[{"digest": DIGEST, "size": True}]), "", "no possible size"),
        (document(layers=[{"digest": DIGEST}]), "", "no possible size"),
        (b"[]", "", "not a JSON object"),
        (b"{", "", "not JSON"),
        (b"[" * 100_000, "", "not JSON"),
    ],
)
def test_what_is_ambiguous_or_damaged_is_refused(data, content_type, text):
    with pytest.raises(InvalidInputError, match=text):
        parse_manifest(data, content_type)


def for_platform(**fields: str) -> Descriptor:
    return Descriptor(media_type=OCI_MANIFEST, digest=DIGEST, size=1, platform=Platform(**fields))


def test_the_platform_that_fits_is_chosen_with_its_own_variant_preferred():
    v6 = for_platform(architecture="arm", variant="v6")
    v7 = for_platform(architecture="arm", variant="v7")
    amd64 = for_platform()
    index = Index(manifests=(amd64, v6, v7))
    assert choose(index, Platform(architecture="arm", variant="v7")) is v7
    assert choose(index, Platform(architecture="arm")) is v6
    assert choose(index, Platform()) is amd64


def test_a_platform_that_is_not_there_names_those_that_are():
    index = Index(manifests=(for_platform(), for_platform(os="unknown", architecture="unknown")))
    with pytest.raises(NotFoundError, match="no matching manifest for linux/s390x") as caught:
        choose(index, Platform(architecture="s390x"))
    assert caught.value.hint == "there are linux/amd64"
