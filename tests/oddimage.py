"""An image with everything that layers may hold, as a docker-archive, an OCI layout and an index of two platforms.

Layers are plain, gzip and zstd; in them are hard links, extended attributes, devices, long and foreign names, whiteouts
of files, directories and whole contents; one is empty. The history has steps without a layer.
"""

import gzip
import io
import json
import tarfile
from collections.abc import Iterable

import zstandard

from stackctl.oci.descriptor import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD,
    OCI_MANIFEST,
)
from stackctl.oci.digest import digest_of

CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")
_LONG = "n" * 90
_TYPES = {
    "file": tarfile.REGTYPE, "dir": tarfile.DIRTYPE, "symlink": tarfile.SYMTYPE, "link": tarfile.LNKTYPE,
    "fifo": tarfile.FIFOTYPE, "device": tarfile.CHRTYPE,
}  # fmt: skip
# (name, kind, what it holds or leads to, more fields of the header)
_FIRST = (
    ("d", "dir", "", {}),
    ("d/a", "file", "a", {}),
    ("d/b", "file", "b", {"mode": 0o4755, "uid": 1000, "gid": 1001}),
    ("d/h", "link", "d/a", {}),
    ("x", "file", "x", {
        "SCHILY.xattr.user.k": "v", "SCHILY.xattr.security.capability": CAPABILITY.decode("latin-1")}),
    ("e", "dir", "", {}),
    ("e/1", "file", "1", {}),
    ("e/s", "dir", "", {}),
    ("e/s/2", "file", "2", {}),
    ("fifo", "fifo", "", {}),
    ("null", "device", "", {}),
    ("l", "symlink", "d/a", {}),
    (_LONG, "dir", "", {}),
    (f"{_LONG}/{'m' * 120}", "file", "long", {}),
    ("ünï", "file", "u", {}),
)  # fmt: skip
_SECOND = (
    ("d/.wh.a", "file", "", {}),
    ("e", "dir", "", {"mode": 0o700}),
    ("e/.wh..wh..opq", "file", "", {}),
    ("e/new", "file", "new", {}),
    (".wh.x", "file", "", {}),
)
_LAST = (("x", "dir", "", {}), ("x/now", "file", "dir", {}))


def _tar(entries: Iterable[tuple[str, str, str, dict]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind, text, extra in entries:
            info = tarfile.TarInfo(name)
            info.type, info.mtime = _TYPES[kind], 1_700_000_000
            info.mode = extra.get("mode", 0o755 if kind == "dir" else 0o644)
            info.uid, info.gid = extra.get("uid", 0), extra.get("gid", 0)
            info.pax_headers = {key: value for key, value in extra.items() if "." in key}
            if kind == "device":
                info.devmajor, info.devminor = 1, 3
            data = text.encode() if kind == "file" else b""
            info.linkname = text if "link" in kind else ""
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _plain(data: bytes) -> bytes:
    return data


def _gzip(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


class OddImage:
    """The image on a root file system (a tar) that is its lowest layer."""

    def __init__(self, root: bytes) -> None:
        self.layers = [
            (OCI_LAYER_GZIP, root, _gzip(root)),
            *(
                (kind, tar, squeeze(tar))
                for kind, tar, squeeze in (
                    (OCI_LAYER, _tar(_FIRST), _plain),
                    (OCI_LAYER_ZSTD, _tar(_SECOND), zstandard.compress),
                    (OCI_LAYER_GZIP, _tar(()), _gzip),
                    (OCI_LAYER_ZSTD, _tar(_LAST), zstandard.compress),
                )
            ),
        ]
        self.diff_ids = [digest_of(tar) for _, tar, _ in self.layers]
        self.blobs: dict[str, bytes] = {}
        for _, _, data in self.layers:
            self._keep(data)
        self.config, self.manifest = self._image("amd64")
        self.other_config, self.other_manifest = self._image("arm64", "v8")

    def _keep(self, data: bytes) -> str:
        digest = digest_of(data)
        self.blobs[digest] = data
        return digest

    def _described(self, kind: str, data: bytes) -> dict:
        return {"mediaType": kind, "digest": self._keep(data), "size": len(data)}

    def _image(self, architecture: str, variant: str = "") -> tuple[str, dict]:
        """Return the configuration's digest and the manifest's descriptor."""
        config = {
            "architecture": architecture, "os": "linux", "created": "2024-01-01T00:00:05.123456789Z", "author": "odd",
            **({"variant": variant} if variant else {}),
            "config": {
                "Env": ["A=b"], "Cmd": ["sh"], "Labels": {"odd": "1"}, "Healthcheck": {"Test": ["NONE"]}, "unknown": 1,
            },
            "rootfs": {"type": "layers", "diff_ids": self.diff_ids},
            "history": [
                {"created": "2024-01-01T00:00:00Z", "created_by": "base", "comment": "first"},
                {"created": "2024-01-01T00:00:01Z", "created_by": "ENV A=b", "empty_layer": True},
                *({"created": f"2024-01-01T00:00:0{n}Z", "created_by": f"step {n}"} for n in (2, 3, 4)),
                {"created": "2024-01-01T00:00:05.123456789Z", "created_by": "step 5", "comment": "last"},
                {"created_by": "CMD", "empty_layer": True},
            ],
            "os.features": ["x"],
        }  # fmt: skip
        described = self._described(OCI_CONFIG, json.dumps(config).encode())
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": described,
            "layers": [self._described(kind, data) for kind, _, data in self.layers],
            "annotations": {"a": "b"},
        }
        return described["digest"], self._described(OCI_MANIFEST, json.dumps(manifest).encode())

    def layout(self, *tops: dict, name: str = "") -> bytes:
        """Return an OCI layout whose index names the descriptors, the first of them by ``name``."""
        notes = {"annotations": {"org.opencontainers.image.ref.name": name}} if name else {}
        tops = ({**tops[0], **notes}, *tops[1:])
        return _archive(
            {
                "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
                "index.json": json.dumps({"schemaVersion": 2, "manifests": tops}).encode(),
                **{f"blobs/{key.replace(':', '/')}": data for key, data in self.blobs.items()},
            }
        )

    def index(self) -> dict:
        """Return the descriptor of an index of both platforms and of something that is no image to run."""
        entries = [
            {**self.other_manifest, "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}},
            {**self.manifest, "platform": {"os": "linux", "architecture": "amd64"}},
            {**self.manifest, "platform": {"os": "unknown", "architecture": "unknown"}},
        ]  # fmt: skip
        text = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
        return self._described(OCI_INDEX, json.dumps(text).encode())

    def docker_archive(self, *names: str) -> bytes:
        """Return a docker-archive as other tools write it: layers by any name, compressed as they are."""
        files = {f"layer{number}.tar": data for number, (_, _, data) in enumerate(self.layers)}
        entry = {"Config": f"{self.config[7:]}.json", "RepoTags": names, "Layers": [*files]}
        config = {entry["Config"]: self.blobs[self.config]}
        return _archive({**config, **files, "manifest.json": json.dumps([entry]).encode()})


def _archive(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()
