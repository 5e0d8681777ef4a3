"""Distil reasoning about CLEVR pictures from a text-only model, as verified traces for supervised fine-tuning.

    export OPENAI_BASE_URL=http://localhost:8000/v1 OPENAI_API_KEY=...
    python local_scripts/distill_r1.py CLEVR_train_scenes.json --model deepseek-reasoner --out distilled.jsonl

R1-V's recipe: a scene of CLEVR's scenes.json becomes a list of its objects in words; a reasoning model behind an
OpenAI-compatible endpoint answers counting questions about it; where its answer is the true count, the trace is kept,
with "the image" in place of "the description". The gpt turn of a line is `<think>..</think><answer>..</answer>`.
The other questions go to `OUT.rejected.jsonl` with the reason.

The questions of a scene depend only on --seed and the scene. Every answer is on the disk (`OUT.journal.jsonl`) before
it is used: a killed run continues, and no answer is paid for twice.
"""

import argparse
import json
import re
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from open_r1.data.paths import ImageFolder
from open_r1.data.record import Record
from open_r1.data.row_formats import IMAGE_TAG
from open_r1.endpoint.batch import Accepted, CachedEndpoint, Rejected, add_flags, run_batch_command
from open_r1.endpoint.replies import split_reasoning
from open_r1.errors import DataError, Problem, data_error, shorten
from open_r1.rewards.parsing.answer import final_text, has_think_format
from open_r1.rewards.registry import METHODS
from open_r1.tasks.counting import COUNT_ALL_QUESTION

ATTRIBUTES = ("size", "color", "material", "shape")  # in the order of English adjectives
PROMPT = """A picture shows these objects, and nothing else:
{objects}

{question} Think step by step, and speak of "the image", as if you saw it.
Give the number alone in <answer> </answer>."""

_GIVEN = r"(?:(?:given|provided|above|original|scene|text|textual|image|picture|written|object|verbal)(?:'s)?\s+){0,3}"
_SOURCE = re.compile(
    rf"\b(?:(?:the|this|that|a|an|my|your)\s+)?{_GIVEN}(?:descriptions?|list\s+of\s+(?:the\s+)?objects)\b"
    r"(?:\s+of\s+(?:the|this)\s+(?:scene|image|picture))?"
    rf"|\b(?:the|this|that)\s+{_GIVEN}text\b",
    re.IGNORECASE,
)
_SAYS = re.compile(r"\bthe image (?:says|states|mentions|lists|describes|reads|tells(?: me| us)?)\b", re.IGNORECASE)
_TOLD = re.compile(r"\b(?:described|listed|mentioned)\b")
_TEXT_REFERENCE = re.compile(r"\b(?:descriptions?|describ(?:ed?|es|ing)|textual|the text|prompt)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Question:
    """One counting question about a scene; `objects` are its objects in words."""

    id: str
    where: str
    image: str
    objects: tuple[str, ...]
    text: str
    count: int


def load_scenes(path: Path, folder: Path | None) -> list[dict[str, Any]]:
    """The scenes of a CLEVR file; raises DataError with every problem. With a folder, every picture must exist."""
    try:
        scenes = json.loads(path.read_text(encoding="utf-8"))["scenes"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        got, expected = f"{type(error).__name__}: {error}", 'CLEVR\'s {"scenes": [...]}'
        raise data_error(str(path), "scenes", got, expected, "correct the file") from error
    images = ImageFolder(str(folder)) if folder else None
    problems = [p for i, scene in enumerate(scenes) for p in scene_problems(scene, f"{path}:scenes[{i}]", images)]
    if problems:
        raise DataError(problems)
    return scenes


def scene_problems(scene: dict[str, Any], where: str, images: ImageFolder | None) -> Iterator[Problem]:
    """The defects of a scene."""
    name, objects = scene.get("image_filename"), scene.get("objects")
    if not isinstance(name, str) or not name:
        yield Problem(where, "image_filename", shorten(name), "the name of the picture", "add it")
    elif images and (missing := images.problem(name, where)):
        yield missing
    if not isinstance(objects, list) or not objects:
        yield Problem(where, "objects", shorten(objects), "a list of objects", "remove the scene, or correct it")
        return
    for i, thing in enumerate(objects):
        for attribute in ATTRIBUTES:
            value = thing.get(attribute) if isinstance(thing, dict) else None
            if not isinstance(value, str) or not value:
                yield Problem(where, f"objects[{i}].{attribute}", shorten(value), "a word", "correct the object")


def questions(scene: dict[str, Any], where: str, seed: int, by_attribute: int) -> list[Question]:
    """The questions of a scene: its total, and `by_attribute` different counts of objects with one or two attributes.

    >>> cube = {"size": "small", "color": "red", "material": "metal", "shape": "cube"}
    >>> scene = {"image_filename": "a.png", "objects": [cube, cube]}
    >>> [(question.text, question.count) for question in questions(scene, "", 0, 0)]
    [('How many different items are there in the image?', 2)]
    """
    objects, name = scene["objects"], scene["image_filename"]
    rng = np.random.default_rng([seed, zlib.crc32(json.dumps([name, objects]).encode())])
    counts = {COUNT_ALL_QUESTION: len(objects)}
    for _ in range(20 * by_attribute):  # a scene of equal objects has few different questions
        if len(counts) > by_attribute:
            break
        attributes = draw_attributes(objects, rng)
        count = sum(all(thing[key] == value for key, value in attributes.items()) for thing in objects)
        counts[f"How many {phrase(attributes, plural=True)} are there in the image?"] = count
    words = tuple(phrase({key: thing[key] for key in ATTRIBUTES}, plural=False) for thing in objects)
    stem = Path(name).stem
    return [Question(f"{stem}-{k}", where, name, words, *item) for k, item in enumerate(counts.items())]


def draw_attributes(objects: Sequence[dict[str, str]], rng: np.random.Generator) -> dict[str, str]:
    """One or two attributes, each from some object; two attributes may fit no object, so the count can be 0."""
    chosen = rng.choice(len(ATTRIBUTES), size=rng.integers(1, 3), replace=False)
    return {ATTRIBUTES[k]: objects[rng.integers(len(objects))][ATTRIBUTES[k]] for k in sorted(chosen)}


def phrase(attributes: dict[str, str], plural: bool) -> str:
    """Attributes in words.

    >>> phrase({"color": "red", "shape": "cube"}, plural=True), phrase({"size": "large"}, plural=True)
    ('red cubes', 'large things')
    """
    noun = attributes.get("shape", "thing")
    ending = "" if not plural else "es" if noun.endswith(("s", "x", "ch", "sh")) else "s"
    return " ".join([*(attributes[key] for key in ATTRIBUTES[:-1] if key in attributes), noun + ending])


def as_if_seen(trace: str) -> str:
    """A trace with "the image" in place of "the description" and the like.

    >>> as_if_seen("The scene description lists 2 cubes. As described, the text says red.")
    'The image shows 2 cubes. As shown, the image shows red.'
    """
    trace = _SOURCE.sub(lambda match: "The image" if match[0][0].isupper() else "the image", trace)
    trace = _SAYS.sub(lambda match: f"{match[0][:9]} shows", trace)
    return _TOLD.sub("shown", trace)


def distil(question: Question, endpoint: CachedEndpoint) -> Accepted | Rejected:
    """The result of one question: request, verification against the scene, output line."""
    objects = "\n".join(f"- a {words}" for words in question.objects)
    prompt = PROMPT.format(objects=objects, question=question.text)
    answer = endpoint.ask(question.id, [{"role": "user", "content": prompt}])
    inline, answer_text = split_reasoning(answer.text)
    trace, reply = as_if_seen(answer.reasoning.strip() or inline), f"{answer.reasoning}\n{answer.text}".strip()
    gold = Record(question.id, (), "", (), str(question.count), where=question.where)
    if not final_text(answer_text):
        return Rejected(question.where, "no answer", question.text, reply)
    if METHODS["default"].score(answer_text, gold) < METHODS["default"].maximum:
        return Rejected(question.where, "wrong answer", f"{question.text} is {question.count}", reply)
    if text_reference := _TEXT_REFERENCE.search(trace):
        return Rejected(question.where, "speaks of a text", f"the trace says {text_reference[0]!r}", reply)
    solution = f"<think>\n{trace}\n</think>\n<answer>{question.count}</answer>"
    if not trace or not has_think_format(solution):
        return Rejected(question.where, "no trace", "no reasoning, or tags inside it", reply)
    return Accepted(output_line(question, solution))


def output_line(question: Question, solution: str) -> dict[str, Any]:
    """The output line."""
    turns = [{"from": "human", "value": IMAGE_TAG + question.text}, {"from": "gpt", "value": solution}]
    return {"id": question.id, "image": question.image, "conversations": turns}


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", type=Path, help="CLEVR's scenes.json")
    parser.add_argument("--image_folder", type=Path, help="check before asking that every picture is there")
    parser.add_argument("--by_attribute", type=int, default=1, help="questions of a scene beside its total")
    parser.add_argument("--seed", type=int, default=0)
    add_flags(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Exit status: 0, or 1 where a question stayed unanswered."""
    scenes = load_scenes(args.scenes, args.image_folder)[: args.limit]
    all_questions = [
        question
        for i, scene in enumerate(scenes)
        for question in questions(scene, f"{args.scenes}:scenes[{i}]", args.seed, args.by_attribute)
    ]
    status, summary = run_batch_command(all_questions, distil, args)
    print(summary)
    return status


def main(argv: Sequence[str] | None = None) -> int:
    try:
        return run(options().parse_args(argv))
    except (ValueError, OSError) as error:  # scenes, environment or endpoint
        sys.exit(str(error))


if __name__ == "__main__":
    sys.exit(main())
