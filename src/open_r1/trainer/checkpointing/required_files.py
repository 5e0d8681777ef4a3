"""Which files a checkpoint must hold for a run to go on from it exactly, by the engine that wrote it. (torch-free)"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

# {"engine", "ranks", "zero_stage", "own_scheduler": whether DeepSpeed keeps it, "facts"}, written by rank 0; beside it
# lies each rank's run_state_N.pt.
STATE = "run_state.json"
REFERENCE = "reference.safetensors"  # weights of a reference model that follows the policy (--sync_ref_model)

# Engine -> files it writes beside `COMMON`, given the folder and the number of ranks; "a|b" is one of the two.
ENGINE_FILES: dict[str, Callable[[Path, int], list[str]]] = {
    "plain": lambda folder, ranks: [*weight_files(folder), "optimizer.pt", "scheduler.pt"],
    "deepspeed": lambda folder, ranks: deepspeed_files(folder, ranks),
    "fsdp": lambda folder, ranks: ["pytorch_model_fsdp*", "optimizer.bin|optimizer_0/*", "scheduler.pt"],
}


def missing(folder: Path) -> list[str]:
    """What a checkpoint lacks to be continued from; empty where it is complete."""
    state = read_state(folder)
    facts, ranks = state.get("facts", {}), state.get("ranks", 1)
    engine = state.get("engine", "deepspeed" if (folder / "latest").exists() else "plain")
    wanted = ["trainer_state.json", *ENGINE_FILES.get(engine, ENGINE_FILES["plain"])(folder, ranks)]
    wanted += ["rng_state.pth"] if ranks == 1 else [f"rng_state_{rank}.pth" for rank in range(ranks)]
    wanted += [STATE, *(f"run_state_{rank}.pt" for rank in range(ranks))]
    wanted += [REFERENCE] if facts.get("--sync_ref_model") else []
    wanted += ["entropy_ctrl_state.json"] if facts.get("--use_adaptive_entropy") else []
    return [name for name in wanted if not any(any(folder.glob(one)) for one in name.split("|"))]


def read_state(folder: Path) -> dict[str, Any]:
    """`run_state.json`; empty where there is none, or a damaged one."""
    return read_object(folder / STATE)


def read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def weight_files(folder: Path) -> list[str]:
    shards = read_object(folder / "model.safetensors.index.json").get("weight_map")
    if isinstance(shards, dict):
        return sorted(set(map(str, shards.values())))
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
