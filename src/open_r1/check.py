"""The dataset doctor: checks every row, image, video and gold answer of a dataset before training.

    python -m open_r1.check --data_file_paths a.jsonl:b.jsonl --image_folders x:y [--reward_method M]
        [--task_type T] [--reward_funcs R ...] [--model PATH] [--max_rows N]

Then it answers some of the rows by cheap strategies (`rewards/strategies.py`) and shows what the rewards pay for them:
one that is paid over --attack_limit of what the gold earns is a finding.

Exit status 0: clean; 1: defects or findings; 2: wrong usage. With --max_rows N, images and gold
answers of the first N good rows are checked (of the lines, all are). torch and transformers load for --model only.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.markup import escape

from open_r1.config.video_flags import add_sampling_flags, check_videos, frame_sampling
from open_r1.data.chat import PROMPTS
from open_r1.data.control_tokens import control_tokens
from open_r1.data.field_names import renaming_of
from open_r1.data.jsonl_dataset import RecordDataset, scan_records
from open_r1.data.paths import split_paths
from open_r1.data.prompt_tokens import prompt_tokens, video_tokens
from open_r1.data.summary import summary_table, warning_lines
from open_r1.data.video.files import video_shapes
from open_r1.data.video.types import FrameSampling
from open_r1.errors import MAX_SHOWN, DataError, Problem, UsageError, look_up, summarized
from open_r1.report.attack_report import AttackSettings, attacked_rows, report_attacks
from open_r1.report.examination import examine, in_file_order, problem_table, shown_progress, write_defects
from open_r1.report.preview import write_preview
from open_r1.rewards.custom import load_reward
from open_r1.rewards.registry import REWARDS, get_method, prepare_methods
from open_r1.rewards.strategies import STRATEGIES
from open_r1.rewards.trl_adapter import BatchReward
from open_r1.tasks.find import TASK_HELP, find_task, read_template
from open_r1.tasks.task import Task

if TYPE_CHECKING:  # --model alone loads torch
    from open_r1.rollout.video_form import VideoRows

MAX_MEASURED = 512  # rows whose tokens are counted with --model


def _sample(data: RecordDataset) -> RecordDataset:
    """At most MAX_MEASURED rows, evenly spaced."""
    return data.select(np.unique(np.linspace(0, len(data) - 1, min(MAX_MEASURED, len(data))).astype(int)))


def _processor(model: str, frames: FrameSampling) -> Any:
    """The processor, which takes frames of videos as in training."""
    from open_r1.models.loading import read_processor, set_frame_limits  # takes seconds to import, --model needs it

    processor = read_processor(model, remedy="the doctor runs none")
    set_frame_limits(processor, frames)
    return processor


def check_parser() -> argparse.ArgumentParser:
    """The flags of the doctor; flags shared with training have the same names."""
    parser = argparse.ArgumentParser(prog="python -m open_r1.check", description="Checks a dataset before training.")
    parser.add_argument("--data_file_paths", required=True, help="JSONL or parquet files, separated by colons")
    parser.add_argument("--image_folders", help="one folder for all files, or one for each, separated by colons")
    parser.add_argument(
        "--fields", metavar="OURS=THEIRS,...", help="names of the rows' fields for ours: problem=question,image=img"
    )
    parser.add_argument("--reward_method", help="one accuracy method for all files, or one for each")
    parser.add_argument("--task_type", help=f"task whose accuracy method is used: {TASK_HELP}")
    parser.add_argument(
        "--model",
        help="model folder or name: looks for its control tokens, counts tokens of clean data",
    )
    add_sampling_flags(parser)
    parser.add_argument("--max_rows", type=int, help="check images and answers of the first N good rows only")
    parser.add_argument(
        "--preview",
        nargs="?",
        const="",
        metavar="FILE",
        help="write a page of sample rows with their golds drawn; default: beside the first data file",
    )
    parser.add_argument("--prompt_template", metavar="TEXT", help="text around a question, with {question}, or @FILE")
    parser.add_argument(
        "--all_defects", type=Path, metavar="FILE", help="write every defect to FILE, a JSON line each"
    )
    parser.add_argument("--prompt_mode", choices=["think", "direct"], default="think", help="format of the answers")
    _add_attack_flags(parser.add_argument_group("cheap strategies"))
    return parser


def _add_attack_flags(group: argparse._ArgumentGroup) -> None:
    """The flags of what cheap strategies may earn."""
    group.add_argument(
        "--reward_funcs",
        nargs="+",
        metavar="R",
        help="rewards as in training, also file.py:function; default: the task's",
    )
    group.add_argument(
        "--attack_limit",
        type=float,
        default=0.5,
        metavar="SHARE",
        help="a strategy that earns a larger share of what the right answer earns is a finding (a guess may earn the "
        "frequency of the most frequent gold); 1 allows all, default: 0.5",
    )
    group.add_argument(
        "--allow_attack", nargs="+", default=[], metavar="NAME", help="strategies, or rewards, that are no finding"
    )
    group.add_argument("--ask_judge", action="store_true", help="also ask the judge of rows with the method llm")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the doctor; returns the exit status."""
    parser = check_parser()
    args = parser.parse_args(argv)
    if args.max_rows is not None and args.max_rows < 1:
        parser.error(f"--max_rows: got {args.max_rows}, expected at least 1")
    try:
        for method in split_paths(args.reward_method) if args.reward_method else ():
            get_method(method)
    except ValueError as error:
        parser.error(f"--reward_method: {error}")
    try:
        template = None if args.prompt_template is None else read_template(args.prompt_template)
        task = find_task(args.task_type or "default", template, "--task_type") if args.task_type or template else None
        check_videos(args)
        settings, rewards = _attack_settings(args), _rewards(args, task)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    console = Console(emoji=False)  # "file.py:boom:" is a name
    if not console.is_terminal:
        console = Console(width=240, emoji=False)  # a log file is not limited to 80 columns
    try:
        return _run(args, task, settings, rewards, console)
    except DataError as error:  # arguments that contradict each other
        return _report(error.problems, console)
    except UsageError as error:
        parser.error(str(error))


def _rewards(args: argparse.Namespace, task: Task | None) -> list[BatchReward]:
    """The rewards of --reward_funcs, else of the task. Raises ValueError and OSError as `load_reward`."""
    names = args.reward_funcs or (task or find_task("default")).rewards
    for name in names:
        load_reward(name)
    return [BatchReward(name) for name in names]


def _attack_settings(args: argparse.Namespace) -> AttackSettings:
    """The settings of the cheap strategies. Raises ValueError for what is none."""
    if not 0 <= args.attack_limit <= 1:
        raise ValueError(f"--attack_limit: got {args.attack_limit:g}, expected a share from 0 to 1")
    rewards = [name.rpartition(":")[2] for name in args.reward_funcs or REWARDS]
    for name in args.allow_attack:
        look_up(name, dict.fromkeys((*STRATEGIES, *rewards)), "--allow_attack")
    if args.ask_judge:
        prepare_methods(["llm"])
    return AttackSettings(args.attack_limit, frozenset(args.allow_attack), args.ask_judge)


def _run(
    args: argparse.Namespace,
    task: Task | None,
    settings: AttackSettings,
    rewards: Sequence[BatchReward],
    console: Console,
) -> int:
    methods = args.reward_method or (task.method if task else None)  # a row's own method wins, as in training
    renaming = renaming_of(args.fields)
    data, problems = scan_records(args.data_file_paths, args.image_folders, reward_methods=methods, renaming=renaming)
    selection = data if args.max_rows is None else data.select(range(min(args.max_rows, len(data))))
    frames = frame_sampling(args)
    problems, stats = examine(selection, problems, frames)
    processor = _processor(args.model, frames) if args.model else None
    if processor:
        tokens, videos = control_tokens(processor), _video_rows(args, processor)
        found = videos.beside(lambda record: tokens.problems(record, with_answer=True))
        rows = shown_progress(selection, "looking for control tokens")
        problems = in_file_order([*problems, *(problem for row in rows for problem in found(row))])
        if not problems:
            instruction, form = (task.prompts if task else PROMPTS)[args.prompt_mode], videos.shown or "native"
            stats.tokens, stats.video_tokens = _token_counts(_sample(selection), processor, instruction, frames, form)
    console.print(summary_table(stats))
    for warning in (*warning_lines(data.warnings, stats.unmet), *stats.hints):
        console.print("warning: " + escape(warning))
    if args.preview is not None:
        first = Path(split_paths(args.data_file_paths)[0])
        place = Path(args.preview) if args.preview else first.with_suffix(".preview.html")
        page = write_preview(selection, place, frames)
        console.print(f"preview: {page}", highlight=False, markup=False, soft_wrap=True)
    records = attacked_rows(selection, {problem.where for problem in problems}, args.prompt_mode)
    findings = report_attacks(rewards, records, settings, console, shown_progress) if records else 0
    if args.all_defects is not None:
        write_defects(problems, args.all_defects)
    return max(_report(problems, console), _report_findings(findings, console))


def _video_rows(args: argparse.Namespace, processor: Any) -> "VideoRows":
    """The check of rows with videos that training makes. Raises UsageError as it does."""
    from open_r1.models.configuration import configuration_of
    from open_r1.rollout.video_form import VideoRows

    family = configuration_of(args.model, remedy="the doctor runs none").model_type
    return VideoRows.of_run(args.video_form, processor, family)


def _token_counts(
    sample: RecordDataset, processor: Any, instruction: str, frames: FrameSampling, form: str
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The tokens of each row's prompt, and of each video in them."""
    of_prompts, of_videos = [], []
    for record in shown_progress(sample, "counting tokens"):
        of_prompts.append(prompt_tokens(record, processor, instruction, frames=frames, video_form=form))
        of_videos += [video_tokens(processor, shape.grey(), form) for shape in video_shapes(record, frames)]
    return tuple(of_prompts), tuple(of_videos)


def _report_findings(findings: int, console: Console) -> int:
    """Prints the number of findings, if any; returns the exit status."""
    if findings:
        console.print(f"{findings} findings of cheap strategies" if findings > 1 else "1 finding of cheap strategies")
    return 1 if findings else 0


def _report(problems: Sequence[Problem], console: Console) -> int:
    """Prints the problems and their number; returns the exit status."""
    shown = summarized(problems)
    if shown:
        console.print(problem_table(shown[:MAX_SHOWN]))
    if len(shown) > MAX_SHOWN:
        console.print(f"... and {len(shown) - MAX_SHOWN} more kinds of defects; --all_defects FILE writes every one")
    elif len(shown) < len(problems):
        console.print("defects of a kind are one row; --all_defects FILE writes every one")
    console.print(f"{len(problems)} defects" if len(problems) != 1 else "1 defect")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
