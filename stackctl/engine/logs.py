"""A container's log: tail and follow."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from stackctl.contracts.clock import Clock
from stackctl.contracts.container import ContainerRecord
from stackctl.contracts.runtime import Runtime
from stackctl.engine import lifecycle
from stackctl.engine.book import Book
from stackctl.engine.requests import LogQuery
from stackctl.errors import InvalidInputError, UnsupportedError

_T = TypeVar("_T")
_FIRST_WORDS = 0.1


@dataclass(slots=True)
class Logs:
    """The log service."""

    runtime: Runtime
    book: Book
    clock: Clock

    def read(self, ref: str, query: LogQuery) -> AsyncIterator[list[tuple[int, list[bytes]]]]:
        """Yield lists of (1|2, texts that follow one another), a text being a line or, of very many, several.

        A part of a very long line comes without its newline. Raises NotFoundError, InvalidInputError without any
        stream, UnsupportedError for the "none" driver; all before the first line is asked for.
        """
        record = self._checked(ref, query)
        return self._runs(
            record.id, Path(record.log_path), query, follow=self._grows(record, query)
        )

    def _checked(self, ref: str, query: LogQuery) -> ContainerRecord:
        record = self.book.container(ref)
        if not (query.stdout or query.stderr):
            raise InvalidInputError("Bad parameters: you must choose at least one stream")
        if record.spec.log_config.type == "none":
            raise UnsupportedError("configured logging driver does not support reading")
        return record

    def _grows(self, record: ContainerRecord, query: LogQuery) -> bool:
        return query.follow and record.status in lifecycle.LIVE

    async def _first_words(self, container_id: str) -> None:
        """Give a container that was started this moment the time to say something short.

        Clients ask for the log of ``echo`` right after the start; Docker takes so long that it is always there.
        """
        record = self.book.find(container_id)
        if record is None or record.status not in lifecycle.LIVE:
            return
        left = record.started_at + _FIRST_WORDS - self.clock.now()
        if 0 < left <= _FIRST_WORDS:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.book.live(container_id).ended.wait(), left)

    async def _runs(
        self, container_id: str, path: Path, query: LogQuery, *, follow: bool
    ) -> AsyncIterator[list[tuple[int, list[bytes]]]]:
        if not follow:
            await self._first_words(container_id)
            if not path.exists():
                return
        wanted = _wanted(query)
        if follow:
            ended = self.book.live(container_id).ended
            source = self.runtime.follow_log(path, query.part, ended=ended)
        else:
            source = _polite(self.runtime.read_log(path, query.part))
        async for batch in source:
            yield batch if len(wanted) == 2 else [run for run in batch if run[0] in wanted]


async def _polite(source: Iterable[_T]) -> AsyncIterator[_T]:
    """Yield what the source yields, letting others have their turn in between."""
    for item in source:
        yield item
        await asyncio.sleep(0)


def _wanted(query: LogQuery) -> set[int]:
    return {number for number, on in ((1, query.stdout), (2, query.stderr)) if on}
