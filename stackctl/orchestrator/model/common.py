"""Words shared by the elements of a stack."""

from collections.abc import Iterator, Mapping
from typing import Never

from stackctl.values import Json

Extensions = Mapping[str, Json]
Strings = Mapping[str, str]


class _Nothing(Mapping[str, Never]):
    """An empty mapping that cannot change, so that it may be a default; equal to any empty mapping."""

    __slots__ = ()

    def __getitem__(self, key: str) -> Never:
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "{}"


EMPTY: Mapping[str, Never] = _Nothing()
