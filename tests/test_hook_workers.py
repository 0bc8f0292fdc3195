"""The threads of the hook server: a new one for each call."""

import threading

import pytest

from launcher_hook.hook.workers import OneCallThreads

WAIT_S = 60


def this_thread() -> threading.Thread:
    return threading.current_thread()


def test_no_two_calls_share_a_thread() -> None:
    """What lxml remembers for a thread goes with it."""
    workers = OneCallThreads(2)
    threads = [workers.submit(this_thread).result(WAIT_S) for _ in range(50)]
    assert len(set(threads)) == 50
    for thread in threads:
        thread.join(WAIT_S)
        assert not thread.is_alive()


def test_as_many_calls_run_at_once_as_there_are_threads() -> None:
    workers = OneCallThreads(3)
    all_there = threading.Barrier(4)
    calls = [workers.submit(all_there.wait, WAIT_S) for _ in range(3)]
    waiting = workers.submit(this_thread)
    assert not waiting.done()
    all_there.wait(WAIT_S)
    assert {call.result(WAIT_S) for call in calls} <= {0, 1, 2, 3}
    assert waiting.result(WAIT_S)


def test_a_call_that_fails_says_so_and_the_next_one_is_answered() -> None:
    workers = OneCallThreads(1)
    with pytest.raises(ZeroDivisionError):
        workers.submit(divmod, 1, 0).result(WAIT_S)
    assert workers.submit(divmod, 7, 2).result(WAIT_S) == (3, 1)


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
def test_without_a_new_thread_to_be_had_the_old_one_goes_on(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container's limit of processes counts threads."""

    def refuse(self: threading.Thread) -> None:
        raise error

    workers = OneCallThreads(1)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    threads = {workers.submit(this_thread).result(WAIT_S) for _ in range(5)}
    assert len(threads) == 1
