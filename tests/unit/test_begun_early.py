"""A transaction that begins before what it needs is there."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import NoReturn

import pytest

from etl.utils.errors import AbortedError
from etl.utils.run import begun_early


def test_it_gets_what_the_block_has_made_and_the_block_gets_what_came_of_it() -> None:
    order: list[str] = []
    has_begun: Future[None] = Future()

    def work(needed: Callable[[], int]) -> int:
        order.append("begun")
        has_begun.set_result(None)
        return needed() + 1

    with begun_early(work) as complete:
        has_begun.result(10)
        order.append("made")
        assert complete(41) == 42
    assert order == ["begun", "made"]


@pytest.mark.parametrize("error", [ValueError("of the block"), AbortedError("asked to end"), KeyboardInterrupt()])
def test_when_the_block_raises_it_does_not_wait_any_longer(error: BaseException) -> None:
    told: list[BaseException] = []

    def work(needed: Callable[[], int]) -> None:
        try:
            needed()
        except BaseException as ending:
            told.append(ending)
            raise

    def block() -> NoReturn:
        with begun_early(work):
            raise error

    with pytest.raises(type(error)) as raised:
        block()
    assert raised.value is error
    (ending,) = told
    assert isinstance(ending, AbortedError)


def test_its_own_fault_is_the_blocks() -> None:
    def work(_needed: Callable[[], int]) -> NoReturn:
        raise ValueError("no room")

    with pytest.raises(ValueError, match="no room"), begun_early(work) as complete:
        complete(1)
