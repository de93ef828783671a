from vlm_audio_pipeline.engines.ray_queues import FirstComeQueue, RangeQueue


def test_workers_get_contiguous_ranges_and_an_idle_one_takes_the_back_half_of_the_longest():
    """10 tasks for 2 workers: 0-4 and 5-9. When b has finished, a still has 1-4; b takes 3 and 4."""
    queue = RangeQueue(10, 2)
    assert queue.take("a") == 0
    assert [queue.take("b") for _ in range(5)] == [5, 6, 7, 8, 9]
    assert [queue.take("b") for _ in range(2)] == [3, 4]
    assert [queue.take("a") for _ in range(2)] == [1, 2]
    assert queue.take("a") is None and len(queue) == 0


def test_the_tasks_of_a_lost_worker_go_to_another_one():
    queue = RangeQueue(6, 2)
    first, second = queue.take("a"), queue.take("a")
    queue.release("a")
    for task in (second, first):
        queue.put_back(task)
    assert len(queue) == 6
    assert [queue.take("b") for _ in range(6)] == [0, 1, 2, 3, 4, 5]


def test_one_task_for_several_workers():
    queue = RangeQueue(1, 4)
    assert [queue.take(w) for w in "ab"] == [0, None]


def test_first_come_first_served():
    queue = FirstComeQueue(3)
    assert [queue.take(w) for w in "ab"] == [0, 1]
    queue.put_back(0)
    assert [queue.take("b") for _ in range(3)] == [0, 2, None]
