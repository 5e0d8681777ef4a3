"""Greedy accuracy of a model on JSONL rows, with the parser, prompt and rewards of training.

    python eval/evaluate.py --model assets/tiny-vlm --task digits \\
        --data_file_paths data/digits/heldout.jsonl --image_folders data/digits --output_dir output/eval

Writes `predictions.jsonl` (one line a row: where, completion, solution, score, format, tokens) and `summary.json`
(accuracy with its 95 % Wilson interval, what counts as right, parse rate, format rate, mean tokens, truncated share,
seconds).
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from rich.progress import track
from transformers import AutoModelForImageTextToText

from open_r1.answers import extract_answer
from open_r1.arguments import TaskArguments, VLMConfig
from open_r1.errors import UsageError
from open_r1.evaluation import answer_batches, wilson
from open_r1.models import load_processor
from open_r1.paths import split_paths
from open_r1.records import load_records
from open_r1.rewards import METHODS, REWARDS, prepare
from open_r1.tasks import TASKS
from open_r1.trainer.run import annotator


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="hub name or folder of a checkpoint, or of an adapter")
    parser.add_argument("--data_file_paths", required=True, help="JSONL files separated by colons")
    parser.add_argument("--image_folders", help="image folders separated by colons")
    parser.add_argument("--task", default="default", choices=sorted(TASKS))
    parser.add_argument("--prompt_mode", default="think", choices=("think", "direct"))
    parser.add_argument("--reward_method", help="accuracy method; default: the task's")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--max_completion_length", type=int, default=256)
    parser.add_argument("--max_pixels", type=int)
    parser.add_argument("--min_pixels", type=int)
    parser.add_argument("--limit", type=int, help="only the first so many rows")
    parser.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda:0, ...")
    return parser


def evaluate(args: argparse.Namespace) -> dict[str, Any]:
    began, task = time.time(), TASKS[args.task]
    records = load_records(args.data_file_paths, args.image_folders, reward_methods=args.reward_method or task.method)
    records = records.select(range(min(args.limit or len(records), len(records))))
    limits = TaskArguments(max_pixels=args.max_pixels, min_pixels=args.min_pixels)
    processor = load_processor(VLMConfig(model_name_or_path=args.model), limits)
    model = AutoModelForImageTextToText.from_pretrained(args.model, dtype=args.dtype, device_map=args.device).eval()
    annotate = annotator(model.config.model_type, processor, args.prompt_mode)
    batches = answer_batches(
        model, processor, records, task.prompts[args.prompt_mode], args.batch_size, args.max_completion_length
    )
    lines = []
    for batch in track(batches, description=args.model, total=-(-len(records) // args.batch_size)):
        lines += [prediction(annotate(record), text, tokens) for record, text, tokens in batch]
    args.output_dir.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (args.output_dir / "predictions.jsonl").write_text(text, encoding="utf-8")
    summary = summarize(lines, task, args.max_completion_length) | {"seconds": round(time.time() - began, 1)}
    (args.output_dir / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return summary


def prediction(record: Any, text: str, tokens: int) -> dict[str, Any]:
    return {
        "where": record.where,
        "id": record.id,
        "completion": text,
        "solution": record.solution,
        "score": METHODS[record.accu_reward_method].score(text, record),
        "format": REWARDS["format"](text, record),
        "parsed": extract_answer(text),
        "tokens": tokens,
    }


def summarize(lines: list[dict[str, Any]], task: Any, limit: int) -> dict[str, Any]:
    right = wilson(sum(task.is_right(line["score"]) for line in lines), len(lines))
    mean = {key: sum(float(line[key]) for line in lines) / len(lines) for key in ("score", "format", "tokens")}
    return {
        "metric": task.metric,
        "accuracy": right.accuracy,
        "low": right.low,
        "high": right.high,
        "n": right.n,
        "mean_score": mean["score"],
        "parse_rate": sum(line["parsed"] is not None for line in lines) / len(lines),
        "format_rate": mean["format"],
        "mean_tokens": mean["tokens"],
        "truncated": sum(line["tokens"] >= limit for line in lines) / len(lines),
    }


def main() -> None:
    parser = options()
    args = parser.parse_args()
    try:
        prepare(split_paths(args.reward_method) if args.reward_method else ())
    except ValueError as error:
        parser.error(f"--reward_method: {error}")
    try:
        summary = evaluate(args)
    except UsageError as error:
        sys.exit(str(error))
    print(json.dumps(summary, indent=2))


if __name__ == "__main__":
    main()
