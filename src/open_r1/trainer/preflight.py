"""Prints a table before training: rows, model, batch, rewards, planned memory and optimizations."""

import torch
from peft import PeftModel
from rich.console import Console
from rich.table import Table
from transformers import PreTrainedModel

from open_r1.data.prompt_length import prompt_tokens
from open_r1.errors import shorten
from open_r1.models.families import no_family
from open_r1.plan.dims import dims_of, patches_per_token
from open_r1.plan.memory import GIB, rollout_bytes, state, total_bytes, training_bytes
from open_r1.plan.settings import ENGINES, Engine, PlannedRun
from open_r1.trainer.forward.log_probs import computation_bytes
from open_r1.trainer.grpo_trainer import VLMGRPOTrainer

SAMPLED_ROWS = 32


def show_preflight(trainer: VLMGRPOTrainer) -> None:
    """Print the table on rank 0."""
    facts = preflight_facts(trainer)
    if trainer.accelerator.is_main_process:
        table = Table(title="GRPO run", show_header=False)
        for name, value in facts.items():
            table.add_row(name, value)
        console = Console(stderr=True)
        console.print(table, width=None if console.is_terminal else 120)


def preflight_facts(trainer: VLMGRPOTrainer) -> dict[str, str]:
    """Name -> value of each line of the table."""
    args, records = trainer.args, trainer.records["train"]
    prompts = args.generation_batch_size // args.num_generations
    left_out = len(records) % prompts
    sample = [records[i] for i in range(0, len(records), max(1, len(records) // SAMPLED_ROWS))][:SAMPLED_ROWS]
    tokens = [prompt_tokens(record, trainer.processing_class, trainer.instruction) for record in sample]
    evaluated = len(trainer.records["eval"] or ())
    return {
        "rows": f"{len(records):,}"
        + (f" and {evaluated:,} for evaluation" if evaluated else "")
        + (
            f" ({left_out} left out of each epoch, other ones each time: {prompts} prompts a generation)"
            if left_out
            else ""
        ),
        "images per row": value_range([len(record.images) for record in sample]),
        "prompt": shorten(trainer.instruction, 200),
        "model": f"{trainer.model.config.model_type}, {trainer.model.config._name_or_path}",
        "parameters": parameter_counts(trainer.model),
        "groups per step": f"{prompts // max(1, args.steps_per_generation // args.gradient_accumulation_steps)} of "
        f"{args.num_generations} completions",
        "tokens per group": f"prompt {value_range(tokens)}, completions at most "
        f"{args.num_generations * trainer.max_completion_length:,}",
        "rewards": ", ".join(
            f"{name} x {weight:g}"
            for name, weight in zip(trainer.reward_func_names, trainer.reward_weights.tolist(), strict=True)
        ),
        "memory per device": memory_text(trainer, max(tokens)),
        "computed once": "\n".join(trainer.optimizations.lines()),
    }


def value_range(values: list[int]) -> str:
    """The smallest and largest value as text.

    >>> value_range([2, 2]), value_range([1, 4])
    ('2', '1 to 4')
    """
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low:,} to {high:,}"


def parameter_counts(model: PreTrainedModel) -> str:
    """The numbers of all and of trained parameters as text."""
    total, trained = count_parameters(model)
    return f"{total:,}, of which {trained:,} are trained"


def count_parameters(model: PreTrainedModel) -> tuple[int, int]:
    """The numbers of (all, trained) parameters of the whole model, also under ZeRO-3, where each is a shard."""
    sizes = [(getattr(p, "ds_numel", p.numel()), p.requires_grad) for p in model.parameters()]
    return sum(n for n, _ in sizes), sum(n for n, trained in sizes if trained)


def memory_text(trainer: VLMGRPOTrainer, longest: int) -> str:
    """A device's constant memory, and the planner's peaks of rollout and training for prompts of `longest` tokens."""
    engine, ranks = engine_of(trainer), trainer.accelerator.num_processes
    size = next(trainer.model.parameters()).element_size()
    total, trained = count_parameters(trainer.model)
    parts = state(total, trained, size, engine, ranks, trainer.ref_model is not None)
    terms = ", ".join(f"{name} {bytes_ / GIB:.2f}" for name, bytes_ in parts.items() if bytes_)
    static = f"{total_bytes(parts) / GIB:.2f} GiB ({terms})"
    model = trainer.accelerator.unwrap_model(trainer.model)
    if isinstance(model, PeftModel) or no_family(model):
        return f"{static}, activations and KV cache on top"
    dims, run = dims_of(model), planned_run_of(trainer, longest, engine, size)
    peaks = f"rollout {gib(rollout_bytes(dims, run))}, training {gib(training_bytes(dims, run))} GiB"
    return f"{static}; planned peaks: {peaks}"


def gib(parts: dict[str, float]) -> str:
    """The sum of parts in GiB as text."""
    return f"{total_bytes(parts) / GIB:.2f}"


def engine_of(trainer: VLMGRPOTrainer) -> Engine:
    """The run's engine as the planner names it; FSDP counts as ZeRO-3, which shards the same."""
    plugin = trainer.accelerator.state.deepspeed_plugin
    if plugin is None:
        return ENGINES["zero3" if trainer.is_fsdp_enabled else "none"]
    config = plugin.deepspeed_config["zero_optimization"]
    targets = [config.get(f"offload_{part}") or {} for part in ("optimizer", "param")]
    return Engine("deepspeed", plugin.zero_stage, None, *(t.get("device", "none") != "none" for t in targets))


def planned_run_of(trainer: VLMGRPOTrainer, longest: int, engine: Engine, size: int) -> PlannedRun:
    """The planner's settings of this run; all tokens of the longest prompt count as an image's, an upper bound."""
    args, device = trainer.args, trainer.accelerator.device
    return PlannedRun(
        prompt_tokens=longest,
        patches_per_prompt=longest * patches_per_token(trainer.model.config),
        completion_tokens=trainer.max_completion_length,
        group_size=args.num_generations,
        batch_completions=args.per_device_train_batch_size,
        accumulation_steps=args.steps_per_generation,
        gpus=trainer.accelerator.num_processes,
        engine=engine,
        bytes_per_weight=size,
        bytes_per_computed_number=computation_bytes(trainer),
        gradient_checkpointing=args.gradient_checkpointing,
        reference_model=trainer.ref_model is not None,
        gather_for_rollouts=args.ds3_gather_for_generation,
        vllm_mode=args.vllm_mode if args.use_vllm else None,
        vllm_memory_share=args.vllm_gpu_memory_utilization,
        vllm_sleep_mode=args.vllm_enable_sleep_mode,
        device="cuda" if device.type == "cuda" else "cpu",
        device_bytes=torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else 0.0,
    )
