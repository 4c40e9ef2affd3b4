"""Configs and secrets: what they are, and where a service gets them."""

from stackctl.frozen import frozen
from stackctl.orchestrator.model.common import EMPTY, Extensions, Strings


@frozen
class FileReference:
    """A config or secret as a service (or a build) uses it.

    ``source`` is the key of the top-level element. ``target`` is the path in the container; empty or relative
    means the default directory (``/run/secrets`` for secrets, ``/`` for configs). ``mode`` is the permission bits,
    None where not given.
    """

    source: str
    target: str = ""
    uid: str = ""
    gid: str = ""
    mode: int | None = None
    extensions: Extensions = EMPTY


@frozen
class FileObject:
    """A top-level config or secret.

    Exactly one of ``file`` (absolute path), ``environment`` (name of a variable, whose value is then in
    ``content``), ``content`` or ``external`` says where the bytes come from. ``content`` is None when it is not
    text known to the stack file (file and external), and None for an environment variable that is not set.
    """

    key: str
    name: str
    file: str = ""
    environment: str = ""
    content: str | None = None
    external: bool = False
    labels: Strings = EMPTY
    driver: str = ""
    driver_opts: Strings = EMPTY
    template_driver: str = ""
    extensions: Extensions = EMPTY

    def __repr__(self) -> str:
        """Leave the content out, so that no log shows a secret."""
        return f"FileObject(key={self.key!r}, name={self.name!r})"
