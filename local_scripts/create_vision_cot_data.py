"""Let an OpenAI-compatible endpoint rewrite rows as verifiable questions with reasoning; keep those that verify.

    export OPENAI_BASE_URL=http://localhost:8000/v1 OPENAI_API_KEY=...
    python local_scripts/create_vision_cot_data.py rows.jsonl --image_folder images --model MODEL --out cot.jsonl

For each row (image, question, answer) the endpoint writes a question that has one verifiable answer, and that answer
as `<think>..</think><answer>..</answer>`. An unreadable reply is sent back with its defect, up to `--max_repairs`
times. A row is kept where the new answer scores the full accuracy reward against the row's own answer; the others go
to `OUT.rejected.jsonl` with the reason. Rows with `original_question` and `original_answer` are made again from these.

Every answer is on the disk (`OUT.journal.jsonl`) before it is used: a killed run continues, and no answer is paid for
twice. Multimodal open-r1's script of this name made lmms-lab/multimodal-open-r1-8k-verified; here
the answer can be hidden from the endpoint (`--hide_answer`), so that verification tests its reasoning.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from open_r1.data.images import open_image, with_sizes
from open_r1.data.jsonl_index import decode_row
from open_r1.data.paths import ImageFolder
from open_r1.data.record import Record, parse_row
from open_r1.data.row_formats import IMAGE_TAG
from open_r1.endpoint.batch import Accepted, CachedEndpoint, Rejected, add_flags, run_batch_command
from open_r1.endpoint.client import scaled_down
from open_r1.endpoint.replies import has_lost_backslash, parse_object
from open_r1.errors import DataError, Problem
from open_r1.report.examination import check_gold
from open_r1.rewards.base import gold_text
from open_r1.rewards.gold import gold_score
from open_r1.rewards.parsing.answer import has_think_format
from open_r1.rewards.registry import get_method

INSTRUCTION = """You prepare training data for a model that learns to reason about pictures. You get a question about \
pictures{given} as JSON, after the pictures. Do two things.
1. Write the question so that it has exactly one answer, which a program can compare: a number, an option letter, a \
formula, or a few words. Keep what is asked and all options. A proof or an open request becomes a question for its \
result. Leave a question that is fine as it is.
2. Answer it. Think step by step from what the pictures show, as someone who does not know the answer yet, inside \
<think> </think>; then give the answer alone inside <answer> </answer>.
Reply with one JSON object and nothing else: {{"problem": "the question", "solution": \
"<think>...</think><answer>...</answer>"}}. Inside JSON every backslash of LaTeX is doubled."""
REPAIR = "That reply cannot be used: {wrong}. Reply again with the corrected JSON object and nothing else."
SHAPE_FIELDS = ("conversations", "messages", "problem", "solution")


@dataclass(frozen=True)
class RewrittenRow:
    """The new question and solution of a readable reply."""

    problem: str
    solution: str


def load_rows(path: Path, folder: Path, method: str | None) -> list[Record]:
    """All rows of a JSONL file; raises DataError with every problem of the file."""
    images, records, problems = ImageFolder(str(folder)), [], []
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, 1):
            where = f"{path}:{number}"
            try:
                if line.strip():
                    row = originals(decode_row(line, where))
                    records.append(parse_row(row, where, number, str(folder), method, images.problem))
                    problems += check_gold(records[-1])
            except DataError as error:
                problems += error.problems
    if not records and not problems:
        problems.append(Problem(str(path), "file", "no rows", "at least one JSON object", "check how it was written"))
    if problems:
        raise DataError(problems)
    return records


def originals(row: Any) -> Any:
    """The original row of a row that this script, or the hub's dataset, has made.

    >>> originals({"problem": "new", "solution": "new", "original_question": "Old?", "original_answer": "1", "id": 3})
    {'original_question': 'Old?', 'original_answer': '1', 'id': 3, 'problem': 'Old?', 'solution': '1'}
    """
    if not isinstance(row, dict) or not {"original_question", "original_answer"} <= row.keys():
        return row
    fields = {key: value for key, value in row.items() if key not in SHAPE_FIELDS}
    return {**fields, "problem": row["original_question"], "solution": row["original_answer"]}


def refuse_videos(records: Iterable[Record]) -> None:
    """Raises DataError for rows with videos, which the endpoint would not be shown."""
    problems = [
        Problem(record.where, "video", f"{len(record.videos)} video(s)", "pictures alone", "leave such rows out")
        for record in records
        if record.videos
    ]
    if problems:
        raise DataError(problems)


def prompt(record: Record, hide_answer: bool) -> list[dict[str, Any]]:
    """The messages of the first request: pictures first, then the row as JSON, with its image tags."""
    *before, question = record.turns
    row = {"question": question.text} | ({} if hide_answer else {"answer": gold_text(record)})
    row |= {"context": [f"{turn.role}: {turn.text}" for turn in before]} if before else {}
    given = "" if hide_answer else " and its answer"
    parts = [{"type": "image"} for _ in record.images]
    return [
        {"role": "system", "content": INSTRUCTION.format(given=given)},
        {"role": "user", "content": [*parts, {"type": "text", "text": json.dumps(row, ensure_ascii=False)}]},
    ]


def read_reply(text: str, images: int) -> RewrittenRow:
    """The rewritten row of a reply. Raises ValueError that names the defect, for the repair request."""
    reply = parse_object(text)
    problem, solution = reply.get("problem"), reply.get("solution")
    if not all(isinstance(value, str) and value.strip() for value in (problem, solution)):
        raise ValueError('it needs the texts "problem" and "solution"')
    if has_lost_backslash(problem) or has_lost_backslash(solution):
        raise ValueError("a backslash of LaTeX is not doubled in its JSON")
    if not has_think_format(solution):
        raise ValueError("its solution is not <think>...</think><answer>...</answer> with each tag once")
    if problem.count(IMAGE_TAG) not in (0, images):
        raise ValueError(f"its problem has {problem.count(IMAGE_TAG)} {IMAGE_TAG} tags for {images} pictures")
    return RewrittenRow(problem.strip(), solution.strip())


def output_line(record: Record, rewrite: RewrittenRow) -> dict[str, Any]:
    """The output line: conversations for training, and the four columns of multimodal open-r1's dataset."""
    tags = "" if IMAGE_TAG in rewrite.problem else IMAGE_TAG * len(record.images)
    images = {"image": record.images[0] if len(record.images) == 1 else list(record.images)} if record.images else {}
    method = {"accu_reward_method": record.accu_reward_method} if record.accu_reward_method else {}
    question = record.turns[-1].text.replace(IMAGE_TAG, "").strip()
    return {
        **{key: value for key, value in record.extra.items() if key not in SHAPE_FIELDS},
        **{"id": record.id, **images, **method},
        "problem": rewrite.problem,
        "solution": rewrite.solution,
        "original_question": question,
        "original_answer": gold_text(record),
        "conversations": [
            {"from": "human", "value": tags + rewrite.problem},
            {"from": "gpt", "value": rewrite.solution},
        ],
    }


def verify(record: Record, rewrite: RewrittenRow) -> Accepted | Rejected:
    """Accepted where the answer scores the row's full accuracy reward, and the new line is usable for training."""
    method = get_method(record.accu_reward_method)
    if method.score(rewrite.solution, with_sizes(record) or record) < method.maximum:
        details = f"the answer does not verify against {gold_text(record)!r}"
        return Rejected(record.where, "not verified", details, rewrite.solution)
    line = output_line(record, rewrite)
    try:
        made = parse_row(line, record.where, 1, record.folder)
        score, best = gold_score(with_sizes(made) or made)
    except DataError as error:
        return Rejected(record.where, "unusable line", str(error), rewrite.solution)
    if score < best:
        return Rejected(record.where, "unusable line", "its own answer does not earn the reward", rewrite.solution)
    return Accepted(line)


def create(record: Record, endpoint: CachedEndpoint, args: argparse.Namespace) -> Accepted | Rejected:
    """The result of one row: request, repair requests for unreadable replies, verification."""
    messages = prompt(record, args.hide_answer)
    row = {"id": record.id, "images": [file_digest(record, path) for path in record.images]}
    for _ in range(args.max_repairs + 1):
        answer = endpoint.ask(row, messages, partial(pictures, record, args.max_pixels))
        try:
            rewrite = read_reply(answer.text, len(record.images))
        except ValueError as error:
            defect = f"{error}{', and it was cut at its token limit' if answer.finish == 'length' else ''}"
            messages = [*messages, *repair(answer.text, defect)]
        else:
            return verify(record, rewrite)
    return Rejected(record.where, "unreadable reply", defect, answer.text)


def repair(reply: str, defect: str) -> list[dict[str, str]]:
    """The messages that send an unreadable reply back with its defect."""
    return [
        {"role": "assistant", "content": reply or "(nothing)"},
        {"role": "user", "content": REPAIR.format(wrong=defect)},
    ]


def file_digest(record: Record, path: str) -> str:
    """SHA-256 of an image file, so that another picture under the same name is another question."""
    return hashlib.sha256(Path(ImageFolder(record.folder).resolve(path, record.where)).read_bytes()).hexdigest()


def pictures(record: Record, max_pixels: int) -> list[Any]:
    """The pictures of a row, at most `max_pixels` each."""
    return [scaled_down(open_image(record.folder, path, where=record.where), max_pixels) for path in record.images]


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path, help="JSONL in any of the repository's line formats")
    parser.add_argument("--image_folder", type=Path, help="default: the folder of ROWS")
    parser.add_argument("--reward_method", help="accuracy method of rows that name none; default: default")
    parser.add_argument("--hide_answer", action="store_true", help="the endpoint does not see the row's answer")
    parser.add_argument("--max_repairs", type=int, default=2, help="requests after an unreadable reply")
    parser.add_argument("--max_pixels", type=int, default=2359296, help="larger pictures are sent smaller")
    add_flags(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Exit status: 0, or 1 where a row stayed unanswered."""
    get_method(args.reward_method)
    records = load_rows(args.rows, args.image_folder or args.rows.parent, args.reward_method)[: args.limit]
    refuse_videos(records)
    status, summary = run_batch_command(records, partial(create, args=args), args)
    print(summary)
    return status


def main(argv: Sequence[str] | None = None) -> int:
    try:
        return run(options().parse_args(argv))
    except (ValueError, OSError) as error:  # rows, flags, environment or endpoint
        sys.exit(str(error))


if __name__ == "__main__":
    sys.exit(main())
