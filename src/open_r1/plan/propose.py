"""Search the flags under which a model fits given GPUs, the fastest first; the global batch stays."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from open_r1.plan.dims import Dims
from open_r1.plan.memory import GIB, host_memory, kv_cache, rollout_bytes, total_bytes, training_bytes
from open_r1.plan.settings import ADAMW, ENGINES, PlannedRun

# Rough time of a step as a multiple of the fastest engine's: the order of the search, not a forecast.
SLOWER = {"none": 1.0, "zero2": 1.02, "zero3": 1.15, "zero2_offload": 1.4, "zero3_offload": 2.2}
RECOMPUTED = 1.3  # with gradient checkpointing
UNGATHERED = 4.0  # every layer of every token's forward pass is gathered
SPARE = 0.1  # share of a device that stays free: fragments, and what a plan leaves out
SLEEP_MODE = 1.05  # vLLM frees the device and loads again
MOST_GPUS = 1024


@dataclass(frozen=True)
class Planned:
    """A run and its memory, part -> bytes: of a device in a rollout and in training, of a node's main memory."""

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


def plan_memory(dims: Dims, run: PlannedRun) -> Planned:
    """The run with its memory."""
    return Planned(run, rollout_bytes(dims, run), training_bytes(dims, run), host_memory(dims, run))


def batch_splits(group: int, global_batch: int, gpus: int) -> list[tuple[int, int]]:
    """(completions of a device's pass, gradient accumulation) that make the global batch, large passes first: one to
    four whole groups. Empty where it cannot be split.

    >>> batch_splits(group=8, global_batch=128, gpus=4)
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
    """Settings of the search, the fastest first; all else is as in `run`. DeepSpeed loads bfloat16 weights."""
    splits = batch_splits(run.group_size, global_batch, run.gpus)
    if batch:
        splits = [(batch, global_batch // (run.gpus * batch))]
    settings = []
    sleep_modes = (False, True) if run.vllm_mode == "colocate" and not run.vllm_sleep_mode else (run.vllm_sleep_mode,)
    for name, recompute, gather, sleeps in product(engines, checkpointing, (True, False), sleep_modes):
        engine = ENGINES[name]
        if not gather and (engine.stage < 3 or run.vllm_mode):
            continue
        if engine.deepspeed and run.gpus == 1 and not engine.offload_optimizer:
            continue  # there is nothing to share out
        cost = SLOWER.get(name, 1.02) * (RECOMPUTED if recompute else 1) * (1 if gather else UNGATHERED)
        cost *= SLEEP_MODE if sleeps else 1
        bytes_per_weight = run.bytes_per_computed_number if engine.deepspeed else run.bytes_per_weight
        for size, steps in splits:
            setting = replace(
                run,
                engine=engine,
                bytes_per_weight=bytes_per_weight,
                batch_completions=size,
                accumulation_steps=steps,
                gradient_checkpointing=recompute,
                gather_for_rollouts=gather,
                vllm_sleep_mode=sleeps,
            )
            settings.append((cost, -size, setting))
    return (setting for *_, setting in sorted(settings, key=lambda entry: entry[:2]))


def with_vllm(dims: Dims, run: PlannedRun, tensor_parallel: int = 1, share: float | None = None) -> PlannedRun:
    """The run with the share of a device that vLLM needs for weights, a generation's KV cache and 2 GiB of work, in
    steps of 5 %; or with `share`."""
    if run.vllm_mode != "colocate" or share:
        return run
    one_a_group = replace(run, batch_completions=run.batch_groups, completion_tokens=0)  # prefixes are cached once
    cache = kv_cache(dims, one_a_group) + kv_cache(dims, replace(run, prompt_tokens=0))
    needed = 2 * dims.parameters / tensor_parallel + cache + 2 * GIB
    return replace(run, vllm_memory_share=-(-needed // (0.05 * run.device_bytes)) * 0.05)


def propose(
    dims: Dims,
    run: PlannedRun,
    global_batch: int,
    host_bytes: float | None = None,
    tensor_parallel: int = 1,
    vllm_share: float | None = None,
    **search_space: Any,
) -> tuple[Planned | None, Planned | None]:
    """(the fastest setting that fits, or None; the same, or the one with the smallest peak); `search_space` goes to
    `candidates`, which may be empty: (None, None)."""
    least = None
    for setting in candidates(run, global_batch, **search_space):
        planned = plan_memory(dims, with_vllm(dims, setting, tensor_parallel, vllm_share))
        if planned.fits(host_bytes):
            return planned, planned
        least = planned if least is None or planned.peak < least.peak else least
    return None, least


def gpus_needed(dims: Dims, run: PlannedRun, global_batch: int, **options: Any) -> int | None:
    """The smallest power of two of such GPUs, in nodes of eight, on which something fits; None up to `MOST_GPUS`."""
    gpus = 1
    while gpus <= MOST_GPUS:
        batch = max(global_batch, gpus * run.group_size)
        if propose(dims, replace(run, gpus=gpus, nodes=max(1, gpus // 8)), batch, **options)[0]:
            return gpus
        gpus *= 2
    return None


def training_flags(planned: Planned) -> list[str]:
    """The flags of a training script for this setting."""
    run = planned.run
    lines = [
        f"--num_generations {run.group_size} --per_device_train_batch_size {run.batch_completions} "
        f"--gradient_accumulation_steps {run.accumulation_steps}",
        f"--max_completion_length {run.completion_tokens} "
        f"--gradient_checkpointing {str(run.gradient_checkpointing).lower()}",
        f"--deepspeed {run.engine.file} --bf16 true" if run.engine.file else "--bf16 true",
    ]
    if run.engine.stage == 0 and run.bytes_per_weight == 2:
        lines[-1] += " --dtype bfloat16"
    if not run.gather_for_rollouts:
        lines.append("--ds3_gather_for_generation false")
    if run.tokens_per_forward:
        lines.append(f"--tokens_per_forward {run.tokens_per_forward}")
    if run.lora_r:
        base = " --load_in_4bit true" if run.four_bit else ""
        base += " --use_bnb_nested_quant true" if run.nested_scales else ""
        lines.append(f"--use_peft true --lora_r {run.lora_r}{base}")
    if run.optim != ADAMW:
        lines.append(f"--optim {run.optim}")
    if run.freeze_vision:
        lines.append("--freeze_vision_modules true")
    if run.vllm_mode:
        lines.append(f"--use_vllm true --vllm_mode {run.vllm_mode}")
    if run.vllm_mode == "colocate":
        lines[-1] += f" --vllm_gpu_memory_utilization {run.vllm_memory_share:.2f}"
        lines[-1] += " --vllm_enable_sleep_mode true" if run.vllm_sleep_mode else ""
    return lines
