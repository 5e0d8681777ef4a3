"""Flags as dataclasses: this project's, TRL's and transformers'; `open_r1.config.parser` parses and checks them."""

import re
from dataclasses import dataclass, field

from trl import GRPOConfig, ModelConfig, SFTConfig

from open_r1.tasks.find import TASK_HELP

ALL_LINEAR = "all-linear"


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
    freeze_vision_modules: bool = field(
        default=False,
        metadata={"help": "Train the language model only; vision tower and its projector stay as they are."},
    )
    image_workers: int = field(default=4, metadata={"help": "Threads that open images."})
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


@dataclass
class RunArguments:
    """Flags of the watchdog, non-finite steps and resuming; mixed into GRPO's and SFT's TrainingArguments.

    Building these arguments only stores values. `config.hardware.prepare` then fits them to the machine and calls
    `complete`, in which TRL and transformers derive the rest, choose the device and start the process group.
    """

    hang_timeout: float = field(
        default=1800.0,
        metadata={
            "help": "Seconds without progress after which a run writes the stacks of all ranks to OUTPUT_DIR/watchdog "
            "and ends with status 4; 0 for never. It must allow one rollout, evaluation step or save; --ddp_timeout "
            "is raised above it."
        },
    )
    on_nonfinite: str = field(
        default="stop",
        metadata={
            "help": "What NaN or infinity in loss or gradient does: stop ends the run before the weights are touched, "
            "with a checkpoint; skip leaves the step out, and stops after 10 in a row.",
            "choices": ["stop", "skip"],
        },
    )
    resume_from_checkpoint: str | None = field(
        default=None,
        metadata={
            "help": "A folder checkpoint-N, true for the newest whole one in --output_dir, or auto for that one where "
            "there is any."
        },
    )
    resume_unverified: bool = field(
        default=False,
        metadata={
            "help": "Continue also from a checkpoint without manifest.json, of an older version or another program: "
            "whether its files are whole cannot be told."
        },
    )

    resume_changed: str | None = field(
        default=None,
        metadata={
            "help": "Kinds of files that may differ from those of the checkpoint, with commas between: data, images, "
            "rewards, processor, model, deepspeed. What changed is logged, and recorded in checkpoints and model card."
        },
    )

    def __post_init__(self) -> None:
        """Does nothing: `complete` does it later, see the class."""

    def complete(self) -> None:
        """Run the `__post_init__` of TRL and transformers. Raises ValueError for values that contradict each other."""
        super().__post_init__()


@dataclass
class GRPOArguments(RunArguments, GRPOConfig):
    """TRL's GRPOConfig with defaults that fit one machine: bf16 only on CUDA, every step logged."""

    logging_steps: float = field(default=1, metadata={"help": "Log every so many steps."})
    stop_on: list[str] | None = field(
        default=None,
        metadata={
            "help": "Findings that end the run with a checkpoint, the final model and status 3, such as kl_exploding; "
            "all are logged anyway."
        },
    )
    shared_prefix: bool = field(
        default=True,
        metadata={"help": "Compute a group's prompt and images once in policy, old and reference passes; exact."},
    )
    prefill_once: bool = field(
        default=True,
        metadata={"help": "Compute a prompt once in rollouts and share its KV cache; drop rows that ended; exact."},
    )
    skip_zero_advantages: bool = field(
        default=True,
        metadata={"help": "Leave out completions whose advantage is zero, where nothing else moves them; exact."},
    )
    reuse_old_logps: bool = field(
        default=True,
        metadata={"help": "Take old log-probs from the policy pass where the policy has not changed since; exact."},
    )
    reuse_vision_features: bool = field(
        default=True,
        metadata={"help": "Compute a frozen vision tower once per prompt for all passes; exact."},
    )


@dataclass
class VLMConfig(ModelConfig):
    """TRL's ModelConfig; `dtype` follows the engine: bfloat16 weights under DeepSpeed (it keeps float32 masters).

    LoRA has no dropout unless asked for: with it no two passes agree, and prefixes cannot be shared.
    """

    lora_vision: bool = field(
        default=False, metadata={"help": "Adapt vision tower and projector too, not the language model alone."}
    )
    lora_target_modules: list[str] | None = field(
        default=None,
        metadata={
            "help": "Layers by the ends of their names (q_proj v_proj), one regular expression of whole names, or "
            "all-linear, the default."
        },
    )
    lora_dropout: float = field(default=0.0, metadata={"help": "LoRA dropout; above 0 it turns --shared_prefix off."})

    dtype: str | None = field(
        default=None,
        metadata={
            "help": "Weights' type. Default: bfloat16 with --deepspeed and --bf16, else float32.",
            "choices": ["auto", "bfloat16", "float16", "float32"],
        },
    )

    def __post_init__(self) -> None:
        names = self.lora_target_modules
        super().__post_init__()  # makes a string of one name, which peft takes for a pattern of whole names
        if isinstance(names, list) and (len(names) > 1 or re.fullmatch(r"[\w.]+", names[0])):
            self.lora_target_modules = names


def weights_dtype(model: VLMConfig, training: GRPOArguments) -> str:
    """The dtype that weights are loaded in, see `VLMConfig`."""
    return model.dtype or ("bfloat16" if training.deepspeed and training.bf16 else "float32")


@dataclass
class SFTArguments(RunArguments, SFTConfig):
    """TRL's SFTConfig with the defaults of `GRPOArguments`: bf16 only on CUDA, every step logged, nothing cut."""

    logging_steps: float = field(default=1, metadata={"help": "Log every so many steps."})
    max_length: int | None = field(default=None, metadata={"help": "Not used: rows are never cut."})
    remove_unused_columns: bool = field(default=False, metadata={"help": "Not used: rows are numbers."})
    dataset_kwargs: dict | None = field(
        default_factory=lambda: {"skip_prepare_dataset": True}, metadata={"help": "Not used: rows are numbers."}
    )
    padding_free: bool = field(
        default=False, metadata={"help": "Compute the rows of a batch as one sequence, without padding; exact."}
    )
