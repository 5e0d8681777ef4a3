"""Has a judge rank the answers of a group ($JUDGE_GROUP=rank): each is worth 0 to 1 by its rank.

The same answers have the same worth in whatever order they come, and a ranking is kept by its answers. An answer alone
is ranked between the anchors of `group_prompt`: worth 1, 0, or one half.
"""

import random
from collections.abc import Mapping
from functools import partial
from itertools import combinations

from open_r1.endpoint.client import RequestFailed
from open_r1.rewards.judge.call import AskedRow, Judge, company_key
from open_r1.rewards.judge.group_prompt import ranking_request
from open_r1.rewards.judge.prompt import JudgedQuestion, decoy_question
from open_r1.rewards.judge.screen import may_persuade
from open_r1.rewards.judge.verdict import NoVerdict, Persuaded, Swayed


def ranked_score(judge: Judge, row: AskedRow, key: str, answer: str) -> float:
    """The worth of an answer in its group, or alone where no group was ranked. Raises NoVerdict and RequestFailed as
    `Judge.send`, or as the call about its group did; Persuaded where it ranks with random words as a reference."""
    if isinstance(outcome := judge.in_group.get(key), Exception):
        raise outcome
    if outcome is None:
        return _worths(judge, row, {key: answer})[key]
    return outcome


def rank_group(judge: Judge, row: AskedRow, answers: Mapping[str, str]) -> None:
    """Keeps the worth of each answer (by key), or why there is none; nothing where an answer moved the judge."""
    try:
        judge.in_group.update(_worths(judge, row, answers))
    except (Persuaded, Swayed):
        judge.tally.add("swayed")
    except (RequestFailed, NoVerdict) as error:
        judge.in_group.update(dict.fromkeys(answers, NoVerdict(str(error))))


def _worths(judge: Judge, row: AskedRow, answers: Mapping[str, str]) -> dict[str, float]:
    """The worth of each answer by key, from a kept ranking of the same answers where there is one."""
    texts = {key: answers[key] for key in sorted(answers)}
    worths, was_known = judge.cache.get_or_ask(company_key(texts), lambda: _asked(judge, row, texts))
    if was_known:
        judge.tally.add("cache_hits", len(texts))
    return dict(zip(texts, worths, strict=True))


def _asked(judge: Judge, row: AskedRow, texts: Mapping[str, str]) -> list[float]:
    """The worth of each answer: the mean over the orders in which they are ranked."""
    try:
        rankings = _rankings(judge, row, row.question, texts, judge.settings.orders)
        worths = [sum(each) / len(each) for each in zip(*rankings, strict=True)]
        _confirm(judge, row, dict(zip(texts.values(), worths, strict=True)))
    except (Persuaded, Swayed):
        judge.tally.add("asked", len(texts) == 1)  # in a group each is asked about alone next
        raise
    except (RequestFailed, NoVerdict):
        judge.tally.add("asked", len(texts))
        raise
    judge.tally.add("asked", len(texts))
    _compare_orders(judge, rankings)
    return worths


def _rankings(
    judge: Judge, row: AskedRow, question: JudgedQuestion, texts: Mapping[str, str], orders: int
) -> list[list[float]]:
    """The worths of the answers in each order, which their keys draw."""
    answers, drawn = list(texts.values()), "".join(texts)

    def ranking(is_reversed: bool) -> list[float]:
        make = partial(ranking_request, question, answers, is_reversed=is_reversed)
        return judge.send_again(lambda: make(order=random.Random(drawn)), row.pictures)

    return [ranking(is_reversed) for is_reversed in (False, True)[:orders]]


def _confirm(judge: Judge, row: AskedRow, worths: Mapping[str, float]) -> None:
    """Ranks those again that earned something and may have persuaded the judge, by a reference of random words.
    Raises Persuaded where one is as good as that."""
    odd = {text: text for text, worth in worths.items() if worth > 0 and may_persuade(text, row.question.reference)}
    if odd:
        (again,) = _rankings(judge, row, decoy_question(row.question), odd, orders=1)
        if any(worth == 1 for worth in again):
            raise Persuaded("the judge ranked an answer as high as a reference of random words")


def _compare_orders(judge: Judge, rankings: list[list[float]]) -> None:
    """Counts the pairs of answers, and those that both orders rank alike."""
    if len(rankings) < 2:
        return
    pairs = list(combinations(zip(*rankings, strict=True), 2))
    alike = sum(_sign(one[0] - other[0]) == _sign(one[1] - other[1]) for one, other in pairs)
    judge.tally.add("pairs", len(pairs))
    judge.tally.add("alike", alike)


def _sign(difference: float) -> int:
    return (difference > 0) - (difference < 0)
