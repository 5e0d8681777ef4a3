"""Has a judge mark answers: right or wrong, or each criterion met or not; one alone, or those of a group."""

import random
from collections.abc import Mapping

from open_r1.endpoint.client import RequestFailed
from open_r1.rewards.judge.call import AskedRow, GroupOutcome, Judge
from open_r1.rewards.judge.group_prompt import marking_request
from open_r1.rewards.judge.prompt import decoy_question, single_request
from open_r1.rewards.judge.screen import may_persuade
from open_r1.rewards.judge.verdict import Marks, NoVerdict, Persuaded, Swayed


def marked_score(judge: Judge, row: AskedRow, key: str, answer: str) -> float:
    """The score of an answer by its marks, which are asked for where none are kept. Raises NoVerdict and RequestFailed
    as `Judge.send`, or as the call about its group did; Persuaded where the judge accepts random words too."""
    marks, was_known = judge.cache.get_or_ask(key, lambda: _first_marks(judge, row, key, answer))
    if was_known and judge.in_group.pop(key, "alone") == "alone":
        judge.tally.add("cache_hits")
    return row.question.rubric.score(marks) if row.question.rubric else float(marks[0])


def mark_group(judge: Judge, row: AskedRow, answers: Mapping[str, str]) -> None:
    """Keeps the marks of each answer (by key), or why the call gave none; nothing where an answer moved the judge."""
    order = random.Random("".join(answers))  # keys are digests, sorted: no answer chooses its place
    texts = list(answers.values())
    try:
        marks = judge.send_again(lambda: marking_request(row.question, texts, order), row.pictures)
    except (Persuaded, Swayed):
        judge.tally.add("swayed")
        return
    except (RequestFailed, NoVerdict) as error:
        judge.in_group.update(dict.fromkeys(answers, NoVerdict(str(error))))
        judge.tally.add("asked", len(answers))
        return
    judge.tally.add("asked", len(answers))
    for (key, answer), of_answer in zip(answers.items(), marks, strict=True):
        judge.in_group[key] = _confirmed(judge, row, answer, of_answer)
        if judge.in_group[key] is None:
            judge.cache.put(key, of_answer)


def _first_marks(judge: Judge, row: AskedRow, key: str, answer: str) -> Marks:
    """The marks of an answer that has none yet; raises what its group's call raised."""
    if isinstance(failure := judge.in_group.get(key), Exception):
        raise failure
    judge.tally.add("asked")
    (marks,) = judge.send(single_request(row.question, answer), row.pictures)
    _confirm(judge, row, answer, marks)
    return marks


def _confirm(judge: Judge, row: AskedRow, answer: str, marks: Marks) -> None:
    """Asks again, with a reference of random words, where the judge accepted an answer that may have persuaded it.
    Raises Persuaded where it accepts that too. Criteria have their decoy among them."""
    if marks[0] and not row.question.criteria and may_persuade(answer, row.question.reference):
        (again,) = judge.send(single_request(decoy_question(row.question), answer), row.pictures)
        if any(again):
            raise Persuaded("the judge called the answer equal to random words too")


def _confirmed(judge: Judge, row: AskedRow, answer: str, marks: Marks) -> GroupOutcome:
    """Why an answer that the judge accepted in a group has no verdict; None where it has one."""
    try:
        _confirm(judge, row, answer, marks)
    except (RequestFailed, NoVerdict) as error:
        return error
    return None
