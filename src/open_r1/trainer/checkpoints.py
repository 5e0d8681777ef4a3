"""Which checkpoint a run continues from, and whether it is fit for it; decided before a model is loaded.

A `checkpoint-N` can be continued from when every file of the state of a run is there (`missing`), and when the flags
and the data that shape a run are those it was saved under (`differences`). transformers checks neither: it goes on
without optimizer, scheduler or random state where they are absent, and under other flags. All nodes share the folder.
"""

import hashlib
import json
import logging
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from open_r1.arguments import TaskArguments, VLMConfig
from open_r1.errors import UsageError, shorten
from open_r1.records import Record

logger = logging.getLogger(__name__)

# {"engine", "ranks", "zero_stage", "own_scheduler": whether DeepSpeed keeps it, "facts"}, written by rank 0; beside it
# lies each rank's run_state_N.pt.
STATE = "run_state.json"
REFERENCE = "reference.safetensors"  # weights of a reference model that follows the policy (--sync_ref_model)

# Flags that change what a run computes. Others (where it saves and logs, how it evaluates, how long it goes on, what
# is exact either way) may differ when it continues.
SHAPING: dict[str, str] = {
    "task": "task_type prompt_mode reward_funcs reward_method val_split_ratio min_pixels max_pixels max_anyres_num "
    "freeze_vision_modules",
    "training": "seed data_seed shuffle_dataset per_device_train_batch_size gradient_accumulation_steps "
    "steps_per_generation num_iterations num_generations max_completion_length temperature top_p top_k min_p "
    "repetition_penalty use_vllm beta loss_type epsilon epsilon_high delta importance_sampling_level scale_rewards "
    "reward_weights mask_truncated_completions top_entropy_quantile entropy_coef use_adaptive_entropy sync_ref_model "
    "ref_model_sync_steps ref_model_mixup_alpha optim learning_rate lr_scheduler_type warmup_steps weight_decay "
    "adam_beta1 adam_beta2 adam_epsilon max_grad_norm bf16 fp16 padding_free",
    "model": "model_name_or_path dtype use_peft lora_r lora_alpha lora_dropout lora_vision lora_target_modules",
}

# Engine -> files it writes beside `COMMON`, given the folder and the number of ranks; "a|b" is one of the two.
ENGINES: dict[str, Callable[[Path, int], list[str]]] = {
    "plain": lambda folder, ranks: [*weight_files(folder), "optimizer.pt", "scheduler.pt"],
    "deepspeed": lambda folder, ranks: deepspeed_files(folder, ranks),
    "fsdp": lambda folder, ranks: ["pytorch_model_fsdp*", "optimizer.bin|optimizer_0/*", "scheduler.pt"],
}


@dataclass(frozen=True)
class Resume:
    """The checkpoint a run continues from, None for a new run; and what shapes the run, to be saved with the next."""

    checkpoint: Path | None
    facts: dict[str, Any]


def plan_resume(
    records: Sequence[Record], task: TaskArguments, training: TrainingArguments, model_args: VLMConfig
) -> Resume:
    """What `--resume_from_checkpoint` asks for: `true` for the newest complete checkpoint-N in --output_dir, a folder,
    or nothing.

    Raises UsageError, without loading a model, where there is no such folder, where it is incomplete, where flags or
    data differ from those it was saved under, and for flags that no checkpoint can be exact with.
    """
    facts = facts_of(records, task, training, model_args)
    fsdp = bool(training.fsdp) or os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true"
    if fsdp and getattr(training, "sync_ref_model", False):
        raise UsageError(
            "--sync_ref_model: got true under FSDP, expected false: checkpoints would not hold the reference model; "
            "use DeepSpeed, or leave it out"
        )
    asked = str(training.resume_from_checkpoint or "false")
    if asked.lower() == "false":
        return Resume(None, facts)
    if training.ignore_data_skip:
        raise UsageError(
            "--ignore_data_skip: got true with --resume_from_checkpoint, expected false: rows would be repeated"
        )
    folder = newest(Path(training.output_dir)) if asked.lower() == "true" else named(Path(asked))
    refuse_differences(folder, facts)
    return Resume(folder, facts)


def facts_of(
    records: Sequence[Record], task: TaskArguments, training: TrainingArguments, model_args: VLMConfig
) -> dict[str, Any]:
    """Flag or property -> value, as JSON holds it."""
    given = {"task": task, "training": training, "model": model_args}
    flags = {
        f"--{name}": getattr(given[part], name)
        for part, names in SHAPING.items()
        for name in names.split()
        if hasattr(given[part], name)
    }
    plugin = training.deepspeed_plugin
    run = {
        "ranks": training.world_size,
        "ZeRO stage": plugin.zero_stage if plugin else None,
        "rows": len(records),
        "sha256 of the data": digest(records),
    }
    return json.loads(json.dumps(run | flags, default=str))


def digest(records: Any) -> str:
    """sha256 of the JSONL files' bytes, or of a hub dataset's texts."""
    hashed = hashlib.sha256()
    for source in getattr(records, "sources", ()):
        with open(source.path, "rb") as file:
            hashed.update(hashlib.file_digest(file, "sha256").digest())
    if hasattr(records, "dataset"):
        for batch in records.dataset.select_columns(["problem", "solution"]).iter(1000):
            hashed.update(repr(batch).encode(errors="surrogatepass"))
    return hashed.hexdigest()


# ------------------------------------------------------------------------------------------------------------- folders


def checkpoints_in(folder: Path) -> list[Path]:
    """`checkpoint-N` below a folder, the newest first."""
    found = [path for path in folder.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    return sorted((path for path in found if path.is_dir()), key=lambda path: -int(path.name.split("-")[1]))


def newest(output_dir: Path) -> Path:
    """The newest complete checkpoint; incomplete ones that are newer are named in a warning."""
    found = checkpoints_in(output_dir)
    lacking = {path: missing(path) for path in found}
    for path in found:
        if not lacking[path]:
            return path
        logger.warning("%s is left out: it lacks %s", path, ", ".join(lacking[path]))
    if found:
        raise UsageError(incomplete("true", found[0], lacking[found[0]], found))
    raise UsageError(
        f"--resume_from_checkpoint: got true, expected a folder checkpoint-N in {output_dir}, found none; correct "
        "--output_dir, or leave --resume_from_checkpoint out to start anew"
    )


def named(folder: Path) -> Path:
    """A folder that the user named."""
    beside = checkpoints_in(folder if folder.is_dir() else folder.parent)
    if not folder.is_dir() or (beside and not (folder / "trainer_state.json").exists()):
        there = f"; there are {', '.join(path.name for path in beside)} in {beside[0].parent}" if beside else ""
        raise UsageError(
            f"--resume_from_checkpoint: got {folder}, expected a folder checkpoint-N{there}; correct the path, or "
            "write true for the newest in --output_dir"
        )
    if lacking := missing(folder):
        raise UsageError(incomplete(str(folder), folder, lacking, checkpoints_in(folder.parent)))
    return folder


def incomplete(asked: str, folder: Path, lacking: list[str], beside: list[Path]) -> str:
    complete = [path.name for path in beside if not missing(path)]
    others = f"choose a complete one ({', '.join(complete)})" if complete else "there is no complete one beside it"
    return (
        f"--resume_from_checkpoint: got {asked}, expected a checkpoint with the whole state of a run, but {folder} "
        f"lacks {', '.join(lacking)}: it was made with --save_only_model true, by a save that broke off, or by "
        f"another program; {others}, or start a new run from its weights: --model_name_or_path {folder} without "
        "--resume_from_checkpoint"
    )


def missing(folder: Path) -> list[str]:
    """What a checkpoint lacks to be continued from; empty where it is complete."""
    state = read_state(folder)
    facts, ranks = state.get("facts", {}), state.get("ranks", 1)
    engine = state.get("engine", "deepspeed" if (folder / "latest").exists() else "plain")
    wanted = ["trainer_state.json", *ENGINES[engine](folder, ranks)]
    wanted += ["rng_state.pth"] if ranks == 1 else [f"rng_state_{rank}.pth" for rank in range(ranks)]
    wanted += [STATE, *(f"run_state_{rank}.pt" for rank in range(ranks))]
    wanted += [REFERENCE] if facts.get("--sync_ref_model") else []
    wanted += ["entropy_ctrl_state.json"] if facts.get("--use_adaptive_entropy") else []
    return [name for name in wanted if not any(any(folder.glob(one)) for one in name.split("|"))]


def read_state(folder: Path) -> dict[str, Any]:
    """`run_state.json`; empty where there is none, or only half of one."""
    try:
        return json.loads((folder / STATE).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}


def weight_files(folder: Path) -> list[str]:
    index = folder / "model.safetensors.index.json"
    if index.exists():
        return sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    return ["model.safetensors|adapter_model.safetensors|pytorch_model*.bin"]


def deepspeed_files(folder: Path, ranks: int) -> list[str]:
    """Of ZeRO 1 to 3: a part of the optimizer for each rank, and of the weights too under ZeRO-3."""
    latest = folder / "latest"
    tag = latest.read_text(encoding="utf-8").strip() if latest.exists() else "global_step*"
    state = read_state(folder)
    stage = state.get("zero_stage")
    weights = [f"{tag}/*zero_pp_rank_{rank}_mp_rank_00_model_states.pt" for rank in range(ranks)]
    parts = [f"{tag}/*zero_pp_rank_{rank}_mp_rank_00_optim_states.pt" for rank in range(ranks)]
    whole = [f"{tag}/mp_rank_00_model_states.pt"]
    scheduler = [] if state.get("own_scheduler") else ["scheduler.pt"]
    return ["latest", *scheduler, *(weights if stage == 3 else whole), *(parts if stage != 0 else [])]


# --------------------------------------------------------------------------------------------------------- differences


def differences(saved: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """
    >>> differences({"--seed": 1, "rows": 64}, {"--seed": 2, "rows": 64})
    ['--seed: 1 in the checkpoint, 2 in this run']
    """
    return [
        f"{name}: {shorten(saved[name])} in the checkpoint, {shorten(now[name])} in this run"
        for name in saved
        if name in now and saved[name] != now[name]
    ]


def refuse_differences(folder: Path, facts: dict[str, Any]) -> None:
    found = differences(read_state(folder)["facts"], facts)
    if found:
        raise UsageError(
            f"--resume_from_checkpoint: got {folder}, expected the flags and data that it was saved under, so that "
            "the run goes on exactly:\n  " + "\n  ".join(found) + "\nset them back, or start a new run from its "
            f"weights: --model_name_or_path {folder} without --resume_from_checkpoint"
        )
