"""Ask a model about pictures and videos: prints thinking, answer and parsed answer, draws its boxes and polygons.

    python eval/infer.py --model output/rec/checkpoint --image street.jpg --question "Where is the red car?" --task rec
    python eval/infer.py --model M --image a.jpg b.jpg --question "Before: <image> After: <image> What changed?"
    python eval/infer.py --model M --video clip.mp4 --question "What comes first?" --video_fps 4
    python eval/infer.py --model M --data_file_paths rows.jsonl --image_folders images --out output/answers

Pictures stand at the `<image>` tags of the question, videos at its `<video>` tags, or before it where it has none; a
folder is a video of the pictures in it, by name, at --video_fps. With `--gold` the answer is
scored too. Drawings go to `--out`, as large as the pictures: green is gold, red and dashed what was answered. A
checkpoint of ours says which task, prompt mode and token budget it was trained with; flags win over that.

With `--data_file_paths` every row of a file is answered as `eval/evaluate.py` does it, into `OUT/predictions.jsonl`
(a run that was stopped goes on), and drawn into `OUT/drawn`; rows may lack a gold answer and are then not scored.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from open_r1.config.video_flags import frame_sampling
from open_r1.data.field_names import renaming_of
from open_r1.data.paths import data_files
from open_r1.data.unlabeled import files_with_placeholders
from open_r1.data.video.files import load_videos
from open_r1.data.video.types import VideoFrames
from open_r1.errors import UsageError
from open_r1.evaluation.cli import show_summary, stopped_text
from open_r1.evaluation.drawing import draw_predictions
from open_r1.evaluation.flags import add_answer_flags, add_tool_flags, refuse_idle_video_flags
from open_r1.evaluation.predictions_file import PREDICTIONS, save_summary
from open_r1.evaluation.question import Question
from open_r1.evaluation.run import evaluate
from open_r1.evaluation.session import Answer, ModelSession, printable, session_settings
from open_r1.evaluation.settings import BATCH_SIZES, EvaluationSettings, settings_of
from open_r1.report.next_steps import command_text
from open_r1.rewards.drawing import has_outlines
from open_r1.rewards.parsing.answer import final_text, thinking_text
from open_r1.tools.asked_boxes import strip_of
from open_r1.tools.messages import ModelTurn
from open_r1.tools.sandboxed import AnswerPart

ONE = ("image", "video", "question", "gold")
ROWS = ("image_folders", "fields", "limit", "backend", "batch_size", "overwrite", "video_cache_gb")
WIDE = 100_000  # columns of a file: no line is broken

# flags of an answer that eval/attention.py has too, so that it looks at the same one
LOOKED_AT_WITH = ("max_completion_length", "temperature", "seed", "max_pixels", "min_pixels", "dtype", "device")
LOOKED_AT_WITH += ("video_fps", "video_max_frames", "video_max_pixels", "video_form", "tools", "max_tool_turns")


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--image", type=Path, nargs="+", help="one picture or several")
    add("--video", type=Path, nargs="+", help="one video or several: files, or folders of their frames")
    add("--question", help="<image>, <video> where each picture and video stands, or they come first")
    add("--gold", help="the right answer: the task's rewards are shown, and its outlines drawn")
    add(
        "--data_file_paths",
        help="instead of a question: JSONL or parquet files, colons between; each row is answered",
    )
    add("--image_folders", help="image folders separated by colons, one for each file or one for all")
    add("--fields", metavar="OURS=THEIRS,...", help="names of the rows' fields: problem=question,solution=answer")
    add("--out", "--output_dir", dest="out", type=Path, default=Path("output/infer"), help="folder of what is written")
    add("--limit", type=int, help="only the first so many rows of each file")
    add("--backend", default="hf", choices=sorted(BATCH_SIZES), help="transformers or vLLM, for rows")
    add("--batch_size", type=int, help="rows answered together (default: 32, with vLLM 256)")
    add("--overwrite", action="store_true", help="drop other predictions in the same folder")
    add_answer_flags(parser)
    add_tool_flags(parser)
    return parser


def main() -> None:
    parser = options()
    args = parser.parse_args()
    try:
        idle = ONE if args.data_file_paths else ROWS
        if useless := [f"--{name}" for name in idle if getattr(args, name) != parser.get_default(name)]:
            other = "without" if args.data_file_paths else "with"
            raise UsageError(
                f"{', '.join(useless)}: got a value, which acts {other} --data_file_paths only; remove it"
            )
        answer_rows(args) if args.data_file_paths else answer_one(args)
    except (ValueError, OSError) as error:  # UsageError is a ValueError
        sys.exit(printable(str(error)))
    except KeyboardInterrupt:
        sys.stderr.write(stopped_text(args.out if args.data_file_paths else None))
        sys.exit(130)


# ------------------------------------------------------------------------------------------------------- one question


def answer_one(args: argparse.Namespace) -> None:
    """Answer one question, in each prompt mode."""
    if not args.question:
        raise UsageError("--question: got nothing, expected one, or rows with --data_file_paths; see --help")
    refuse_idle_video_flags(args)
    question = Question(args.question, tuple(args.image or ()), args.gold, videos=tuple(args.video or ()))
    settings = session_settings(args)
    load_videos([question.record(settings.methods[0])], frame_sampling(settings))  # refused before a model is loaded
    session, console = ModelSession(settings), Console(width=None if sys.stdout.isatty() else WIDE)
    for mode in settings.modes:
        stream = session.ask(question, replace(settings, prompt_mode=mode))
        if len(settings.modes) > 1:
            console.print(grid({"mode": mode}))
        answer = follow(stream, console)
        save_drawings(answer, args.out, mode, console)
    for video, path in zip(answer.example.videos, question.videos, strict=True):
        console.print(grid({"video": f"{path.name}: {seen_of(video)}"}))
    console.print(grid({"next": next_look(args, settings)}))


def next_look(args: argparse.Namespace, settings: EvaluationSettings) -> str:
    """The command that shows what the answer looked at; without a picture, the one that opens the demo."""
    if not args.image and not args.video:
        return demo_command(args, settings)
    asked = {"image": args.image, "video": args.video, "question": args.question, "prompt_mode": settings.modes[0]}
    known, defaults = vars(args), vars(options().parse_args(["--model", args.model]))
    asked |= {name: known[name] for name in LOOKED_AT_WITH if known[name] != defaults[name]}
    return command_text("eval/attention.py", {**model_flags(settings), **asked, "out": args.out / "attention.html"})


def demo_command(args: argparse.Namespace, settings: EvaluationSettings) -> str:
    """The command that opens the demo with the model and the tools of these answers."""
    of_tools = argparse.ArgumentParser()
    add_tool_flags(of_tools)
    defaults, known = vars(of_tools.parse_args([])), vars(args)
    tools = {name: known[name] for name, value in defaults.items() if known[name] != value}
    return command_text("eval/demo.py", {**model_flags(settings), **tools})


def model_flags(settings: EvaluationSettings) -> dict[str, object]:
    """The flags by which another script of this folder takes the same model and task."""
    return {"model": settings.model, "task": settings.tasks[0], "trust_remote_code": settings.trust_remote_code}


def seen_of(video: VideoFrames) -> str:
    """What the model saw of a video, in words."""
    frames, height, width, _ = video.pixels.shape
    return f"{frames} frames of {width}x{height} from {video.seconds[0]:.2f} to {video.seconds[-1]:.2f} s"


def follow(stream: Iterator[str | Answer], console: Console) -> Answer:
    """Show the text while it is generated (on a terminal), then the answer, which is returned."""
    with Live(console=console, refresh_per_second=12, transient=True) as live:
        for now in stream:
            if isinstance(now, str):
                live.update(talk(now))
    said = [] if now.turns and now.turns[-1].calls else [talk(now.completion)]
    calling = now.turns[: len(now.turns) - len(said)]
    console.print(*map(called, calling), *said, facts(now), sep="")
    return now


def called(turn: ModelTurn) -> Group:
    """A turn that calls tools, with their answers, as rows."""
    answers = [line(answer.name or "error", "".join(map(told_part, answer.parts)), "") for answer in turn.answers]
    left_out = [line("left out", f"the answer, by --{turn.limit}", "")] if turn.limit else []
    return Group(line("turn", turn.text, ""), *answers, *left_out)


def told_part(part: AnswerPart) -> str:
    """A part of a tool's answer in words."""
    return part if isinstance(part, str) else f"[picture {part.width}x{part.height}]"


def talk(completion: str) -> Group:
    """Thinking and answer as two rows; the whole completion where it has neither."""
    parts = {"thinking": thinking_text(completion), "answer": final_text(completion)}
    return grid({name: text for name, text in parts.items() if text} or {"said": completion}, strong="answer")


def facts(answer: Answer) -> Group:
    """The parsed answer, token count and rewards as rows."""
    rewards = [f"{name} {'-' if value is None else f'{value:.3f}'} x {w:g}" for name, w, value in answer.rewards()]
    limit = answer.turns[-1].limit if answer.turns else None
    cut = f", cut off: raise --{(limit or 'max_completion_length').split()[0]}" if answer.truncated else ""
    rows = {
        "read": json.dumps(answer.parsed, ensure_ascii=False) if answer.parsed is not None else "nothing",
        "tokens": f"{len(answer.ids)} in {answer.seconds:.1f} s{cut}",
        "rewards": ", ".join(rewards),
    }
    return grid({name: text for name, text in rows.items() if text})


def grid(rows: dict[str, str], strong: str = "") -> Group:
    """Labels and texts side by side; texts are shown literally, without markup."""
    return Group(*(line(name, text, "bold" if name == strong else "") for name, text in rows.items()))


def line(name: str, text: str, style: str) -> Table:
    """One row of `grid`."""
    table = Table.grid(padding=(0, 2))
    table.add_column(width=9, style="cyan")
    table.add_column(overflow="fold")
    table.add_row(name, Text(printable(text), style=style))
    return table


def save_drawings(answer: Answer, out: Path, mode: str, console: Console) -> None:
    """Write `OUT/NUMBER_NAME_MODE.png` of each picture, where the answer has outlines, and with tools
    `OUT/strip_MODE.png` of all pictures that were seen, with the boxes that were asked for; says where they
    are, or why there is none."""
    if seen := answer.strip():
        out.mkdir(parents=True, exist_ok=True)
        strip_of(seen).save(out / f"strip_{mode}.png")
        console.print(grid({"seen": str(out / f"strip_{mode}.png")}))
    if not has_outlines(answer.record):
        if answer.turns and not seen:
            out.mkdir(parents=True, exist_ok=True)
            console.print(grid({"seen": f"nothing is drawn in {out}: no tool was called"}))
        return
    out.mkdir(parents=True, exist_ok=True)
    for number, (name, picture) in enumerate(zip(answer.record.images, answer.drawings(), strict=True), 1):
        path = out / f"{number}_{Path(name).stem}_{mode}.png"
        picture.save(path)
        console.print(grid({"drawn": str(path)}))


# --------------------------------------------------------------------------------------------------------------- rows


def answer_rows(args: argparse.Namespace) -> None:
    """Answer the rows of files: `OUT/predictions.jsonl` and `OUT/drawn`; under torchrun rank 0 draws."""
    names, renaming = data_files(args.data_file_paths), renaming_of(args.fields)
    paths = files_with_placeholders(names, args.out / "rows", renaming)
    args.data_file_paths, args.output_dir, args.num_samples = paths, args.out, 1
    settings = settings_of(args)
    if (result := evaluate(settings)) is None:
        return
    lines, summary = result
    save_summary(args.out, summary)
    drawings = draw_predictions(lines, settings, args.out / "drawn")
    console = Console(width=None if sys.stdout.isatty() else 140)
    show_summary(summary, console)
    console.print(f"{len(lines)} answers: {args.out / PREDICTIONS}", highlight=False, soft_wrap=True)
    console.print(f"{drawings} drawings: {args.out / 'drawn'}", highlight=False, soft_wrap=True)
    console.print(f"next: {demo_command(args, settings)}", highlight=False, soft_wrap=True, markup=False)


if __name__ == "__main__":
    main()
