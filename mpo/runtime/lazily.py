"""Sequences whose elements are made when they are asked for, so that ten million of them take no memory."""

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar, overload

T = TypeVar("T")


class Lazily(Sequence[T], Generic[T]):
    """`at(0)`, `at(1)`, … for so many places; each is made anew whenever it is asked for."""

    def __init__(self, places: int | range, at: Callable[[int], T]):
        self._places = range(places) if isinstance(places, int) else places
        self._at = at

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> "Lazily[T]": ...
    def __getitem__(self, index: int | slice) -> "T | Lazily[T]":
        if isinstance(index, slice):
            return Lazily(self._places[index], self._at)
        return self._at(self._places[index])
