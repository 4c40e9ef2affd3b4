"""Users of a container: "user[:group]" looked up in its own /etc/passwd and /etc/group; pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from stackctl.errors import InvalidInputError
from stackctl.frozen import frozen

MAX_ID = (1 << 31) - 1


@frozen
class User:
    """A resolved user. ``groups`` are the additional group IDs, the primary one included as Docker does."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    home: str = "/"
    name: str = ""


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    uid: int
    gid: int
    home: str


@dataclass(frozen=True, slots=True)
class _Group:
    name: str
    gid: int
    members: tuple[str, ...]


def resolve_user(user: str, passwd: str, group: str, *, group_add: Sequence[str] = ()) -> User:
    """Return who ``user`` ("name", "uid", with an optional ":group" or ":gid") is in the given files' text.

    As Docker: a name must be in passwd, a number need not be; without a group the passwd entry's is taken (0 when
    there is none) and the user joins every group that lists it; with a group only that one counts. ``group_add``
    (HostConfig.GroupAdd) comes on top. Raises InvalidInputError for names that are not there and IDs beyond
    0..2**31-1 (an overflow would wrap round to root).
    """
    user_part, _, group_part = user.partition(":")
    entries = _passwd(passwd)
    groups = _groups(group)
    wanted = user_part or "0"
    entry = next((item for item in entries if item.name == wanted), None)
    if entry is None and wanted.isascii() and wanted.isdigit():
        uid = _number(wanted, "User")
        entry = next((item for item in entries if item.uid == uid), None) or _Entry("", uid, 0, "/")
    if entry is None:
        raise InvalidInputError(
            f"unable to find user {wanted}: no matching entries in passwd file",
            hint="Config.User must name a user of the image, or be a number.",
        )
    gid = _group_id(group_part, groups, "User") if group_part else entry.gid
    joined = [gid]
    if not group_part and entry.name:
        joined += [item.gid for item in groups if entry.name in item.members]
    joined += [_group_id(name, groups, "HostConfig.GroupAdd") for name in group_add]
    return User(
        uid=entry.uid,
        gid=gid,
        groups=tuple(dict.fromkeys(joined)),
        home=entry.home or "/",
        name=entry.name,
    )


def owner_of(chown: str, passwd: str, group: str) -> tuple[int, int, str]:
    """Return the owner that ``--chown`` means in the given files' text, and what of it they do not have ("" if all).

    As Docker's builder has it: a name that is not there is root; a number alone is the group as well; a name alone has
    its entry's group, also where the group named is not there; "name:" is the group 0. Raises InvalidInputError for
    IDs beyond 0..2**31-1.
    """
    user, colon, wanted = chown.partition(":")
    uid = gid = 0
    missing = []
    if user.isascii() and user.isdigit():
        uid = gid = _number(user, "--chown")
    elif user:
        entry = next((item for item in _passwd(passwd) if item.name == user), None)
        if entry is None:
            missing.append(f"user {user}")
        else:
            uid, gid = entry.uid, entry.gid
    if colon and not wanted:
        gid = 0
    elif wanted.isascii() and wanted.isdigit():
        gid = _number(wanted, "--chown")
    elif wanted:
        found = next((item for item in _groups(group) if item.name == wanted), None)
        if found is None:
            missing.append(f"group {wanted}")
        else:
            gid = found.gid
    return uid, gid, " and no ".join(missing)


def _group_id(text: str, groups: Sequence[_Group], field: str) -> int:
    for item in groups:
        if item.name == text:
            return item.gid
    if text.isascii() and text.isdigit():
        return _number(text, field)
    raise InvalidInputError(
        f"unable to find group {text}: no matching entries in group file",
        hint=f"{field} must name a group of the image, or be a number.",
    )


def _number(text: str, field: str) -> int:
    # The length is looked at first: converting a megabyte of digits is not free.
    if len(text) > 10 or int(text) > MAX_ID:
        raise InvalidInputError(
            f"uids and gids must be in range 0-{MAX_ID}: {field} has {text[:20]}"
        )
    return int(text)


def _passwd(text: str) -> list[_Entry]:
    entries = []
    for line in text.splitlines():
        parts = line.split(":")
        if len(parts) >= 4 and _is_id(parts[2]) and _is_id(parts[3]):
            home = parts[5] if len(parts) > 5 else ""
            entries.append(_Entry(parts[0], int(parts[2]), int(parts[3]), home))
    return entries


def _groups(text: str) -> list[_Group]:
    groups = []
    for line in text.splitlines():
        parts = line.split(":")
        if len(parts) >= 3 and _is_id(parts[2]):
            members = parts[3].split(",") if len(parts) > 3 else []
            groups.append(_Group(parts[0], int(parts[2]), tuple(name.strip() for name in members)))
    return groups


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= MAX_ID
