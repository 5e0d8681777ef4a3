"""One call of the judge: what it is asked about a row, what a verdict depends on, what a call costs."""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from PIL import Image

from open_r1.data.record import Record
from open_r1.data.rubric import FIELD, Rubric, read_rubric
from open_r1.endpoint.client import EndpointAnswer, RequestFailed
from open_r1.endpoint.verdict_cache import VerdictCache
from open_r1.rewards.base import gold_text
from open_r1.rewards.judge.prompt import JudgedQuestion
from open_r1.rewards.judge.settings import JudgeSettings
from open_r1.rewards.judge.shown import ShownPictures, row_pictures
from open_r1.rewards.judge.tally import TALLY, Tally
from open_r1.rewards.judge.verdict import JudgeRequest, NoVerdict, Persuaded, Swayed

VERDICT_FORM = 4  # of prompts and verdicts; another one's cached verdicts do not count
GROUP_TRIES = 2  # of a call about a group: a reply that is no verdict is asked for again, once
GroupOutcome = float | NoVerdict | RequestFailed | None  # of an answer in a call about its group; None: marks are kept


class JudgeEndpoint(Protocol):
    """What answers the judge's prompts: an `Endpoint`, or a stand-in."""

    def chat(self, messages: Sequence[dict], images: Sequence[Image.Image] = (), **options: object) -> EndpointAnswer:
        """The reply, as of `Endpoint.chat`."""


@dataclass(frozen=True)
class AskedRow:
    """What all answers of a row are judged by."""

    question: JudgedQuestion
    pictures: ShownPictures


@dataclass(frozen=True)
class Judge:
    """Who is asked, how, the verdicts so far, and what they cost.

    `in_group`: key of each answer that a call about its group was made for -> its worth, or why it has none; while the
    group is graded.
    """

    endpoint: JudgeEndpoint
    settings: JudgeSettings
    cache: VerdictCache = field(default_factory=VerdictCache)
    tally: Tally = TALLY
    in_group: dict[str, GroupOutcome] = field(default_factory=dict)

    def row(self, record: Record) -> AskedRow:
        """What the answers of a row are judged by. Raises DataError for a rubric, gold or picture that is unusable."""
        pictures = row_pictures(record, self.settings.limits) if self.settings.images else ShownPictures()
        rubric = own_rubric(record) or self.settings.rubric
        shown = len(pictures.images), pictures.frames
        return AskedRow(JudgedQuestion(asked_text(record), gold_text(record), rubric, *shown), pictures)

    def key(self, row: AskedRow, answer: str) -> str:
        """SHA-256 of all that a verdict depends on: model and settings, pixels, rubric, question, gold, answer."""
        question, settings = row.question, self.settings
        asked = (settings.model, settings.images, settings.group, settings.orders, settings.schema)
        criteria = [(each.text, each.points) for each in question.criteria]
        rubric = [question.rubric.text if question.rubric else None, criteria]
        parts = [VERDICT_FORM, asked, row.pictures.digest, rubric, question.text, question.reference, answer]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def send(self, request: JudgeRequest, pictures: ShownPictures) -> list[Any]:
        """What the reply to one call says of each answer; its cost is counted, and a reply that is no verdict."""
        began = time.monotonic()
        schema = {"type": "json_schema", "json_schema": {"name": "verdict", "schema": request.schema, "strict": True}}
        reply = self.endpoint.chat(
            request.messages,
            pictures.images,
            temperature=0,
            max_tokens=request.max_tokens,
            response_format=schema if self.settings.schema else None,
        )
        self.tally.spent(reply, time.monotonic() - began)
        try:
            return request.read(reply.text)
        except NoVerdict as error:
            self.tally.add("malformed", not isinstance(error, Persuaded | Swayed))
            raise

    def send_again(self, request: Callable[[], JudgeRequest], pictures: ShownPictures) -> list[Any]:
        """As `send`, GROUP_TRIES times with a new code and new names where the reply is no verdict."""
        for _ in range(GROUP_TRIES - 1):
            try:
                return self.send(request(), pictures)
            except (Persuaded, Swayed):
                raise
            except NoVerdict:
                continue
        return self.send(request(), pictures)


def company_key(keys: Iterable[str]) -> str:
    """SHA-256 of a set of answers by their keys, whatever their order."""
    return hashlib.sha256("".join(sorted(keys)).encode()).hexdigest()


def own_rubric(record: Record) -> Rubric | None:
    """The rubric of the row itself. Raises DataError (field `rubric`) for one that is none."""
    value = record.extra.get(FIELD)
    return None if value is None else read_rubric(value, record.where)


def asked_text(record: Record) -> str:
    """The text of the last user turn; "" without one."""
    return next((turn.text for turn in reversed(record.turns) if turn.role == "user"), "")
