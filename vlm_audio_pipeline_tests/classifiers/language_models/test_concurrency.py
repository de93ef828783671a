"""The concurrency limit grows with successes, halves at an overload and grows again."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_audio_pipeline.classifiers.language_models.endpoint.concurrency import MAX_PAUSE_S, AdaptiveConcurrencyLimit


class Clock:
    """A clock that advances only when a test sets it."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_the_limit_starts_low_and_grows_by_one_per_response_up_to_the_maximum(clock):
    concurrency_limit = AdaptiveConcurrencyLimit(6, start=2, clock=clock)
    limits = []
    for _ in range(6):
        limits.append(concurrency_limit.limit)
        concurrency_limit.record_success()
    assert limits == [2, 3, 4, 5, 6, 6]
    assert AdaptiveConcurrencyLimit(3, start=4).limit == 3


def test_an_overload_halves_the_limit_once_for_all_requests_in_flight(clock):
    concurrency_limit = AdaptiveConcurrencyLimit(64, start=16, clock=clock)
    for start_time in (90, 95, 99):  # in flight at the same time, all rejected
        concurrency_limit.record_overload(start_time)
    assert concurrency_limit.limit == 8
    concurrency_limit.record_overload(100)  # began after the limit was halved
    assert concurrency_limit.limit == 4
    clock.now = 101
    for _ in range(10):
        concurrency_limit.record_overload(101)
    assert concurrency_limit.limit == 1


def test_after_an_overload_the_limit_grows_by_one_per_round_trip(clock):
    """From 4, each response adds 1 / limit: 1/4 + 1/4.25 + 1/4.485 + 1/4.708 = 0.9206."""
    concurrency_limit = AdaptiveConcurrencyLimit(64, start=8, clock=clock)
    concurrency_limit.record_overload(100)
    for _ in range(4):
        concurrency_limit.record_success()
    assert concurrency_limit.limit == pytest.approx(4.9206, abs=1e-4)
    for _ in range(10_000):
        concurrency_limit.record_success()
    assert concurrency_limit.limit == 64


@given(st.lists(st.one_of(st.none(), st.floats(-10, 10), st.just(1e9)), max_size=200), st.integers(1, 300))
def test_the_limit_is_at_least_1_and_at_most_the_maximum(events, max_limit):
    clock = Clock()
    concurrency_limit = AdaptiveConcurrencyLimit(max_limit, clock=clock)
    for event in events:
        clock.now += 1
        if event is None:
            concurrency_limit.record_success()
        else:
            concurrency_limit.record_overload(clock.now + min(event, 0), event)
        assert 1 <= concurrency_limit.limit <= max_limit


def test_no_more_requests_run_than_the_limit_allows():
    async def run():
        concurrency_limit = AdaptiveConcurrencyLimit(2, start=2)
        await concurrency_limit.enter()
        await concurrency_limit.enter()
        third = asyncio.create_task(concurrency_limit.enter())
        await asyncio.sleep(0.01)
        assert (third.done(), concurrency_limit.running) == (False, 2)
        concurrency_limit.leave()
        await asyncio.wait_for(third, 1)
        assert concurrency_limit.running == 2
        fourth = asyncio.create_task(concurrency_limit.enter())
        await asyncio.sleep(0)
        concurrency_limit.record_overload(concurrency_limit._clock())  # the limit is 1 now
        concurrency_limit.leave()
        await asyncio.sleep(0.01)
        assert not fourth.done()
        concurrency_limit.leave()
        await asyncio.wait_for(fourth, 1)

    asyncio.run(run())


def test_no_request_starts_during_a_pause():
    async def run():
        concurrency_limit = AdaptiveConcurrencyLimit(4)
        start_time = concurrency_limit._clock()
        concurrency_limit.record_overload(start_time, 0.15)
        await concurrency_limit.enter()
        return concurrency_limit._clock() - start_time

    assert 0.15 <= asyncio.run(run()) < 1


def test_a_pause_longer_than_the_maximum_is_not_waited_for(clock):
    concurrency_limit = AdaptiveConcurrencyLimit(4, clock=clock)
    concurrency_limit.record_overload(100, MAX_PAUSE_S + 1)
    assert asyncio.run(concurrency_limit.enter()) is False
    assert concurrency_limit.running == 0
    clock.now += MAX_PAUSE_S + 1
    assert asyncio.run(concurrency_limit.enter()) is True


def test_one_limit_works_in_consecutive_event_loops():
    concurrency_limit = AdaptiveConcurrencyLimit(1)

    async def run():
        await concurrency_limit.enter()
        second_request = asyncio.create_task(concurrency_limit.enter())
        await asyncio.sleep(0)
        concurrency_limit.leave()
        await second_request
        concurrency_limit.leave()

    asyncio.run(run())
    asyncio.run(run())
    assert concurrency_limit.running == 0
