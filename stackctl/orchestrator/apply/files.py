"""Configs and secrets that are no files of the host, as they are put into a container."""

import io

from stackctl.orchestrator.apply.bodies import file_target, files_of
from stackctl.orchestrator.apply.inputs import content_of
from stackctl.orchestrator.model.service import Service
from stackctl.orchestrator.model.stack import Stack


def files_archive(stack: Stack, service: Service) -> bytes:
    """Return the configs and secrets that are no files of the host as a tar; empty when there are none."""
    found = [
        (
            file_target(reference, kind=kind),
            reference,
            content_of(item, kind=kind, service=service.name),
        )
        for kind, reference, item in files_of(stack, service)
        if not item.file
    ]
    if not found:
        return b""
    import tarfile  # 10 ms that an ``up`` without such files need not wait for

    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as archive:
        for target, reference, data in found:
            info = tarfile.TarInfo(target.lstrip("/"))
            info.size = len(data)
            info.mode = 0o444 if reference.mode is None else reference.mode
            info.uid = int(reference.uid) if reference.uid.isdigit() else 0
            info.gid = int(reference.gid) if reference.gid.isdigit() else 0
            archive.addfile(info, io.BytesIO(data))
        end = archive.offset
    # Two blocks of zeros end it, and nothing more: Podman hangs up on the padding that would follow.
    return output.getvalue()[: end + 2 * tarfile.BLOCKSIZE]
