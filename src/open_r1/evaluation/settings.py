"""The settings of an evaluation: the values of its flags, with the checkpoint's own as defaults."""

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from open_r1.config.video_flags import BY_DEFAULT_FORM, check_videos
from open_r1.data.jsonl_dataset import per_file
from open_r1.data.media_views import OWN
from open_r1.data.paths import data_files, split_paths
from open_r1.data.video.types import FrameSampling
from open_r1.errors import UsageError
from open_r1.report.next_steps import TOOL_FLAGS
from open_r1.rewards.custom import user_file
from open_r1.rewards.registry import prepare_methods
from open_r1.tasks.find import find_task, read_template
from open_r1.tasks.recipe import Recipe, read_recipe
from open_r1.tasks.task import Task
from open_r1.tools.limits import ToolLimits, check_bounds

MODES = {"think": ("think",), "direct": ("direct",), "both": ("think", "direct")}
COMPLETION = 2048  # tokens, where the checkpoint has no recipe
BATCH_SIZES = {"hf": 32, "vllm": 256}  # completions generated together
# Fields that change no answer and no score. All others do, so predictions with other values are not continued.
WITHOUT_EFFECT = {"output_dir", "data_file_paths", "image_folders", "limit", "by", "batch_size", "device", "overwrite"}
WITHOUT_EFFECT |= {"image_workers", "tensor_parallel_size", "gpu_memory_utilization", "max_model_len", "tool_workers"}
WITHOUT_EFFECT |= {"video_cache_gb"}
# Fields that a survey alone sets; recorded where they are not their default: evaluations made without them go on.
OF_SURVEYS = {"min_p", "repetition_penalty", "generation_kwargs", "chat_template_kwargs"}

# Fields of evaluations with tools, with videos, or with other pictures than the rows' own, recorded likewise.
OF_TOOLS, OF_VIDEOS = set(TOOL_FLAGS), {"video_fps", "video_max_frames", "video_max_pixels", "video_form"}
RECORDED_IF_SET = OF_SURVEYS | OF_TOOLS | OF_VIDEOS | {"view"}


@dataclass(frozen=True)
class EvaluationSettings:
    """The settings of one evaluation; `tasks` and `methods` have one entry for each data file."""

    model: str
    data_file_paths: list[str]
    image_folders: str | None
    output_dir: Path
    tasks: list[str]
    methods: list[str]
    prompt_mode: str
    max_completion_length: int
    prompt_template: str | None = None
    num_samples: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float | None = None
    repetition_penalty: float = 1.0
    generation_kwargs: dict[str, Any] = field(default_factory=dict)
    chat_template_kwargs: dict[str, Any] = field(default_factory=dict)
    view: str = OWN
    tools: list[str] | None = None
    environment: str | None = None
    max_tool_turns: int = 4
    max_tool_images: int = 4
    max_tool_pixels: int | None = None
    tool_seconds: float = 30.0
    tool_memory_gb: float = 4.0
    tool_workers: int | None = None
    seed: int = 0
    max_pixels: int | None = None
    min_pixels: int | None = None
    max_anyres_num: int | None = None
    video_fps: float = FrameSampling.fps
    video_max_frames: int = FrameSampling.max_frames
    video_max_pixels: int = FrameSampling.max_pixels
    video_form: str = BY_DEFAULT_FORM
    video_cache_gb: float = 0.0
    box_space: str | None = None
    fields: str | None = None
    limit: int | None = None
    by: list[str] = field(default_factory=list)
    backend: str = "hf"
    batch_size: int = 32
    dtype: str = "auto"
    device: str = "auto"
    attn_implementation: str = "sdpa"
    trust_remote_code: bool = False
    image_workers: int = 2
    tensor_parallel_size: int = 1
    gpu_memory_utilization: float = 0.9
    max_model_len: int | None = None
    overwrite: bool = False

    @property
    def modes(self) -> tuple[str, ...]:
        return MODES[self.prompt_mode]

    @property
    def has_tools(self) -> bool:
        """Whether completions may call tools."""
        return bool(self.tools or self.environment)

    def answer_settings(self) -> dict[str, Any]:
        """The settings that change an answer or its score: predictions with other values are not continued."""
        plain = {f.name: f.default if f.default is not MISSING else {} for f in fields(self)}
        values = {name: value for name, value in asdict(self).items() if name not in WITHOUT_EFFECT}
        recorded = {n: v for n, v in values.items() if n not in RECORDED_IF_SET or v != plain[n]}
        return json.loads(json.dumps(recorded))


def settings_of(args: argparse.Namespace) -> EvaluationSettings:
    """The settings of these flags, with the checkpoint's own values (`recipe.json`) as defaults.

    Raises UsageError for flags that cannot act, ValueError for an unknown name.
    """
    for name in ("model", "data_file_paths", "output_dir"):
        if not getattr(args, name):
            raise UsageError(f"--{name}: got nothing, expected a value; see --help")
    recipe, paths = read_recipe(args.model), data_files(args.data_file_paths)
    if duplicates := {path for path in paths if paths.count(path) > 1}:
        raise UsageError(f"--data_file_paths: got {duplicates.pop()} twice, expected each file once; remove one")
    tasks = per_file(task_words(args, recipe), paths, "--task")
    for task in tasks:
        find_task(task, flag="--task")
    methods = methods_of(args, recipe, paths, tasks)
    prepare_methods(methods)
    flags = {f for f in EvaluationSettings.__dataclass_fields__ if hasattr(args, f)}
    settings = EvaluationSettings(
        **{name: getattr(args, name) for name in flags - {"data_file_paths", "temperature", "batch_size"}}
        | {
            "data_file_paths": paths,
            "tasks": tasks,
            "methods": methods,
            "prompt_template": template_of(args, recipe),
            "prompt_mode": args.prompt_mode or recipe.prompt_mode or "think",
            "max_completion_length": args.max_completion_length or recipe.max_completion_length or COMPLETION,
            "max_anyres_num": args.max_anyres_num or recipe.max_anyres_num,
            **video_settings(args, recipe),
            "box_space": args.box_space or recipe.box_space,
            "temperature": args.temperature if args.temperature is not None else float(args.num_samples > 1),
            "batch_size": args.batch_size or BATCH_SIZES[args.backend],
        }
    )
    check_settings(settings)
    return settings


def video_settings(args: argparse.Namespace, recipe: Recipe) -> dict[str, Any]:
    """How videos are sampled: by the flags, else as the checkpoint was trained, else by default."""
    plain = FrameSampling()
    return {
        "video_fps": _first(args.video_fps, recipe.video_fps, plain.fps),
        "video_max_frames": _first(args.video_max_frames, recipe.video_max_frames, plain.max_frames),
        "video_max_pixels": _first(args.video_max_pixels, recipe.video_max_pixels, plain.max_pixels),
        "video_form": _first(args.video_form, recipe.video_form, BY_DEFAULT_FORM),
    }


def _first(*values: Any) -> Any:
    return next(value for value in values if value is not None)


def task_words(args: argparse.Namespace, recipe: Recipe) -> str:
    """The words of --task, else the checkpoint's task, with the colons of `path/to/task.py:TASK` marked as its own.

    Raises UsageError for a checkpoint that names a file: the code that it names runs only where the user names it.
    """
    if not args.task and recipe.task_type and user_file(recipe.task_type)[0]:
        raise UsageError(
            f"--task: got nothing, and {args.model} was trained with {recipe.task_type}, a task in a file, which runs "
            f"code; expected it by name; add --task {recipe.task_type}"
        )
    return re.sub(r"(\.py):(?=[A-Za-z_])", r"\1\:", args.task or recipe.task_type or "default")


def template_of(args: argparse.Namespace, recipe: Recipe) -> str | None:
    """--prompt_template; else the checkpoint's, where --task does not ask for another prompt."""
    if getattr(args, "prompt_template", None) is not None:
        return read_template(args.prompt_template)
    return None if args.task and args.task != recipe.task_type else recipe.prompt_template


def methods_of(args: argparse.Namespace, recipe: Recipe, paths: list[str], tasks: Sequence[str]) -> list[str]:
    """--reward_method; else the checkpoint's, where it was one for all rows and --task does not ask for another; else
    the tasks'."""
    if args.reward_method:
        return per_file(args.reward_method, paths, "--reward_method")
    taught = set(split_paths(recipe.reward_method)) if recipe.reward_method and not args.task else set()
    return [*taught] * len(paths) if len(taught) == 1 else [find_task(task).method for task in tasks]


def check_settings(settings: EvaluationSettings) -> None:
    """Raises UsageError for values that cannot act."""
    if settings.num_samples < 1 or (settings.num_samples > 1 and settings.temperature <= 0):
        raise UsageError(
            f"--num_samples: got {settings.num_samples} at --temperature {settings.temperature}, expected at least 1, "
            "and a temperature above 0 for several: greedy answers are all the same"
        )
    for name in ("max_completion_length", "batch_size", "limit", "image_workers"):
        value = getattr(settings, name)
        if value is not None and value < 1:
            raise UsageError(f"--{name}: got {value}, expected at least 1")
    check_videos(settings)
    limits = ToolLimits(settings.max_tool_turns, settings.max_tool_images, settings.max_tool_pixels)
    check_bounds(limits, settings.tool_seconds, settings.tool_memory_gb, settings.tool_workers)
    idle = [name for name in TOOL_FLAGS if getattr(settings, name) != getattr(EvaluationSettings, name)]
    if idle and not settings.has_tools:
        raise UsageError(f"--{idle[0]}: acts only with --tools or --environment; add one, or remove it")
    if settings.backend != "vllm" and (settings.tensor_parallel_size > 1 or settings.max_model_len):
        raise UsageError("--tensor_parallel_size, --max_model_len: act with --backend vllm only; remove them")


def task_of_files(settings: EvaluationSettings) -> dict[str, Task]:
    """The task of each data file."""
    return {
        path: find_task(task, settings.prompt_template)
        for path, task in zip(settings.data_file_paths, settings.tasks, strict=True)
    }


def instructions(settings: EvaluationSettings) -> dict[str, str]:
    """The text that is put around a question: "MODE SPLIT" -> instruction."""
    files = list(zip(split_names(settings.data_file_paths), settings.tasks, strict=True))
    return {
        f"{mode} {split}": find_task(task, settings.prompt_template).prompts[mode]
        for mode in settings.modes
        for split, task in files
    }


def split_names(paths: Sequence[str]) -> list[str]:
    """The name of each file's split: its stem, or, where two files have the same, its path from the first folder on
    that all of these differ by, so that it does not depend on where the data lie.

    >>> split_names(["data/val.jsonl", "data/testA.jsonl"]), split_names(["/d/a/val.jsonl", "/d/b/val.jsonl"])
    (['val', 'testA'], ['a/val.jsonl', 'b/val.jsonl'])
    """
    stems = [Path(path).stem for path in paths]
    alike = [[other for other, name in zip(paths, stems, strict=True) if name == stem] for stem in stems]
    pairs = zip(stems, paths, alike, strict=True)
    return [stem if len(others) == 1 else _own_end(path, others) for stem, path, others in pairs]


def _own_end(path: str, others: Sequence[str]) -> str:
    """The end of a path by which all of these differ; the whole path where none does."""
    depth = max(len(Path(other).parts) for other in others)
    ends = ([str(Path(*Path(other).parts[-count:])) for other in others] for count in range(1, depth))
    found = next((one for one in ends if len({*one}) == len(others)), others)
    return found[others.index(path)]
