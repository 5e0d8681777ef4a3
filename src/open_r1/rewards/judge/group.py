"""Asks a judge about the answers of a group in one call ($JUDGE_GROUP), before each of them is graded."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from open_r1.data.record import Record
from open_r1.errors import DataError
from open_r1.rewards.judge.call import AskedRow, Judge
from open_r1.rewards.judge.marking import mark_group
from open_r1.rewards.judge.method import current_judge, grouping, without_judge
from open_r1.rewards.judge.ranking import rank_group
from open_r1.rewards.judge.screen import speaks_up
from open_r1.rewards.parsing.answer import final_text

GROUP_ANSWERS, GROUP_CHARS = 16, 16_000  # of one call


@contextmanager
def asked_together(completions: Sequence[tuple[str, Record]]) -> Iterator[None]:
    """With $JUDGE_GROUP: asks about the answers of each row in one call, so that `llm` finds their verdicts within.

    Equal answers are asked about once; their order is drawn from digests of their texts, so that none gains by its
    place. Answers that speak up are left to calls of their own, where they speak for themselves alone; so are all of a
    group in which the judge was moved.
    """
    if not completions or grouping() == "alone":
        yield
        return
    judge = current_judge()
    ask = rank_group if judge.settings.group == "ranked" else mark_group
    calls = list(_calls(judge, completions))
    with ThreadPoolExecutor(max(1, min(len(calls), judge.settings.concurrency))) as threads:
        list(threads.map(lambda call: ask(judge, *call), calls))
    try:
        yield
    finally:
        judge.in_group.clear()


def _calls(judge: Judge, completions: Sequence[tuple[str, Record]]) -> Iterator[tuple[AskedRow, dict[str, str]]]:
    """What each call asks about: a row, and two answers or more by their keys."""
    rows: dict[str, AskedRow] = {}
    answers: dict[str, dict[str, str]] = defaultdict(dict)
    for completion, record in completions:
        if row := _row_to_ask(judge, completion, record):
            answer = final_text(completion)
            of_row, key = judge.key(row, ""), judge.key(row, answer)
            if not speaks_up(answer, row.question.reference) and judge.cache.get(key) is None:
                rows[of_row] = row
                answers[of_row][key] = answer
    yield from ((rows[of_row], part) for of_row, all_ in answers.items() for part in _parts(all_) if len(part) > 1)


def _row_to_ask(judge: Judge, completion: str, record: Record) -> AskedRow | None:
    """What an answer is judged by; None where it needs no judge, or its row cannot be used, which `llm` then says."""
    try:
        return judge.row(record) if without_judge(completion, record) is None else None
    except DataError:
        return None


def _parts(answers: dict[str, str]) -> Iterator[dict[str, str]]:
    """The answers of a row by key, in parts that fit into one call."""
    part: dict[str, str] = {}
    for key in sorted(answers):  # keys are digests: no answer chooses its neighbours
        if part and (len(part) == GROUP_ANSWERS or sum(map(len, part.values())) + len(answers[key]) > GROUP_CHARS):
            yield part
            part = {}
        part[key] = answers[key]
    yield part
