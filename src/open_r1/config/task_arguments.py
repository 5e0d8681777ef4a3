"""Flags of tasks, rewards, pictures and data; `open_r1.config.parser` parses and checks them."""

from dataclasses import dataclass, field

from open_r1.data.geometry.coordinates import SPACES
from open_r1.data.video.types import FrameSampling
from open_r1.tasks.find import TASK_HELP


@dataclass
class TaskArguments:
    """Flags of prompts, rewards and images; shared by all training scripts."""

    task_type: str = field(
        default="default",
        metadata={"help": f"Task that gives prompt, rewards and accuracy method: {TASK_HELP}."},
    )
    prompt_mode: str = field(
        default="think",
        metadata={"help": "Ask to think first, or for the answer directly.", "choices": ["think", "direct"]},
    )
    prompt_template: str | None = field(
        default=None,
        metadata={
            "help": "Text around each question in place of the task's prompt, with {question} once; or @prompt.txt, a "
            "file that holds it."
        },
    )
    reward_funcs: list[str] | None = field(
        default=None,
        metadata={"help": "Rewards by name, or path/to/file.py:function. Default: those of the task."},
    )
    reward_seconds: float = field(
        default=30.0,
        metadata={
            "help": "Deadline of one call of your own reward, of a row or in TRL's form a batch: what exceeds it, or "
            "ends its process, scores the function's attribute `minimum`, else 0. Ours have $OPEN_R1_GRADE_SECONDS."
        },
    )
    reward_memory_gb: float = field(
        default=4.0,
        metadata={"help": "Memory that a process of your own reward may take beyond what loading its file took."},
    )
    rewards_in_process: bool = field(
        default=False,
        metadata={
            "help": "Compute your own rewards in the training process, for those that need its GPU or its state: no "
            "deadline, no memory limit, nothing but the run's watchdog bounds them."
        },
    )
    reward_errors: str = field(
        default="stop",
        metadata={
            "help": "Where your own reward raises: stop the run with the row's place and the traceback, or skip: None "
            "for that row, counted in grading/errors.",
            "choices": ["stop", "skip"],
        },
    )
    reward_method: str | None = field(
        default=None,
        metadata={
            "help": "Accuracy method for all rows, or one per file separated by colons; a row's own "
            "accu_reward_method wins. Default: the task's."
        },
    )
    max_pixels: int | None = field(
        default=None,
        metadata={"help": "Largest image area in pixels after resizing. Default: the processor's own."},
    )
    min_pixels: int | None = field(
        default=None,
        metadata={"help": "Smallest image area in pixels after resizing. Default: the processor's own."},
    )
    max_anyres_num: int | None = field(
        default=None,
        metadata={
            "help": "Most tiles per image, for models that cut images into tiles (InternVL). Refused for others."
        },
    )
    max_prompt_length: int | None = field(
        default=None,
        metadata={
            "help": "Longest prompt in tokens, images included. Longer rows are refused before training, never cut."
        },
    )
    box_space: str | None = field(
        default=None,
        metadata={
            "help": "Space of the boxes and points that the model writes: pixels of the original or of the resized "
            "picture, 0 to 1000 (999, 1) of its sides, or yx_1000, which is [y1, x1, y2, x2] in 0 to 1000. "
            "Default: its family's (python -m open_r1.families).",
            "choices": list(SPACES),
        },
    )
    freeze_vision_modules: bool = field(
        default=False,
        metadata={"help": "Train the language model only; vision tower and its projector stay as they are."},
    )
    video_fps: float = field(
        default=FrameSampling.fps,
        metadata={"help": "Frames a second that are shown of a video; a row's own fps or nframes wins."},
    )
    video_max_frames: int = field(
        default=FrameSampling.max_frames,
        metadata={"help": "Most frames of a video: from a longer one as many, evenly spaced. An even number."},
    )
    video_max_pixels: int = field(
        default=FrameSampling.max_pixels,
        metadata={"help": "Largest area in pixels of a video's frame; larger ones are scaled down."},
    )
    video_form: str = field(
        default="auto",
        metadata={
            "help": "native: a video as the model's own processor takes it; frames: its frames as pictures, each "
            "behind its time, for any model; auto: native where processor and chat template take videos, frames for "
            "families that were taught these, else refused.",
            "choices": ["auto", "native", "frames"],
        },
    )
    video_cache_gb: float = field(
        default=0.0,
        metadata={
            "help": "Disk space for the sampled frames of videos, which later epochs and runs then read and do not "
            "decode, below $OPEN_R1_CACHE or ~/.cache/open_r1; 0 keeps none."
        },
    )
    image_workers: int = field(
        default=4, metadata={"help": "Threads that open images, and processes that decode videos."}
    )
    rollout_groups: int = field(
        default=2,
        metadata={"help": "Groups of each generation written to rollouts.jsonl, with their images; 0 for none."},
    )
    rollouts_to_keep: int = field(
        default=10_000,
        metadata={
            "help": "Completions that stay in rollouts.jsonl: the newest, and older ones evenly spaced over training."
        },
    )


@dataclass
class JsonlArguments(TaskArguments):
    """Flags of `grpo_jsonl.py`, `grpo_rec.py` and `sft_jsonl.py`: data in JSONL and parquet files."""

    data_file_paths: str | None = field(
        default=None,
        metadata={"help": "JSONL or parquet files, separated by colons (write \\: for a colon in a name)."},
    )
    image_folders: str | None = field(
        default=None, metadata={"help": "Image folders, separated by colons: one per file, or one for all."}
    )
    fields: str | None = field(
        default=None, metadata={"help": "Names of the rows' fields for ours: problem=question,solution=answer."}
    )
    val_split_ratio: float = field(
        default=0.0, metadata={"help": "Share of the rows held out for evaluation (drawn with --data_seed)."}
    )


@dataclass
class HubArguments(TaskArguments):
    """Flags of `grpo.py`: a dataset with columns image or images, problem, solution, or those that `columns` names."""

    dataset_name: str | None = field(
        default=None, metadata={"help": "Hub name or local folder of the dataset, or a parquet or JSONL file."}
    )
    columns: str | None = field(
        default=None,
        metadata={"help": "Names of its columns for ours: problem=question,solution=answer,images=image."},
    )
    image_folders: str | None = field(
        default=None, metadata={"help": "Folder of pictures that rows name by path (default: the dataset's own)."}
    )
    dataset_config: str | None = field(default=None, metadata={"help": "Configuration of the dataset."})
    dataset_train_split: str = field(default="train", metadata={"help": "Split to train on."})
    dataset_test_split: str | None = field(default=None, metadata={"help": "Split to evaluate on during training."})
