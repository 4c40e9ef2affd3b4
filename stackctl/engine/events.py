"""The event bus: what happened, told to whoever listens and kept for those who come later.

The last 256 events are kept for replay (Docker's number), and as many of the probes of healthchecks beside them. Filters follow Docker's rules (GET /events).
"""

import asyncio
import heapq
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence

from stackctl.contracts.clock import Clock
from stackctl.engine.requests import Event, EventQuery, Filters
from stackctl.errors import InvalidInputError
from stackctl.oci.reference import parse_reference

RING = 256
BACKLOG = 8192
_NAMED = frozenset(
    {"container", "network", "volume", "plugin", "daemon", "service", "node", "secret", "config"}
)
_FUZZY_ACTIONS = ("health_status", "exec_create", "exec_start")


class Subscription(AsyncIterator[Event]):
    """Events as they come, from the moment of ``subscribe`` on; ends at ``until`` or on ``close``."""

    def __init__(self, bus: "Events", query: EventQuery, replay: list[Event]) -> None:
        self._bus = bus
        self._query = query
        self._waiting: deque[Event] = deque(replay)
        self._wake = asyncio.Event()
        self._closed = False

    def __aiter__(self) -> "Subscription":
        return self

    async def __anext__(self) -> Event:
        while not self._waiting:
            if self._closed:
                raise StopAsyncIteration
            self._wake.clear()
            if not await self._wait():
                self.close()
        return self._waiting.popleft()

    async def _wait(self) -> bool:
        """Wait for an event; False when ``until`` came first."""
        if not self._query.until:
            await self._wake.wait()
            return True
        left = self._query.until - self._bus.clock.now()
        if left <= 0:
            return False
        try:
            await asyncio.wait_for(self._wake.wait(), left)
        except TimeoutError:
            return False
        return True

    def offer(self, event: Event) -> None:
        """Take an event that matches; a reader that is too far behind loses the oldest."""
        if matches(self._query.filters, event):
            if len(self._waiting) >= BACKLOG:
                self._waiting.popleft()
            self._waiting.append(event)
            self._wake.set()

    def close(self) -> None:
        """Stop listening; may be repeated. What was received can still be read."""
        self._closed = True
        self._bus.forget(self)
        self._wake.set()


class Events:
    """The event service."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._ring: deque[Event] = deque(maxlen=RING)
        self._frequent: deque[Event] = deque(maxlen=RING)
        self._subscriptions: set[Subscription] = set()
        self._last_ns = 0

    def publish(
        self,
        type_: str,
        action: str,
        actor_id: str,
        attributes: Mapping[str, str] | None = None,
        *,
        frequent: bool = False,
    ) -> Event:
        """Tell everyone; never blocks. What is ``frequent`` pushes nothing else out of what is kept."""
        # Two events never have the same time, so that ``since`` can name one of them.
        self._last_ns = max(self._last_ns + 1, int(self.clock.now() * 1e9))
        event = Event(
            type=type_,
            action=action,
            id=actor_id,
            attributes=dict(attributes or {}),
            time_ns=self._last_ns,
        )
        (self._frequent if frequent else self._ring).append(event)
        for subscription in tuple(self._subscriptions):
            subscription.offer(event)
        return event

    def subscribe(self, query: EventQuery | None = None) -> Subscription:
        """Listen from now on, after a replay of what the ring holds since ``query.since``."""
        query = query or EventQuery()
        replay: list[Event] = []
        if query.since or query.until:
            replay = [
                event
                for event in heapq.merge(self._ring, self._frequent, key=_time)
                if event.time_ns >= query.since * 1e9
                and (not query.until or event.time_ns <= query.until * 1e9)
                and matches(query.filters, event)
            ]
        subscription = Subscription(self, query, replay)
        self._subscriptions.add(subscription)
        return subscription

    @property
    def listening(self) -> int:
        """How many listen."""
        return len(self._subscriptions)

    def forget(self, subscription: Subscription) -> None:
        self._subscriptions.discard(subscription)

    def close(self) -> None:
        """End every stream."""
        for subscription in tuple(self._subscriptions):
            subscription.close()


def _time(event: Event) -> int:
    return event.time_ns


def matches(filters: Filters, event: Event) -> bool:
    """Tell whether Docker would show the event under these filters: every key must match, any value of it, all labels."""
    return all(_match(key, values, event) for key, values in filters.items() if values)


def _match(key: str, values: Sequence[str], event: Event) -> bool:
    attributes = event.attributes
    if key in _NAMED:
        # The beginning of an ID or name of whatever the event is about, as in Docker.
        name = attributes.get("name", "")
        return any(event.id.startswith(value) or name.startswith(value) for value in values)
    match key:
        case "type":
            return event.type in values
        case "event":
            fuzzy = any(value in _FUZZY_ACTIONS for value in values)
            return event.action in values or (fuzzy and event.action.startswith(tuple(values)))
        case "label":
            return all(_has(attributes, value) for value in values)
        case "scope":
            return "local" in values
        case "image":
            image = attributes.get("name" if event.type == "image" else "image", "")
            return any(
                item in values for item in (event.id, image, _untagged(event.id), _untagged(image))
            )
    # Docker looks at no other keys, and refuses none.
    return True


def _has(attributes: Mapping[str, str], label: str) -> bool:
    name, equals, value = label.partition("=")
    return name in attributes and (not equals or attributes[name] == value)


def _untagged(image: str) -> str:
    try:
        return parse_reference(image).name
    except InvalidInputError:
        return image
