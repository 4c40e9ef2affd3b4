"""A container's log: tail and follow."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from stackctl.contracts.runtime import Runtime
from stackctl.engine import lifecycle
from stackctl.engine.book import Book
from stackctl.engine.requests import LogQuery
from stackctl.errors import InvalidInputError, UnsupportedError


@dataclass(slots=True)
class Logs:
    """The log service."""

    runtime: Runtime
    book: Book

    def read(self, ref: str, query: LogQuery) -> AsyncIterator[tuple[int, float, bytes]]:
        """Yield (1|2, seconds, bytes) line by line; a part of a very long line comes without its newline.

        Raises NotFoundError, InvalidInputError without any stream, UnsupportedError for the "none" driver; all
        before the first line is asked for.
        """
        record = self.book.container(ref)
        if not (query.stdout or query.stderr):
            raise InvalidInputError("Bad parameters: you must choose at least one stream")
        if record.spec.log_config.type == "none":
            raise UnsupportedError("configured logging driver does not support reading")
        follow = query.follow and record.status in lifecycle.LIVE
        return self._lines(record.id, Path(record.log_path), query, follow=follow)

    async def _lines(
        self, container_id: str, path: Path, query: LogQuery, *, follow: bool
    ) -> AsyncIterator[tuple[int, float, bytes]]:
        if not path.exists() and not follow:
            return
        wanted = {number for number, on in ((1, query.stdout), (2, query.stderr)) if on}
        if follow:
            source = self.runtime.follow_log(
                path,
                since=query.since,
                tail=query.tail,
                ended=self.book.live(container_id).ended,
            )
        else:
            source = self.runtime.read_log(
                path, since=query.since, until=query.until, tail=query.tail
            )
        async for number, seconds, data, _ in source:
            if query.until and seconds > query.until:
                return
            if number in wanted:
                yield number, seconds, data
