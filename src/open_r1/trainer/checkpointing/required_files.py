"""The files that a checkpoint needs for an exact resume, by the engine that wrote it. (torch-free)"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Written by rank 0, beside each rank's run_state_N.pt: {"engine", "ranks", "zero_stage", "own_scheduler": whether
# DeepSpeed keeps the scheduler, "facts"}.
STATE = "run_state.json"
REFERENCE = "reference.safetensors"  # weights of a reference model that follows the policy (--sync_ref_model)

# Engine -> patterns of the files it writes, given the folder and the number of ranks; "a|b" is one of the two.
ENGINE_FILES: dict[str, Callable[[Path, int], list[str]]] = {
    "plain": lambda folder, ranks: [*weight_files(folder), "optimizer.pt", "scheduler.pt"],
    "deepspeed": lambda folder, ranks: deepspeed_files(folder, ranks),
    "fsdp": lambda folder, ranks: ["pytorch_model_fsdp*", "optimizer.bin|optimizer_0/*", "scheduler.pt"],
}


def missing(folder: Path) -> list[str]:
    """The files that a checkpoint lacks for an exact resume; empty where it is complete."""
    state = read_state(folder)
    facts, ranks = state.get("facts", {}), state.get("ranks", 1)
    engine = state.get("engine", "deepspeed" if (folder / "latest").exists() else "plain")
    names = ["trainer_state.json", *ENGINE_FILES.get(engine, ENGINE_FILES["plain"])(folder, ranks)]
    names += ["rng_state.pth"] if ranks == 1 else [f"rng_state_{rank}.pth" for rank in range(ranks)]
    names += [STATE, *(f"run_state_{rank}.pt" for rank in range(ranks))]
    names += [REFERENCE] if facts.get("--sync_ref_model") else []
    names += ["entropy_ctrl_state.json"] if facts.get("--use_adaptive_entropy") else []
    return [name for name in names if not any(any(folder.glob(pattern)) for pattern in name.split("|"))]


def read_state(folder: Path) -> dict[str, Any]:
    """The content of `run_state.json`; empty where it is missing or damaged."""
    return read_object(folder / STATE)


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty where the file is missing, damaged or holds anything else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def weight_files(folder: Path) -> list[str]:
    """Patterns of the model's weight files: the shards of its index, else one file."""
    shards = read_object(folder / "model.safetensors.index.json").get("weight_map")
    if isinstance(shards, dict):
        return sorted(set(map(str, shards.values())))
    return ["model.safetensors|adapter_model.safetensors|pytorch_model*.bin"]


def deepspeed_files(folder: Path, ranks: int) -> list[str]:
    """Patterns of DeepSpeed's files: a part of the optimizer a rank (ZeRO 1 to 3), of the weights too (ZeRO 3)."""
    latest = folder / "latest"
    tag = latest.read_text(encoding="utf-8").strip() if latest.exists() else "global_step*"
    state = read_state(folder)
    stage = state.get("zero_stage")
    weights = [f"{tag}/*zero_pp_rank_{rank}_mp_rank_00_model_states.pt" for rank in range(ranks)]
    parts = [f"{tag}/*zero_pp_rank_{rank}_mp_rank_00_optim_states.pt" for rank in range(ranks)]
    whole = [f"{tag}/mp_rank_00_model_states.pt"]
    scheduler = [] if state.get("own_scheduler") else ["scheduler.pt"]
    return ["latest", *scheduler, *(weights if stage == 3 else whole), *(parts if stage != 0 else [])]
