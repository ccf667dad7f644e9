"""A run of several processes, one of which stands still: it is named, and the run ends so that it can begin anew."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import asdict

import pytest

from mv3d.training.heartbeat import (
    DATA,
    FOLDER,
    GRADIENTS,
    HUNG_CODE,
    SAVING,
    VALIDATION,
    Beat,
    Heartbeat,
    behind,
)


def beat(rank: int, count: int, standing_s: float, phase: str = GRADIENTS) -> Beat:
    return Beat(rank, "node", 100 + rank, count, 7, phase, standing_s)


def test_the_process_that_has_done_least_is_the_one():
    waiting, hanging = beat(0, 41, 70), beat(1, 40, 71, DATA)
    assert behind([waiting, hanging, beat(2, 41, 70)], 60) == [hanging]
    assert behind([waiting, hanging], 90) == []
    assert behind([beat(0, 41, 3), hanging], 60) == []  # one still moves: the others may only be slow
    assert behind([waiting, beat(1, 40, 500, VALIDATION)], 60) == []
    assert behind([beat(0, 5, 70, SAVING), beat(1, 5, 70, SAVING)], 60) == [
        beat(0, 5, 70, SAVING), beat(1, 5, 70, SAVING),
    ]  # fmt: skip
    assert behind([], 60) == []


def test_a_standing_process_is_named_and_every_one_ends(tmp_path):
    ended, told = {}, []
    hearts = [
        Heartbeat(
            tmp_path, rank, 3, 0.6, end=lambda code, rank=rank: ended.setdefault(rank, code), tell=told.append
        )
        for rank in range(3)
    ]
    with hearts[0] as a, hearts[1] as b, hearts[2] as c:
        for step in range(8):  # longer than it takes to be found hanging, but moving
            for heart in (a, b, c):
                heart.stands(step, DATA)
            time.sleep(0.12)
        assert not ended
        a.stands(8, GRADIENTS)
        c.stands(8, GRADIENTS)
        until = time.monotonic() + 5
        while len(ended) < 3 and time.monotonic() < until:
            time.sleep(0.02)
    assert ended == {0: HUNG_CODE, 1: HUNG_CODE, 2: HUNG_CODE}
    assert len(told) == 1 and "rank 1 (" in told[0] and "at step 7, waiting for data" in told[0]
    assert "rank 0" not in told[0] and "the same command goes on" in told[0]
    assert not (tmp_path / FOLDER).exists()


def test_a_process_that_tells_nothing_any_more_stands(tmp_path):
    heart = Heartbeat(tmp_path, 0, 2, 0.2)
    (tmp_path / FOLDER).mkdir()
    assert heart.hung() == []  # the other has not begun
    (tmp_path / FOLDER / "1.json").write_text(json.dumps(asdict(beat(1, 0, 0.0))))
    heart.stands(1, DATA)
    assert heart.hung() == []
    time.sleep(0.25)
    assert [b.rank for b in heart.hung()] == [1]
    (tmp_path / FOLDER / "1.json").write_text("{")
    assert heart.hung() == []


@pytest.mark.parametrize(("processes", "hang_after_s"), [(1, 0.1), (2, 0.0)])
def test_one_process_and_never_write_nothing(processes, hang_after_s, tmp_path):
    before = threading.active_count()
    with Heartbeat(tmp_path, 0, processes, hang_after_s) as heart:
        heart.stands(0, DATA)
        assert threading.active_count() == before and not list(tmp_path.iterdir())
