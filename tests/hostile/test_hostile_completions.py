"""Every reward with every method, on completions that no grader expects: a finite value in range, quickly."""

from functools import partial

import pytest
from helpers.cpu_time import cpu_seconds
from helpers.hostile_texts import CONTENTS, GOLDS, HANGS, LARGE, completions, range_of, record, rewards_of

from open_r1.rewards.gold import gold_score
from open_r1.rewards.registry import METHODS, REWARDS
from open_r1.rewards.sandbox import worker_pool as workers
from open_r1.rewards.trl_adapter import BatchReward

SMALL = tuple(name for name in CONTENTS if name not in LARGE + HANGS)
ALONE = [method for method in METHODS if method != "llm"]  # it asks an endpoint: tests/rewards/test_judge.py


def test_the_table_holds_every_method_with_a_gold_that_it_accepts():
    assert set(GOLDS) == set(METHODS)
    assert all(gold_score(record(method)) == (METHODS[method].maximum,) * 2 for method in METHODS)


def in_range(reward: str, method: str, texts: list[str]) -> bool:
    values = BatchReward(reward)([""] * len(texts), texts, record=[record(method)] * len(texts))
    least, most = range_of(reward, method)
    return all(value is not None and least <= value <= most for value in values)  # no NaN is


@pytest.mark.slow
@pytest.mark.parametrize("method", ALONE)
def test_hostile_completions_are_graded_in_range_by_every_reward(method):
    before = workers.grading_counts()
    assert [name for name in rewards_of(method) if not in_range(name, method, completions(SMALL))] == []
    assert workers.grading_counts() == before  # none ran out of time


@pytest.mark.slow
@pytest.mark.parametrize("method", ALONE)
def test_towers_score_the_minimum_and_are_counted_where_sympy_reads_them(method, monkeypatch):
    monkeypatch.setenv("OPEN_R1_GRADE_SECONDS", "0.5")
    before = workers.grading_counts()["timeouts"]
    assert [name for name in rewards_of(method) if not in_range(name, method, completions(HANGS))] == []
    assert (workers.grading_counts()["timeouts"] > before) == (method in ("default", "math"))


@pytest.mark.slow
@pytest.mark.parametrize("method", ALONE)
def test_a_megabyte_is_graded_in_range_and_read_in_half_a_second(method, monkeypatch):
    monkeypatch.setenv("OPEN_R1_GRADE_SECONDS", "2")  # one that is lost is in range too
    texts, row = completions(LARGE), record(method)
    assert [name for name in rewards_of(method) if not in_range(name, method, texts)] == []
    reads = [*(REWARDS[name] for name in rewards_of(method)), METHODS[method].parse, METHODS[method].outlines]
    for read in reads:
        slowest = max((cpu_seconds(partial(read, text, row), 0.5), text[:60]) for text in texts)
        assert slowest[0] < 0.5, (read, slowest)


@pytest.mark.parametrize("method", ALONE)
def test_hostile_completions_are_read_and_drawn_without_an_error(method):
    for text in completions(SMALL + HANGS):
        for read in (METHODS[method].parse, METHODS[method].outlines):
            read(text, record(method))
