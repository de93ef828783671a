"""The pace: up while all is well, down when the endpoint complains, up again."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_audio_pipeline.classifiers.language_models.endpoint.concurrency import LONGEST_PAUSE_S, Pace


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_it_starts_small_and_grows_by_one_an_answer_up_to_the_most(clock):
    pace = Pace(6, start=2, clock=clock)
    grown = []
    for _ in range(6):
        grown.append(pace.limit)
        pace.succeeded()
    assert grown == [2, 3, 4, 5, 6, 6]
    assert Pace(3, start=4).limit == 3


def test_a_complaint_halves_it_once_for_all_that_was_under_way(clock):
    pace = Pace(64, start=16, clock=clock)
    for began in (90, 95, 99):  # under way together, all turned away
        pace.complained(began)
    assert pace.limit == 8
    pace.complained(100)  # began after the cut
    assert pace.limit == 4
    clock.now = 101
    for _ in range(10):
        pace.complained(101)
    assert pace.limit == 1


def test_after_a_complaint_it_grows_by_one_a_round_trip(clock):
    """From 4: each of 4 answers adds 1/4 or a little less, as 1/4 + 1/4.25 + 1/4.485 + 1/4.708 = 0.9206."""
    pace = Pace(64, start=8, clock=clock)
    pace.complained(100)
    for _ in range(4):
        pace.succeeded()
    assert pace.limit == pytest.approx(4.9206, abs=1e-4)
    for _ in range(10_000):
        pace.succeeded()
    assert pace.limit == 64


@given(st.lists(st.one_of(st.none(), st.floats(-10, 10), st.just(1e9)), max_size=200), st.integers(1, 300))
def test_it_always_lets_one_through_and_never_more_than_the_most(events, most):
    clock = Clock()
    pace = Pace(most, clock=clock)
    for event in events:
        clock.now += 1
        if event is None:
            pace.succeeded()
        else:
            pace.complained(clock.now + min(event, 0), event)
        assert 1 <= pace.limit <= most


def test_no_more_start_than_the_limit_and_who_leaves_makes_room():
    async def run():
        pace = Pace(2, start=2)
        await pace.enter()
        await pace.enter()
        third = asyncio.create_task(pace.enter())
        await asyncio.sleep(0.01)
        assert (third.done(), pace.running) == (False, 2)
        pace.leave()
        await asyncio.wait_for(third, 1)
        assert pace.running == 2
        fourth = asyncio.create_task(pace.enter())
        await asyncio.sleep(0)
        pace.complained(pace._clock())  # the limit is 1 now: one place less
        pace.leave()
        await asyncio.sleep(0.01)
        assert not fourth.done()
        pace.leave()
        await asyncio.wait_for(fourth, 1)

    asyncio.run(run())


def test_nothing_starts_while_the_endpoint_wants_to_be_left_alone():
    async def run():
        pace = Pace(4)
        began = pace._clock()
        pace.complained(began, 0.15)
        await pace.enter()
        return pace._clock() - began

    assert 0.15 <= asyncio.run(run()) < 1


def test_it_does_not_wait_longer_than_anybody_does(clock):
    pace = Pace(4, clock=clock)
    pace.complained(100, LONGEST_PAUSE_S + 1)
    assert asyncio.run(pace.enter()) is False
    assert pace.running == 0
    clock.now += LONGEST_PAUSE_S + 1
    assert asyncio.run(pace.enter()) is True


def test_one_pace_serves_one_event_loop_after_another():
    pace = Pace(1)

    async def run():
        await pace.enter()
        waiting = asyncio.create_task(pace.enter())
        await asyncio.sleep(0)
        pace.leave()
        await waiting
        pace.leave()

    asyncio.run(run())
    asyncio.run(run())
    assert pace.running == 0
