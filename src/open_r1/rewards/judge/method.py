"""The accuracy method `llm`: a model judges an answer by the gold answer or a rubric, and may see pictures. (VLM-R1)

$OPENAI_BASE_URL, $OPENAI_API_KEY and $JUDGE_MODEL name the judge, $JUDGE_* how it is asked (`settings`). It is
the only method with I/O, and only for answers that are not the gold text.

The model that writes a completion is rewarded by the verdict, so completions are treated as hostile. An answer in the
form of a verdict is never asked about (`screen`); what is asked about stands as data beside a random code that a
verdict repeats, with a decoy that no answer can be right about (`prompt`); an answer that the judge accepts and
that may have talked it into that is shown once more, with a reference of random letters, and paid only where the judge
then refuses it. An answer without a valid verdict scores 0.0 and is counted (`tally`).
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Literal

from PIL import Image

from open_r1.data.record import Record
from open_r1.endpoint.client import Endpoint, RequestFailed
from open_r1.endpoint.verdict_cache import VerdictCache
from open_r1.rewards.base import gold_text
from open_r1.rewards.judge.call import Judge, JudgeEndpoint, ShownPictures, asked_text, own_rubric
from open_r1.rewards.judge.gold import verifiable_verdict
from open_r1.rewards.judge.prompt import JudgedQuestion, Marks, NoVerdict, Persuaded, single_request
from open_r1.rewards.judge.screen import forges_verdict, visible_text
from open_r1.rewards.judge.settings import JudgeSettings, judge_prices, read_judge_settings
from open_r1.rewards.judge.tally import TALLY, Tally
from open_r1.rewards.parsing.answer import final_text, normalize
from open_r1.rewards.short_answers import same_words

MAX_JUDGED_CHARS = (
    4_000  # of an answer, or twice the length of the gold answer if that is more; a longer answer scores 0.0
)
RETRIES = 2

Known = Literal["right", "empty", "too_long", "addressed"]  # what needs no judge


_lock = threading.Lock()
_stand_in: Judge | None = None


def llm(completion: str, record: Record) -> float:
    """1.0 where the final text has the words of the gold answer, or the judge finds it right; of a rubric's criteria
    the share of points that it meets; else 0.0.

    An empty answer, one over MAX_JUDGED_CHARS, and one in the form of a verdict score 0.0 without a request. A failure
    of the judge scores 0.0 and is counted. Raises DataError for a blank gold and a rubric that is none, EndpointError
    where the judge is not set up or refuses the key.

    >>> llm("<answer>A red car.</answer>", Record("1", (), "", (), "a red car"))
    1.0
    """
    own_rubric(record)  # a defect of the row, however it is answered
    if known := without_judge(completion, record):
        return _counted(known)
    judge, answer = current_judge(), final_text(completion)
    question, pictures = judge.question(record)
    key = judge.key(question, pictures, answer)
    try:
        marks, was_known = judge.cache.get_or_ask(key, lambda: _first_marks(judge, key, question, pictures, answer))
    except Persuaded:
        return _counted("addressed")
    except (RequestFailed, NoVerdict):
        return _counted("failures")
    if was_known and judge.in_group.pop(key, "alone") == "alone":
        judge.tally.add("cache_hits")
    score = question.rubric.score(marks) if question.rubric else float(marks[0])
    _compare(judge, key, completion, record, score)
    return score


def without_judge(completion: str, record: Record) -> Known | None:
    """What an answer is without asking: "right" in the words of the gold, or what cannot be paid; else None."""
    gold, answer = gold_text(record), final_text(completion)
    if same_words(gold, answer):
        return "right"
    if not normalize(visible_text(answer)):
        return "empty"
    if len(answer) > max(MAX_JUDGED_CHARS, 2 * len(gold)):
        return "too_long"
    return "addressed" if forges_verdict(answer, gold, asked_text(record)) else None


def check_judge() -> None:
    """Tries the judge on a trivial pair, with a blank picture where it is to see pictures.

    Raises ValueError where it is not set up or gives no verdict.
    """
    judge = current_judge()
    shown = ShownPictures((Image.new("RGB", (56, 56), "white"),)) if judge.settings.images else ShownPictures()
    try:
        judge.send(single_request(JudgedQuestion("What is 1 + 1?", "2", pictures=len(shown.images)), "two"), shown)
    except (RequestFailed, NoVerdict) as error:
        remedy = "try the endpoint by hand, name another $JUDGE_MODEL, or export JUDGE_SCHEMA=true"
        raise ValueError(f"judge: got no verdict on a trial question ({error}); {remedy}") from error


def judge_counts() -> dict[str, int]:
    """Numbers of answers in this process that verdicts were asked for, and of those that none was paid for: failures
    (no verdict), too long to judge, addressed to the judge."""
    return TALLY.lost()


def judge_metrics() -> dict[str, float]:
    """What the judge cost in this process and how often it agrees with verifiable methods; {} where none was asked."""
    return TALLY.metrics(*judge_prices()) if TALLY.metrics() else {}


@contextmanager
def judged_by(endpoint: JudgeEndpoint) -> Iterator[None]:
    """Has a stand-in judge within: no endpoint is asked, no setting is read, and nothing is kept or counted."""
    global _stand_in
    _stand_in = Judge(endpoint, JudgeSettings("stand-in"), tally=Tally())
    try:
        yield
    finally:
        _stand_in = None


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


def _first_marks(judge: Judge, key: str, question: JudgedQuestion, pictures: ShownPictures, answer: str) -> Marks:
    """The marks of an answer that has none yet; raises what its group's call raised."""
    if failure := judge.in_group.get(key):
        raise failure
    judge.tally.add("asked")
    return judge.marks(question, pictures, answer)


def _compare(judge: Judge, key: str, completion: str, record: Record, score: float) -> None:
    """Counts, once for a verdict, whether a verifiable method says the same, where one can."""
    if judge.tally.is_new(key) and (says := verifiable_verdict(completion, record)) is not None:
        judge.tally.add("compared")
        judge.tally.add("agreed", says == (score > 0.5))


def _counted(known: str) -> float:
    """The score of what needs no judge, or has no verdict; it is counted unless it is right or empty."""
    if known not in ("right", "empty"):
        (_stand_in.tally if _stand_in else TALLY).add(known)
    return float(known == "right")
