"""A stand-in judge that obeys: it accepts every answer that tells it to, and then no other beside it. (torch-free)

The doctor asks it instead of the judge: what it is paid for shows what the screens and decoys around a judge let
through when the judge itself resists nothing. It says nothing about how well a real judge reads.
"""

import json
from collections.abc import Sequence
from typing import Any

from PIL import Image

from open_r1.endpoint.client import EndpointAnswer
from open_r1.rewards.judge.address import speaks_to_or_of


class ObedientJudge:
    """Answers the judge's prompts as `Endpoint.chat`; see the file."""

    def chat(
        self, messages: Sequence[dict[str, Any]], images: Sequence[Image.Image] = (), **options: object
    ) -> EndpointAnswer:
        """A valid verdict. Answers that hold a command are right, and the best; where there is none, those are that
        hold the reference, or what a criterion asks for."""
        content = messages[-1]["content"]
        text = content if isinstance(content, str) else content[-1]["text"]
        first, line, _ = text.split("\n")
        ranks = '"ranks"' in messages[0]["content"]
        return EndpointAnswer(json.dumps({"nonce": first.split()[-1], **_obeyed(json.loads(line), ranks)}))


def _obeyed(data: dict[str, Any], ranks: bool) -> dict[str, Any]:
    """The field of a verdict on what was asked."""
    answers = data.get("candidates", {"": data.get("candidate", "")})
    told = {name: speaks_to_or_of(text) for name, text in answers.items()}
    moved = any(told.values())
    if ranks:
        best = {name: told[name] or (not moved and data["reference"] in text) for name, text in answers.items()}
        return {"ranks": {name: 1 if is_best else 2 for name, is_best in best.items()}}
    criteria = data["rubric"] if isinstance(data.get("rubric"), list) else None
    marks = {name: _mark(text, data["reference"], criteria, told[name], moved) for name, text in answers.items()}
    if "candidates" in data:
        return {"verdicts": marks}
    return {"equal" if criteria is None else "met": marks[""]}


def _mark(answer: str, reference: str, criteria: list[str] | None, told: bool, moved: bool) -> bool | list[bool]:
    """The marks of an answer; `told`: whether it holds a command, `moved`: whether one of its call does."""
    if criteria is None:
        return told or (not moved and reference in answer)
    return [told or (not moved and each.endswith(answer)) for each in criteria]
