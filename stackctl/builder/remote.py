"""Sources that are elsewhere: files by URL, repositories, and build contexts of either kind.

Everything fetched goes below the builder's scratch directory and is gone when its stack closes.
"""

import asyncio
import shutil
import stat
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from stackctl.builder import copying
from stackctl.builder.context import Digests, Node, Tree
from stackctl.builder.copying import Source
from stackctl.builder.download import download, is_url, url_name
from stackctl.builder.git import check_commit, is_git, parse_git
from stackctl.contracts.repositories import GitAccess, GitSource, Repositories
from stackctl.contracts.storage import RootTree
from stackctl.errors import InvalidInputError, NotFoundError

_PLAIN_TEXT = 4 << 20


def is_remote(source: str) -> bool:
    """Tell whether a source is fetched: a URL or a repository."""
    return is_url(source) or is_git(source)


class Remotes:
    """Fetches for one build; what a ref leads to is asked once."""

    def __init__(
        self, repositories: Repositories, scratch: Path, digests: Digests, access: GitAccess
    ) -> None:
        self._repositories = repositories
        self._scratch = scratch
        self._digests = digests
        self._access = access
        self._commits: dict[GitSource, asyncio.Future[str]] = {}

    async def commit(self, source: GitSource) -> str:
        """Return the commit a repository's ref leads to; raises InvalidInputError or UnavailableError."""
        known = self._commits.get(source)
        if known is None:
            known = self._commits[source] = asyncio.ensure_future(self._resolved(source))
        return await asyncio.shield(known)

    async def _resolved(self, source: GitSource) -> str:
        commit = await self._repositories.resolve(source, self._access)
        check_commit(commit, source.commit, source.remote)
        return commit

    async def repository(
        self, source: GitSource, stack: AsyncExitStack, *, keep: bool
    ) -> tuple[Tree, Node]:
        """Return a repository's files, from its directory on; there as long as the stack is open."""
        commit = await self.commit(source)
        home = await self.directory(stack)
        await self._repositories.checkout(source, commit, self._access, home / "tree", keep=keep)
        tree = Tree(home / "tree", self._digests, ours=True)
        node = await asyncio.to_thread(_directory, tree, source)
        # The directory becomes a tree of its own, so that its symlinks do not lead to what lies beside it.
        root = Tree(Path(tree.host_path(node.path)), self._digests, ours=True)
        return root, root.find("")

    async def file(
        self, url: str, stack: AsyncExitStack, *, checksum: str = "", name: str = ""
    ) -> Path:
        """Return a downloaded file."""
        target = await self.directory(stack) / (name or url_name(url) or "file")
        await download(url, target, checksum)
        return target

    async def source(
        self, url: str, stack: AsyncExitStack, *, checksum: str, unpack: bool
    ) -> Source:
        """Return a downloaded file as a source of ADD."""
        path = await self.file(url, stack, checksum=checksum)
        tree = Tree(path.parent, self._digests, ours=True)
        archive = unpack and await asyncio.to_thread(copying.is_archive, str(path))
        return Source(name=path.name, tree=tree, node=tree.find(path.name), archive=archive)

    async def context(self, url: str, files: RootTree, stack: AsyncExitStack) -> Path:
        """Return a build context fetched from a URL: a repository, a tar, or a Dockerfile alone.

        Raises InvalidInputError or UnavailableError.
        """
        if is_git(url):
            source = parse_git(url)
            tree, _ = await self.repository(source, stack, keep=source.keep_git_dir)
            return Path(tree.root)
        path = await self.file(url, stack)
        root = await self.directory(stack) / "context"
        await asyncio.to_thread(root.mkdir, mode=0o755)
        if await asyncio.to_thread(copying.is_archive, str(path)):
            chunks = copying.in_thread(copying.file_chunks(str(path)))
            await files.unpack(root, "/", chunks)
            return root
        if (await asyncio.to_thread(path.stat)).st_size > _PLAIN_TEXT:
            raise InvalidInputError(f"{url[:200]} is neither a tar nor a Dockerfile")
        await asyncio.to_thread(path.replace, root / "Dockerfile")
        return root

    async def directory(self, stack: AsyncExitStack) -> Path:
        """Return a new directory of the builder's own."""
        self._scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        home = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="remote-", dir=self._scratch))
        stack.push_async_callback(asyncio.to_thread, shutil.rmtree, home, ignore_errors=True)
        return home


def _directory(tree: Tree, source: GitSource) -> Node:
    try:
        node = tree.find(source.subdir)
    except NotFoundError as error:
        raise InvalidInputError(
            f"{source.remote} has no directory {source.subdir[:200]!r}"
        ) from error
    if not stat.S_ISDIR(node.info.st_mode):
        raise InvalidInputError(f"{source.remote}: {source.subdir[:200]!r} is no directory")
    return node
