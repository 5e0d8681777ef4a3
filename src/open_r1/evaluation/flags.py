"""The flags that the scripts of `eval/` share."""

import argparse
from pathlib import Path

from open_r1.data.geometry.coordinates import SPACES
from open_r1.data.media_views import OWN, VIEWS
from open_r1.errors import UsageError
from open_r1.evaluation.settings import BATCH_SIZES, COMPLETION, MODES, OF_VIDEOS
from open_r1.tasks.find import TASK_HELP

VIEW_HELP = "; ".join(f"{name}, {what}" for name, what in VIEWS.items())


def add_options(parser: argparse.ArgumentParser, task: str | None = None, data: bool = True) -> None:
    """Add the shared flags; `task`: the script's own task; `data` false: the script finds the rows itself."""
    add = parser.add_argument
    add("--output_dir", type=Path, help="folder of predictions.jsonl and summary.json; a run there is continued")
    add("--from_predictions", type=Path, metavar="FILE", help="score saved completions instead: JSONL, no model")
    if data:
        add("--data_file_paths", help="JSONL or parquet files separated by colons, each a split")
        add("--image_folders", help="image folders separated by colons, one for each file or one for all")
        add("--fields", metavar="OURS=THEIRS,...", help="names of the rows' fields: problem=question,solution=answer")
    add_answer_flags(parser, task)
    add("--num_samples", type=int, default=1, metavar="K", help="completions a row; more than one gives pass@k")
    add("--limit", type=int, help="only the first so many rows of each file")
    add("--by", nargs="+", default=[], metavar="FIELD", help="fields of the rows: figures for each of their values")
    add("--view", default=OWN, choices=VIEWS, help=f"what is shown: {VIEW_HELP} (default: own)")
    add("--backend", default="hf", choices=sorted(BATCH_SIZES), help="transformers or vLLM")
    add("--image_workers", type=int, default=2, help="processes that open and process images (vLLM: threads)")
    add_tool_flags(parser)
    add_engine_flags(parser)


def add_tool_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of tools that completions may call."""
    add = parser.add_argument
    add("--tools", nargs="+", metavar="TOOL", help="zoom, or path/to/file.py:function, which completions may call")
    add("--environment", metavar="FILE.py:CLASS", help="environment of each completion, whose methods are tools too")
    add("--max_tool_turns", type=int, default=4, help="most calls that a completion gets an answer to")
    add("--max_tool_images", type=int, default=4, help="most pictures that tools give to a completion")
    add("--max_tool_pixels", type=int, help="largest area of a tool's picture (default: no limit)")
    add("--tool_workers", type=int, help="completions whose calls are answered at once (default: up to 4)")
    add("--tool_seconds", type=float, default=30.0, help="deadline of one call; the model is told of a late one")
    add(
        "--tool_memory_gb",
        type=float,
        default=4.0,
        help="memory of a tool's process beyond what loading its file took",
    )


def add_engine_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the engine and of its folder, which change no answer."""
    add = parser.add_argument
    add("--batch_size", type=int, help="completions generated together (default: 32, with vLLM 256)")
    add("--tensor_parallel_size", type=int, default=1, help="GPUs that hold the model together (vLLM)")
    add("--gpu_memory_utilization", type=float, default=0.9, help="share of the GPU that vLLM takes")
    add("--max_model_len", type=int, help="longest prompt and completion together (vLLM; default: the model's)")
    add("--overwrite", action="store_true", help="drop predictions of another evaluation in the same folder")


def add_answer_flags(parser: argparse.ArgumentParser, task: str | None = None) -> None:
    """Add the flags of the model, the prompt and sampling."""
    add = parser.add_argument
    add("--model", help="hub name, or folder of a checkpoint or of an adapter")
    if task is None:
        add("--task", help=f"for all files, or one for each: {TASK_HELP} (default: the checkpoint's)")
    add("--prompt_mode", choices=MODES, help="think first, answer directly, or both (default: the checkpoint's)")
    template_help = "text around each question, with {question}, or @FILE (default: the checkpoint's)"
    add("--prompt_template", metavar="TEXT", help=template_help)
    add("--reward_method", help="accuracy method for all files, or one for each (default: the task's)")
    add("--max_completion_length", type=int, help=f"tokens (default: the checkpoint's, else {COMPLETION})")
    add("--temperature", type=float, help="default: 0, greedy; with --num_samples over 1: 1.0")
    add("--top_p", type=float, default=1.0)
    add("--top_k", type=int, default=0, help="0: all tokens")
    add("--seed", type=int, default=0, help="of sampling")
    add("--max_pixels", type=int, help="largest image area after resizing (default: the checkpoint's)")
    add("--min_pixels", type=int, help="smallest image area after resizing (default: the checkpoint's)")
    add("--max_anyres_num", type=int, help="most tiles an image (InternVL; default: the checkpoint's)")
    add_video_flags(parser)
    add("--video_cache_gb", type=float, default=0.0, help="disk space for sampled frames of videos; 0: none kept")
    add("--box_space", choices=SPACES, help="of the model's boxes (default: the checkpoint's, else the family's)")
    add("--dtype", default="auto", choices=("auto", "float32", "bfloat16", "float16"))
    add("--device", default="auto", help="auto, cpu, cuda:0, ...")
    add("--attn_implementation", default="sdpa", help="sdpa, flash_attention_2, eager, ...")
    add("--trust_remote_code", action="store_true", help="run code that comes with the model")


def add_video_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of how videos are sampled and shown."""
    add = parser.add_argument
    add("--video_fps", type=float, help="frames a second of a video (default: the checkpoint's, else 2)")
    add("--video_max_frames", type=int, help="most frames of a video (default: the checkpoint's, else 32)")
    add("--video_max_pixels", type=int, help="largest area of a frame (default: the checkpoint's, else 100352)")
    forms = ["auto", "native", "frames"]
    add("--video_form", choices=forms, help="how videos are shown (default: as the checkpoint was trained, else auto)")


def refuse_idle_video_flags(args: argparse.Namespace) -> None:
    """Raises UsageError for flags of videos where a question has none."""
    given = [f"--{name}" for name in sorted(OF_VIDEOS) if getattr(args, name) is not None]
    if given and not args.video:
        raise UsageError(f"{', '.join(given)}: got a value, but no --video, which it acts on; remove it")
