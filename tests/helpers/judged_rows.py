"""Rows for a judge, and a stand-in judge that is honest."""

import json
from pathlib import Path

from helpers.fake_endpoint import Reply, Script, is_decoy, judge_prompt
from open_r1.data.record import Record
from open_r1.data.row_formats import Turn
from open_r1.rewards.trl_adapter import BatchReward

CRITERIA = [
    "names the breed",
    {"criterion": "names the colour", "points": 3},
    {"criterion": "a second dog", "points": -1},
]


def judged_row(
    gold: str = "a red car", folder: Path | None = None, images: tuple[str, ...] = (), **extra: object
) -> Record:
    return Record("7", images, str(folder), (Turn("user", "What is it?"),), gold, extra, "a.jsonl:7", "llm")


def grade(answers: list[str], row: Record) -> list[float | None]:
    """What a group of answers to one row earns, as a training step grades it."""
    return BatchReward("accuracy")([""] * len(answers), answers, record=[row] * len(answers))


def honest(words: str) -> Script:
    """A judge that accepts the reference, answers that hold one of these words, and for criteria their last word; with
    usage 100 and 10."""

    def mark(text: str, data: dict) -> bool | list[bool]:
        rubric = data.get("rubric")
        if isinstance(rubric, list):
            return [each.split()[-1] in text for each in rubric]
        is_right = text == data["reference"] or any(word in text for word in words.split())
        return is_right and not is_decoy(data["reference"] + " " + text)

    def reply(request: dict, served: int) -> Reply:
        nonce, data = judge_prompt(request)
        if "candidates" in data:
            found = {"verdicts": {name: mark(text, data) for name, text in data["candidates"].items()}}
        else:
            kind = "met" if isinstance(data.get("rubric"), list) else "equal"
            found = {kind: mark(data["candidate"], data)}
        return Reply(json.dumps({"nonce": nonce, **found}), usage=(100, 10))

    return reply
