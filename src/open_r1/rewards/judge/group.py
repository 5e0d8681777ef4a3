"""Asks a judge about the answers of a group in one call ($JUDGE_GROUP), before each of them is graded."""

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from open_r1.data.record import Record
from open_r1.endpoint.client import RequestFailed
from open_r1.rewards.judge.call import Judge, ShownPictures
from open_r1.rewards.judge.method import current_judge, without_judge
from open_r1.rewards.judge.prompt import JudgedQuestion, Marks, NoVerdict, group_request
from open_r1.rewards.judge.screen import speaks_up
from open_r1.rewards.judge.settings import asks_in_groups
from open_r1.rewards.parsing.answer import final_text

GROUP_ANSWERS, GROUP_CHARS = 16, 16_000  # of one call


@contextmanager
def asked_together(completions: Sequence[tuple[str, Record]]) -> Iterator[None]:
    """With $JUDGE_GROUP: asks about the answers of each row in one call, so that `llm` finds their verdicts within.

    Equal answers are asked about once; their order is drawn from digests of their texts, so that none gains by its
    place. Answers that speak up are left to calls of their own, where they speak for themselves alone.
    """
    if not completions or not asks_in_groups():
        yield
        return
    judge = current_judge()
    calls = list(_calls(judge, completions))
    with ThreadPoolExecutor(max(1, min(len(calls), judge.settings.concurrency))) as threads:
        list(threads.map(lambda call: _ask(judge, *call), calls))
    try:
        yield
    finally:
        judge.in_group.clear()


def _calls(
    judge: Judge, completions: Sequence[tuple[str, Record]]
) -> Iterator[tuple[JudgedQuestion, ShownPictures, dict[str, str]]]:
    """What each call asks about: a question, its pictures, and two answers or more by their keys."""
    rows: dict[str, tuple[JudgedQuestion, ShownPictures]] = {}
    answers: dict[str, dict[str, str]] = defaultdict(dict)
    for completion, record in completions:
        if without_judge(completion, record) is None:
            (question, pictures), answer = judge.question(record), final_text(completion)
            row, key = (judge.key(question, pictures, text) for text in ("", answer))
            if not speaks_up(answer, question.reference) and judge.cache.get(key) is None:
                rows[row] = question, pictures
                answers[row][key] = answer
    yield from ((*rows[row], part) for row, members in answers.items() for part in _parts(members) if len(part) > 1)


def _parts(answers: dict[str, str]) -> Iterator[dict[str, str]]:
    """The answers of a row by key, in parts that fit into one call."""
    part: dict[str, str] = {}
    for key in sorted(answers):  # keys are digests: no answer chooses its neighbours
        if part and (len(part) == GROUP_ANSWERS or sum(map(len, part.values())) + len(answers[key]) > GROUP_CHARS):
            yield part
            part = {}
        part[key] = answers[key]
    yield part


def _ask(judge: Judge, question: JudgedQuestion, pictures: ShownPictures, answers: dict[str, str]) -> None:
    """Keeps the marks of each answer (by key), or why the call gave none."""
    judge.tally.add("asked", len(answers))
    order = random.Random("".join(answers))
    try:
        marks = judge.send(group_request(question, list(answers.values()), order), pictures)
    except (RequestFailed, NoVerdict) as error:
        judge.in_group.update(dict.fromkeys(answers, NoVerdict(str(error))))
        return
    for (key, answer), of_answer in zip(answers.items(), marks, strict=True):
        judge.in_group[key] = _confirmed(judge, question, pictures, answer, of_answer)
        if judge.in_group[key] is None:
            judge.cache.put(key, of_answer)


def _confirmed(
    judge: Judge, question: JudgedQuestion, pictures: ShownPictures, answer: str, marks: Marks
) -> NoVerdict | RequestFailed | None:
    """Why an answer that the judge accepted in a group has no verdict; None where it has one."""
    try:
        judge.confirm(question, pictures, answer, marks)
    except (RequestFailed, NoVerdict) as error:
        return error
    return None
