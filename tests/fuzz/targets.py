"""What is fuzzed of images and builds: each target takes bytes, and may raise nothing but our own kind of error.

A target asserts what must hold beside that: places in messages, nothing outside of the root.
"""

import contextlib
import io
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from stackctl.adapters.registry.auth import parse_challenges
from stackctl.adapters.storage.tarreader import TarStream, decompressed
from stackctl.adapters.storage.treewriter import TreeWriter
from stackctl.builder import checks
from stackctl.builder.git import is_git, parse_git
from stackctl.builder.instructions import read_text
from stackctl.builder.stages import plan_stages
from stackctl.engine.image_config import document_bytes, document_tree, parse_document
from stackctl.errors import InvalidInputError, NotFoundError, StackctlError
from stackctl.ignore import Ignore
from stackctl.oci.image import Manifest, choose, manifest_bytes, parse_manifest
from stackctl.oci.platform import parse_platform
from stackctl.oci.reference import parse_reference

_PLACE = re.compile(r"Dockerfile:[0-9]+: ")


def dockerfile(data: bytes) -> None:
    """Parser, instructions, stage graph, checks: an error names a line of the file."""
    text = data.decode(errors="replace")
    try:
        file, instructions = read_text(text)
        checks.findings(file, instructions, checks.Options())
        checks.read_options(file, {})
        plan_stages(file, instructions, args={"A": "b"}, defaults={"TARGETARCH": "amd64"})
    except InvalidInputError as error:
        if not _PLACE.match(error.message):
            raise AssertionError(error.message) from error


def tar(data: bytes) -> None:
    """Reading and unpacking: bounded, and nothing appears beside the root."""
    home = Path(tempfile.mkdtemp(prefix="fuzz-tar-"))
    root = home / "a" / "root"
    root.mkdir(parents=True)
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        stream = TarStream(decompressed(io.BytesIO(data)), max_bytes=4 << 20, max_entries=500)
        writer = TreeWriter(fd, whiteouts=os.geteuid() == 0)
        try:
            for entry in stream:
                with contextlib.suppress(OSError):
                    writer.apply(entry, stream)
            writer.finish()
            stream.drain()
        except StackctlError:
            pass
        finally:
            writer.close()
        assert os.listdir(home) == ["a"]
        assert os.listdir(home / "a") == ["root"]
    finally:
        os.close(fd)
        shutil.rmtree(home, ignore_errors=True)


def manifest(data: bytes) -> None:
    """Manifests and indexes: what is read is written and read as the same."""
    with contextlib.suppress(InvalidInputError, NotFoundError):
        document = parse_manifest(data)
        if isinstance(document, Manifest):
            again = parse_manifest(manifest_bytes(document), document.media_type)
            assert isinstance(again, Manifest)
            assert again.config.digest == document.config.digest
        else:
            choose(document, parse_platform("linux/amd64"))


def config(data: bytes) -> None:
    """Image configurations: writing what was read settles at once."""
    with contextlib.suppress(InvalidInputError):
        first = document_bytes(document_tree(parse_document(data)))
        assert document_bytes(document_tree(parse_document(first))) == first


def reference(data: bytes) -> None:
    """Names of images: the text of what was read reads as the same."""
    with contextlib.suppress(InvalidInputError):
        found = parse_reference(data.decode(errors="replace"))
        assert parse_reference(str(found)) == found


def ignore(data: bytes) -> None:
    """.dockerignore: any text gives an answer or one error."""
    text, _, path = data.decode(errors="replace").partition("\0")
    with contextlib.suppress(InvalidInputError):
        ignored = Ignore.parse(text)
        for name in (path or "a", "a/b/c", "sub/file.txt"):
            ignored.ignores(name)


def challenge(data: bytes) -> None:
    """WWW-Authenticate headers of registries."""
    parse_challenges(data.decode("latin-1"))


def repository(data: bytes) -> None:
    """Git sources: no part of one can be taken for an option."""
    text = data.decode(errors="replace")
    with contextlib.suppress(InvalidInputError):
        if is_git(text):
            found = parse_git(text)
            assert not found.ref.startswith("-")
            assert not found.remote.startswith("-")
            assert ".." not in found.subdir.split("/")


TARGETS: dict[str, Callable[[bytes], None]] = {
    one.__name__: one
    for one in (dockerfile, tar, manifest, config, reference, ignore, challenge, repository)
}
CORPUS = Path(__file__).parent.parent / "corpus" / "images"
