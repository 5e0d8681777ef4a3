"""The command line of a replay: a run, a step, and the flags of rewards and losses that are tried on it."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import yaml
from accelerate.utils import is_cuda_available

from open_r1.config.idle_flags import REFUSED_GRPO_FLAGS, default_of
from open_r1.config.loss_types import LOSS_TYPES, levels_of
from open_r1.config.model_arguments import VLMConfig
from open_r1.config.parser import known_flags, parse
from open_r1.config.task_arguments import HubArguments, JsonlArguments
from open_r1.config.training_arguments import GRPOArguments
from open_r1.config.validation import USER_REWARD_FLAGS
from open_r1.errors import UsageError
from open_r1.rehearse.flags import as_pairs, as_words, value_of, yaml_words
from open_r1.rewards.custom import user_file
from open_r1.trainer.checkpointing.identity import MAY_DIFFER, SHAPING, names_in

Sections = Mapping[str, Mapping[str, object]]  # of resolved_config.yaml
Words = dict[str, list[str]]  # flag -> its words

GRADING_FLAGS = ("reward_funcs", "reward_method", *USER_REWARD_FLAGS)  # completions are graded anew where one is given
ADVANTAGE_FLAGS = ("reward_weights", "scale_rewards", "multi_objective_aggregation")
LOSS = "advantages and loss"
# Flags of the loss that say nothing of a single step, or that only a run with vLLM has.
NOT_OF_A_STEP = (
    *(
        "sync_ref_model",
        "ref_model_sync_steps",
        "ref_model_mixup_alpha",
        "completion_only_loss",
        "assistant_only_loss",
    ),
    *("use_adaptive_entropy", "entropy_coef_min", "entropy_coef_max", "entropy_coef_delta", "entropy_target"),
    *("label_smoothing_factor", "average_tokens_across_devices"),
)
LOSS_FLAGS = tuple(
    name
    for name in SHAPING[LOSS].split()
    if name not in (*NOT_OF_A_STEP, *ADVANTAGE_FLAGS) and not name.startswith("vllm_")
)
OF_LOSS_TYPE = ("epsilon", "epsilon_high", "importance_sampling_level", "scale_rewards", "delta")  # its publication's
OF_THE_RUN = "the policy, its rows and its prompts are those of the run"
# Group of `SHAPING` or `MAY_DIFFER` -> why its flags are not tried in a replay.
REASONS = {
    **dict.fromkeys(("prompts and rewards", "the policy", "pictures and rows", next(iter(MAY_DIFFER))), OF_THE_RUN),
    "rollouts": "a replay samples nothing: its completions are those of the run",
    "batches": "a replay has the groups and micro-batches of the run",
    "optimizer": "a replay takes no step with its gradient",
    "arithmetic": "a replay computes as the run did",
}
# Flags of the run that a replay needs, beside those of rewards, prompts, policy and loss.
ALSO_OF_RUN = (
    "data_file_paths image_folders dataset_name dataset_config dataset_train_split num_generations num_iterations "
    "per_device_train_batch_size max_completion_length temperature image_workers use_cpu min_pixels max_pixels "
    "max_anyres_num video_fps video_max_frames video_max_pixels video_form video_cache_gb "
    "seed data_seed bf16 fp16 tf32 use_liger_kernel liger_kernel_config gradient_checkpointing "
    "gradient_checkpointing_kwargs shared_prefix skip_zero_advantages reuse_old_logps reuse_vision_features "
    "tokens_per_forward trust_remote_code reward_seconds reward_memory_gb rewards_in_process reward_errors"
)
SET_IN_REPLAY = {
    "eval_strategy": "no",
    "report_to": "none",
    "save_strategy": "no",
    "disable_tqdm": "true",
    "rollout_groups": "0",
    "keep_whole_steps": "0",
    "shuffle_dataset": "false",
    "max_steps": "1",
}


@dataclass(frozen=True)
class Arguments:
    """A run's three dataclasses, as its script parses them."""

    task: JsonlArguments | HubArguments
    training: GRPOArguments
    model: VLMConfig


@dataclass(frozen=True)
class Asked:
    """What a command line asks: the `run`, its `step` (None: the newest), `advantages_only`, where to write, and the
    flags to try."""

    run: Path
    step: int | None
    advantages_only: bool
    json: Path | None
    page: Path | None
    tried: Words

    @property
    def needs_gradient(self) -> bool:
        """Whether a flag acts on the loss alone."""
        return any(name in LOSS_FLAGS for name in self.tried)

    @property
    def grades(self) -> bool:
        """Whether completions are graded anew."""
        return any(name in GRADING_FLAGS for name in self.tried)


def replay_parser() -> argparse.ArgumentParser:
    """The flags of a replay alone."""
    parser = argparse.ArgumentParser(
        prog="python -m open_r1.replay",
        description="Computes rewards, advantages and, with a checkpoint, losses and gradients of a saved step of a "
        "run again, under the flags of rewards and losses that are given, without generating. Of a run's flags it "
        f"takes {', '.join(f'--{name}' for name in (*GRADING_FLAGS, *ADVANTAGE_FLAGS, *LOSS_FLAGS))}.",
        allow_abbrev=False,
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="--output_dir of a run")
    parser.add_argument("--step", type=int, help="optimizer step as in metrics.jsonl (default: the newest kept)")
    parser.add_argument("--advantages_only", action="store_true", help="load no model: rewards and advantages alone")
    parser.add_argument("--json", type=Path, help="file for all figures and completions")
    parser.add_argument("--page", type=Path, help="HTML page (default: replay-step-N.html in the run's folder)")
    return parser


def parse_replay(argv: Sequence[str]) -> Asked:
    """What a command line asks. Raises UsageError for a flag of a run that is none, or that cannot act in a replay."""
    own, words = replay_parser().parse_known_args(argv)
    tried = as_pairs(words)
    for name in tried:
        refuse_not_replayed(name, value_of(tried, name))
    asked = Asked(own.run, own.step, own.advantages_only, own.json, own.page, tried)
    if own.advantages_only and asked.needs_gradient:
        name = next(name for name in tried if name in LOSS_FLAGS)
        raise UsageError(
            f"--advantages_only: got --{name} beside it, which acts on the loss alone; leave one of the two out"
        )
    return asked


def refuse_not_replayed(name: str, value: str) -> None:
    """Raises UsageError for a flag that is none of a run, or that changes nothing of a step that was sampled."""
    if name in (*GRADING_FLAGS, *ADVANTAGE_FLAGS, *LOSS_FLAGS):
        return
    known = known_flags((JsonlArguments, GRPOArguments, VLMConfig), REFUSED_GRPO_FLAGS)
    if not (known.accepts(name) or name in names_in(MAY_DIFFER) | names_in(SHAPING)):
        raise UsageError(known.complaint(f"--{name or 'words'}", name, value))
    group = next((group for group, names in (SHAPING | MAY_DIFFER).items() if name in names.split()), "")
    reason = REASONS.get(group, "it changes nothing of a single step")
    raise UsageError(f"--{name}: got {value or 'true'}, but {reason}; leave it out, or start a run with it")


# ------------------------------------------------------------------------------------------------------------ settings


def read_sections(run: Path) -> Sections:
    """The sections `task`, `training` and `model` of a run's configuration."""
    return yaml.safe_load((run / "resolved_config.yaml").read_text(encoding="utf-8"))


def needed_flags(sections: Sections) -> Words:
    """The flags of a run that a replay needs and that are not at their default, as words."""
    data_class = HubArguments if "dataset_name" in sections["task"] else JsonlArguments
    classes = {"task": data_class, "training": GRPOArguments, "model": VLMConfig}
    known = known_flags(tuple(classes.values()), REFUSED_GRPO_FLAGS)
    kept = set(ALSO_OF_RUN.split()) | names_in(
        {name: SHAPING[name] for name in ("prompts and rewards", "the policy", LOSS)}
    )
    filled = filled_by_loss_type(sections["training"])
    return {
        field.name: yaml_words(value)
        for section, cls in classes.items()
        for field in fields(cls)
        if field.name in kept
        and known.accepts(field.name)
        and not field.name.startswith(("vllm_", "val_split"))
        and (value := sections[section].get(field.name)) is not None
        and value not in (default_of(field), filled.get(field.name))
    }


def filled_by_loss_type(training: Mapping[str, object]) -> dict[str, object]:
    """Flag -> the value that its loss type gives a run that leaves it out (`config.loss_types`)."""
    loss, level = str(training["loss_type"]), str(training["importance_sampling_level"])
    default = LOSS_TYPES[loss, level]
    names = ("epsilon", "epsilon_high", "scale_rewards")
    return {name: getattr(default, name) for name in names} | {"importance_sampling_level": levels_of(loss)[0]}


def settings_flags(sections: Sections, tried: Words) -> Words:
    """The flags of the run with those that are tried in their place. A loss type comes with its publication's clip,
    level and scale, other rewards with weights of their own, unless they are given."""
    flags, training = needed_flags(sections), sections["training"]
    left_out: list[str] = []
    if "loss_type" in tried:
        left_out += OF_LOSS_TYPE
    if "reward_funcs" in tried:
        left_out += ["reward_weights"]
        left_out += [] if any(user_file(name)[0] for name in tried["reward_funcs"]) else USER_REWARD_FLAGS
    flags = {name: words for name, words in flags.items() if name not in left_out}
    if training.get("deepspeed") and training.get("bf16") and not sections["model"].get("dtype"):
        flags |= {"dtype": ["bfloat16"], "bf16": ["false"]}  # as `weights_dtype` chooses under DeepSpeed
    if not is_cuda_available():
        flags = {name: words for name, words in flags.items() if name not in ("bf16", "fp16", "tf32")}
        flags["use_cpu"] = ["true"]
    return flags | tried


def parsed_settings(sections: Sections, tried: Words, micro_batches: int, parts: int, folder: str) -> Arguments:
    """The arguments of one process that replays `micro_batches`, from generations that are cut into `parts`, with a
    `folder` for outputs. Exits with status 2, as a run's script does, on what cannot act."""
    is_hub = "dataset_name" in sections["task"]
    flags = settings_flags(sections, tried) | {name: [value] for name, value in SET_IN_REPLAY.items()}
    flags |= {"gradient_accumulation_steps": [str(micro_batches)], "steps_per_generation": [str(parts)]}
    flags["output_dir"] = [folder]
    task, training, model = parse(HubArguments if is_hub else JsonlArguments, as_words(flags))
    if not is_hub:
        task.val_split_ratio = sections["task"].get("val_split_ratio") or 0.0
    return Arguments(task, training, model)
