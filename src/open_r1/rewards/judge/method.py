"""The accuracy method `llm`: a model judges an answer by the gold answer or a rubric, and may see pictures. (VLM-R1)

$OPENAI_BASE_URL, $OPENAI_API_KEY and $JUDGE_MODEL name the judge, $JUDGE_* how it is asked (`settings`). It is
the only method with I/O, and only for answers that are not the gold text.

The model that writes a completion is rewarded by the verdict, so completions are treated as hostile. An answer in the
form of a verdict is never asked about (`screen`); what is asked about stands as data beside a random code that a
verdict repeats, with a decoy that no answer can be right about (`prompt`); an answer that the judge accepts and
that may have talked it into that is shown once more, with a reference of random words, and paid only where the judge
then refuses it. An answer without a valid verdict scores 0.0 and is counted (`tally`).
"""

import os
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Literal

from PIL import Image

from open_r1.data.record import Record
from open_r1.endpoint.client import Endpoint, RequestFailed
from open_r1.endpoint.verdict_cache import VerdictCache
from open_r1.rewards.base import gold_text
from open_r1.rewards.judge.agreement import RIGHT_SHARE, WRONG_SHARE, gold_verdict
from open_r1.rewards.judge.call import Judge, JudgeEndpoint, asked_text, own_rubric
from open_r1.rewards.judge.group_prompt import ranking_request
from open_r1.rewards.judge.marking import marked_score
from open_r1.rewards.judge.negation import negates_gold
from open_r1.rewards.judge.prompt import JudgedQuestion, single_request
from open_r1.rewards.judge.ranking import ranked_score
from open_r1.rewards.judge.readings import visible_text
from open_r1.rewards.judge.screen import forges_verdict
from open_r1.rewards.judge.settings import Grouping, JudgeSettings, judge_prices, read_grouping, read_judge_settings
from open_r1.rewards.judge.shown import ShownPictures
from open_r1.rewards.judge.tally import TALLY, Tally, judge_costs, lost_verdicts
from open_r1.rewards.judge.verdict import NoVerdict, Persuaded, Swayed
from open_r1.rewards.parsing.answer import final_text, normalize
from open_r1.rewards.short_answers import same_words

MAX_JUDGED_CHARS = (
    4_000  # of an answer, or twice the length of the gold answer if that is more; a longer answer scores 0.0
)
RETRIES = 2

Known = Literal["right", "empty", "too_long", "contradicts", "addressed"]  # what needs no judge


_lock = threading.Lock()
_stand_in: Judge | None = None


def llm(completion: str, record: Record) -> float:
    """1.0 where the final text has the words of the gold answer, or the judge finds it right; of a rubric's criteria
    the share of points that it meets; else 0.0.

    An empty answer, the gold's words negated, an answer over MAX_JUDGED_CHARS, and one in the form of a verdict score
    0.0 without a request. A failure
    of the judge scores 0.0 and is counted. Raises DataError for a blank gold and a rubric that is none, EndpointError
    where the judge is not set up or refuses the key.

    >>> llm("<answer>A red car.</answer>", Record("1", (), "", (), "a red car"))
    1.0
    """
    own_rubric(record)  # a defect of the row, however it is answered
    if known := without_judge(completion, record):
        return _counted(known)
    judge, answer = current_judge(), final_text(completion)
    row = judge.row(record)
    key = judge.key(row, answer)
    try:
        score = (ranked_score if judge.settings.group == "ranked" else marked_score)(judge, row, key, answer)
    except Persuaded:
        return _counted("addressed")
    except (RequestFailed, NoVerdict):
        return _counted("failures")
    if row.question.rubric is None:
        _compare(judge, key, completion, record, score)
    return score


def without_judge(completion: str, record: Record) -> Known | None:
    """What an answer is without asking: "right" in the words of the gold, or what cannot be paid; else None."""
    gold, answer = gold_text(record), final_text(completion)
    if same_words(gold, answer):
        return "right"
    if len(answer) > max(MAX_JUDGED_CHARS, 2 * len(gold)):
        return "too_long"
    if not normalize(visible_text(answer)):
        return "empty"
    if own_rubric(record) is None and negates_gold(answer, gold, asked_text(record)):
        return "contradicts"
    rubric = own_rubric(record)
    honest = (gold, asked_text(record), *(rubric.texts if rubric else ()))
    return "addressed" if forges_verdict(answer, *honest) else None


def check_judge() -> None:
    """Tries the judge on a trivial pair, with a blank picture where it is to see pictures.

    Raises ValueError where it is not set up or gives no verdict.
    """
    judge = current_judge()
    shown = ShownPictures((Image.new("RGB", (56, 56), "white"),)) if judge.settings.images else ShownPictures()
    question = JudgedQuestion("What is 1 + 1?", "2", pictures=len(shown.images))
    try:
        if judge.settings.group == "ranked":
            judge.send(ranking_request(question, ["two", "5"], random.Random(0), is_reversed=False), shown)
        else:
            judge.send(single_request(question, "two"), shown)
    except Swayed as error:
        raise ValueError(f"judge: on a trial question {error}; name another $JUDGE_MODEL") from error
    except (RequestFailed, NoVerdict) as error:
        remedy = "try the endpoint by hand, name another $JUDGE_MODEL, or export JUDGE_SCHEMA=true"
        raise ValueError(f"judge: got no verdict on a trial question ({error}); {remedy}") from error


def judge_counts() -> dict[str, int]:
    """Numbers of answers in this process that verdicts were asked for, and of those that none was paid for: failures
    (no verdict), too long to judge, addressed to the judge."""
    return lost_verdicts(TALLY.counts())


def judge_metrics() -> dict[str, float]:
    """What the judge cost in this process and how often it agrees with verifiable methods; {} where none was asked."""
    return metrics_of_judge(TALLY.counts())


def metrics_of_judge(counts: Counter[str]) -> dict[str, float]:
    """`judge_metrics` by counts, of this process or summed over several."""
    return judge_costs(counts, *judge_prices()) if judge_costs(counts) else {}


@contextmanager
def judged_by(endpoint: JudgeEndpoint, group: Grouping = "alone") -> Iterator[None]:
    """Has a stand-in judge within: no endpoint is asked, no setting is read, and nothing is kept or counted."""
    global _stand_in
    _stand_in = Judge(endpoint, JudgeSettings("stand-in", group=group), tally=Tally())
    try:
        yield
    finally:
        _stand_in = None


def grouping() -> Grouping:
    """How answers of a group are asked about. Raises EndpointError for a value of $JUDGE_GROUP that is none."""
    return _stand_in.settings.group if _stand_in else read_grouping()


def current_judge() -> Judge:
    """The judge as the environment names it; raises EndpointError where it is not set up."""
    if _stand_in:
        return _stand_in
    address = (os.environ.get("OPENAI_BASE_URL"), os.environ.get("OPENAI_API_KEY"))
    settings = read_judge_settings()
    with _lock:
        return _judge_of(settings, *address)


@lru_cache(maxsize=1)
def _judge_of(settings: JudgeSettings, *address: str | None) -> Judge:
    """The judge of this process, made anew when the environment names another."""
    times = {"timeout": settings.seconds, "deadline": settings.seconds, "retries": RETRIES}
    endpoint = Endpoint(settings.model, **times, concurrency=settings.concurrency)
    return Judge(endpoint, settings, VerdictCache(settings.cache, settings.cache_entries))


def _compare(judge: Judge, key: str, completion: str, record: Record, score: float) -> None:
    """Counts, once for a verdict, whether verifiable methods say the same, where both are clear."""
    is_clear = not WRONG_SHARE < score < RIGHT_SHARE
    if is_clear and judge.tally.is_new(key) and (says := gold_verdict(completion, record)) is not None:
        judge.tally.add("compared")
        judge.tally.add("agreed", says == (score > 0.5))


def _counted(known: str) -> float:
    """The score of what needs no judge, or has no verdict; counted is what an answer to the gold would not have."""
    if known in ("too_long", "addressed", "failures"):
        (_stand_in.tally if _stand_in else TALLY).add(known)
    return float(known == "right")
