"""The X-Docker-Container-Path-Stat header: what is at a path, with the mode in Go's layout; pure."""

import base64
import binascii
import json
import stat

from stackctl.api.codec import Reader, parse_object
from stackctl.errors import InvalidInputError

STAT_HEADER = "X-Docker-Container-Path-Stat"

# os.FileMode of Go: the type and the special bits sit at the top, the permissions as ever below.
_TYPES = {
    stat.S_IFDIR: 1 << 31,
    stat.S_IFLNK: 1 << 27,
    stat.S_IFBLK: 1 << 26,
    stat.S_IFCHR: 1 << 26 | 1 << 21,
    stat.S_IFIFO: 1 << 25,
    stat.S_IFSOCK: 1 << 24,
}
_SPECIAL = ((stat.S_ISUID, 1 << 23), (stat.S_ISGID, 1 << 22), (stat.S_ISVTX, 1 << 20))


def go_mode(st_mode: int) -> int:
    """Return Go's file mode for the kernel's."""
    mode = stat.S_IMODE(st_mode) & 0o777 | _TYPES.get(stat.S_IFMT(st_mode), 0)
    for bit, go_bit in _SPECIAL:
        if st_mode & bit:
            mode |= go_bit
    return mode


def unix_mode(mode: int) -> int:
    """Return the kernel's file mode for Go's; a regular file when no type bit is set."""
    kind = next((unix for unix, go in _TYPES.items() if mode & go == go and go), stat.S_IFREG)
    if mode & 1 << 26:
        kind = stat.S_IFCHR if mode & 1 << 21 else stat.S_IFBLK
    return kind | mode & 0o777 | sum(bit for bit, go_bit in _SPECIAL if mode & go_bit)


def encode_stat(*, name: str, size: int, st_mode: int, mtime: str, link_target: str) -> str:
    """Return the header's text; ``mtime`` in RFC 3339."""
    body = {
        "name": name,
        "size": size,
        "mode": go_mode(st_mode),
        "mtime": mtime,
        "linkTarget": link_target,
    }
    return base64.b64encode(json.dumps(body).encode()).decode()


def decode_stat(header: str) -> Reader:
    """Return the header's object; raises InvalidInputError."""
    try:
        data = base64.b64decode(header, validate=True)
    except (ValueError, binascii.Error) as error:
        raise InvalidInputError(f"invalid {STAT_HEADER} header: {error}") from error
    return Reader(parse_object(data, optional=False), STAT_HEADER)
