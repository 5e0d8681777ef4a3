"""One call of the judge: what it is asked about a row and sees of it, what a verdict depends on, what a call costs."""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

from PIL import Image

from open_r1.data.images import load_images
from open_r1.data.record import Record
from open_r1.data.rubric import FIELD, Rubric, read_rubric
from open_r1.endpoint.client import EndpointAnswer, RequestFailed, scaled_down
from open_r1.endpoint.verdict_cache import VerdictCache
from open_r1.errors import data_error, shorten
from open_r1.rewards.base import gold_text
from open_r1.rewards.judge.prompt import (
    JudgedQuestion,
    JudgeRequest,
    Marks,
    NoVerdict,
    Persuaded,
    decoy_question,
    single_request,
)
from open_r1.rewards.judge.screen import may_persuade
from open_r1.rewards.judge.settings import JudgeSettings
from open_r1.rewards.judge.tally import TALLY, Tally

VERDICT_FORM = 2  # of prompts and verdicts; another one's cached verdicts do not count


class JudgeEndpoint(Protocol):
    """What answers the judge's prompts: an `Endpoint`, or a stand-in."""

    def chat(self, messages: Sequence[dict], images: Sequence[Image.Image] = (), **options: object) -> EndpointAnswer:
        """The reply, as of `Endpoint.chat`."""


@dataclass(frozen=True)
class ShownPictures:
    """The pictures of a row as they are sent, and a digest of their pixels."""

    images: tuple[Image.Image, ...] = ()
    digest: str = ""


@dataclass(frozen=True)
class Judge:
    """Who is asked, how, the verdicts so far, and what they cost.

    `in_group`: key of each answer that a call about its group was made for -> why that gave no verdict, or None; while
    the group is graded.
    """

    endpoint: JudgeEndpoint
    settings: JudgeSettings
    cache: VerdictCache = field(default_factory=VerdictCache)
    tally: Tally = TALLY
    in_group: dict[str, NoVerdict | RequestFailed | None] = field(default_factory=dict)

    def question(self, record: Record) -> tuple[JudgedQuestion, ShownPictures]:
        """What the answers of a row are judged by. Raises DataError for a rubric, gold or picture that is unusable."""
        pictures = row_pictures(record, self.settings.max_pixels) if self.settings.images else ShownPictures()
        if self.settings.images and not record.images and (field := shown_field(record)):
            expected = "paths of pictures, as JUDGE_IMAGES=true asks"
            raise data_error(record.where, field, shorten(record.extra[field]), expected, "write them as text")
        rubric = own_rubric(record) or self.settings.rubric
        return JudgedQuestion(asked_text(record), gold_text(record), rubric, len(pictures.images)), pictures

    def key(self, question: JudgedQuestion, pictures: ShownPictures, answer: str) -> str:
        """SHA-256 of all that a verdict depends on: model and settings, pixels, rubric, question, gold, answer."""
        settings = (self.settings.model, self.settings.images, self.settings.group, self.settings.schema)
        criteria = [(each.text, each.points) for each in question.criteria]
        rubric = [question.rubric.text if question.rubric else None, criteria]
        parts = [VERDICT_FORM, settings, pictures.digest, rubric, question.text, question.reference, answer]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def marks(self, question: JudgedQuestion, pictures: ShownPictures, answer: str) -> Marks:
        """The judge's marks of one answer. Raises NoVerdict for a reply without them, Persuaded where the judge also
        accepts what no answer can be right about, and as `Endpoint.chat` does."""
        (marks,) = self.send(single_request(question, answer), pictures)
        self.confirm(question, pictures, answer, marks)
        return marks

    def confirm(self, question: JudgedQuestion, pictures: ShownPictures, answer: str, marks: Marks) -> None:
        """Asks again, with a reference of random letters, where the judge accepted an answer that may have persuaded
        it. Raises Persuaded where it accepts that too. Criteria have their decoy among them."""
        if marks[0] and not question.criteria and may_persuade(answer, question.reference):
            (again,) = self.send(single_request(decoy_question(question), answer), pictures)
            if any(again):
                raise Persuaded("the judge called the answer equal to random letters too")

    def send(self, request: JudgeRequest, pictures: ShownPictures) -> list[Marks]:
        """The marks in the reply to one call, whose cost is counted."""
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
        return request.read(reply.text)


def own_rubric(record: Record) -> Rubric | None:
    """The rubric of the row itself. Raises DataError (field `rubric`) for one that is none."""
    value = record.extra.get(FIELD)
    return None if value is None else read_rubric(value, record.where)


def asked_text(record: Record) -> str:
    """The text of the last user turn; "" without one."""
    return next((turn.text for turn in reversed(record.turns) if turn.role == "user"), "")


def shown_field(record: Record) -> str | None:
    """The field of a saved completion that names its pictures in another form than paths; None without one."""
    return next((name for name in ("images", "image") if record.extra.get(name)), None)


def row_pictures(record: Record, max_pixels: int) -> ShownPictures:
    """The row's pictures in its order, of at most `max_pixels` each. Raises DataError as `load_images`."""
    return _pictures_of(record.folder, record.images, max_pixels, record.where) if record.images else ShownPictures()


@lru_cache(maxsize=64)
def _pictures_of(folder: str, paths: tuple[str, ...], max_pixels: int, where: str) -> ShownPictures:
    (images,) = load_images([Record("", paths, folder, (), "", where=where)])
    small = tuple(scaled_down(image, max_pixels) for image in images)
    digest = hashlib.sha256()
    for image in small:
        digest.update(repr(image.size).encode() + image.tobytes())
    return ShownPictures(small, digest.hexdigest())
