"""Searches the flags under which a model fits given GPUs, the fastest first, with the global batch kept."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from open_r1.plan.dims import Dims
from open_r1.plan.memory import GIB, host, kv_cache, rollout_bytes, total_bytes, training_bytes
from open_r1.plan.settings import ENGINES, PlannedRun

# A step's time against the fastest way, in rough numbers: what is tried first, not a forecast.
SLOWER = {"none": 1.0, "zero2": 1.02, "zero3": 1.15, "zero2_offload": 1.4, "zero3_offload": 2.2}
RECOMPUTED = 1.3
UNGATHERED = 4.0  # every layer of every token's forward pass is gathered
SPARE = 0.1  # of a device stays free: fragments, and what a plan does not know
ASLEEP = 1.05  # vLLM leaves the device and comes back
MOST_GPUS = 1024


@dataclass(frozen=True)
class Planned:
    """A run with its peaks: bytes of a device, and of a node's main memory."""

    run: PlannedRun
    rollout: dict[str, float]
    training: dict[str, float]
    host: dict[str, float]

    @property
    def peak(self) -> float:
        return max(total_bytes(self.rollout), total_bytes(self.training))

    def fits(self, host_bytes: float | None) -> bool:
        return self.peak <= (1 - SPARE) * self.run.device_bytes and (
            host_bytes is None or total_bytes(self.host) <= host_bytes
        )


def plan(dims: Dims, run: PlannedRun) -> Planned:
    return Planned(run, rollout_bytes(dims, run), training_bytes(dims, run), host(dims, run))


def batches(group: int, global_batch: int, gpus: int) -> list[tuple[int, int]]:
    """(completions of a device, gradient accumulation) that make the global batch, whole groups, large ones first;
    at most four groups a pass. Empty where it cannot be split.

    >>> batches(group=8, global_batch=128, gpus=4)
    [(32, 1), (16, 2), (8, 4)]
    """
    share = global_batch // gpus
    if global_batch % (gpus * group):
        return []
    return [(size, share // size) for size in (4 * group, 3 * group, 2 * group, group) if share % size == 0]


def candidates(
    run: PlannedRun,
    global_batch: int,
    engines: tuple[str, ...] = tuple(SLOWER),
    checkpointing: tuple[bool, ...] = (False, True),
    batch: int | None = None,
) -> Iterator[PlannedRun]:
    """Settings, the fastest first; `run` gives what is not searched. DeepSpeed loads bfloat16 weights."""
    sizes = [(batch, global_batch // (run.gpus * batch))] if batch else batches(run.group, global_batch, run.gpus)
    found = []
    sleeping = (False, True) if run.vllm == "colocate" and not run.vllm_sleep else (run.vllm_sleep,)
    for name, recompute, gather, asleep in product(engines, checkpointing, (True, False), sleeping):
        engine = ENGINES[name]
        if not gather and (engine.stage < 3 or run.vllm):
            continue
        if engine.deepspeed and run.gpus == 1 and not engine.offload_optimizer:
            continue  # there is nothing to share out
        cost = SLOWER.get(name, 1.02) * (RECOMPUTED if recompute else 1) * (1 if gather else UNGATHERED)
        cost *= ASLEEP if asleep else 1
        weights = run.compute if engine.deepspeed else run.weights
        for size, steps in sizes:
            setting = {"batch": size, "steps": steps, "checkpointing": recompute, "gather": gather}
            setting["vllm_sleep"] = asleep
            found.append((cost, -size, replace(run, engine=engine, weights=weights, **setting)))
    return (setting for *_, setting in sorted(found, key=lambda entry: entry[:2]))


def with_vllm(dims: Dims, run: PlannedRun, tensor_parallel: int = 1, share: float | None = None) -> PlannedRun:
    """The share of a device that vLLM needs for weights, a generation's KV cache and 2 GiB of work, in steps of 5 %;
    or the one given."""
    if run.vllm != "colocate" or share:
        return run
    prompts = kv_cache(dims, replace(run, batch=run.batch // run.group, completion=0))  # prefixes are cached once
    needed = 2 * dims.parameters / tensor_parallel + prompts + kv_cache(dims, replace(run, prompt=0)) + 2 * GIB
    return replace(run, vllm_share=-(-needed // (0.05 * run.device_bytes)) * 0.05)


def propose(
    dims: Dims,
    run: PlannedRun,
    global_batch: int,
    host_bytes: float | None = None,
    tensor_parallel: int = 1,
    vllm_share: float | None = None,
    **searched: Any,
) -> tuple[Planned | None, Planned | None]:
    """(the fastest setting that fits, or None; that, or the one that needs least, or None); see `candidates`."""
    least = None
    for setting in candidates(run, global_batch, **searched):
        planned = plan(dims, with_vllm(dims, setting, tensor_parallel, vllm_share))
        if planned.fits(host_bytes):
            return planned, planned
        least = planned if least is None or planned.peak < least.peak else least
    return None, least


def gpus_needed(dims: Dims, run: PlannedRun, global_batch: int, **options: Any) -> int | None:
    """The smallest power of two of such GPUs, in nodes of eight, on which something fits; None up to `MOST_GPUS`."""
    gpus = 1
    while gpus <= MOST_GPUS:
        batch = max(global_batch, gpus * run.group)
        if propose(dims, replace(run, gpus=gpus, nodes=max(1, gpus // 8)), batch, **options)[0]:
            return gpus
        gpus *= 2
    return None


def flags(planned: Planned) -> list[str]:
    """The flags of a training script that make this setting."""
    run = planned.run
    lines = [
        f"--num_generations {run.group} --per_device_train_batch_size {run.batch} "
        f"--gradient_accumulation_steps {run.steps}",
        f"--max_completion_length {run.completion} --gradient_checkpointing {str(run.checkpointing).lower()}",
        f"--deepspeed {run.engine.file} --bf16 true" if run.engine.file else "--bf16 true",
    ]
    if run.engine.stage == 0 and run.weights == 2:
        lines[-1] += " --dtype bfloat16"
    if not run.gather:
        lines.append("--ds3_gather_for_generation false")
    if run.lora_r:
        lines.append(f"--use_peft true --lora_r {run.lora_r}")
    if run.freeze_vision:
        lines.append("--freeze_vision_modules true")
    if run.vllm:
        lines.append(f"--use_vllm true --vllm_mode {run.vllm}")
    if run.vllm == "colocate":
        lines[-1] += f" --vllm_gpu_memory_utilization {run.vllm_share:.2f}"
        lines[-1] += " --vllm_enable_sleep_mode true" if run.vllm_sleep else ""
    return lines
