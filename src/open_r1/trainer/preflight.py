"""The short table before training: what is about to run, and what it needs."""

from rich.console import Console
from rich.table import Table
from transformers import PreTrainedModel

from open_r1.errors import UsageError
from open_r1.lengths import prompt_tokens
from open_r1.records import Record
from open_r1.trainer.grpo import VLMGRPOTrainer

SAMPLED_ROWS = 32


def show_preflight(trainer: VLMGRPOTrainer) -> None:
    """Print the table on rank 0. Raises UsageError where the rows do not fill one generation batch."""
    facts = facts_of(trainer)
    if trainer.accelerator.is_main_process:
        table = Table(title="GRPO run", show_header=False)
        for name, value in facts.items():
            table.add_row(name, value)
        console = Console(stderr=True)
        console.print(table, width=None if console.is_terminal else 120)


def facts_of(trainer: VLMGRPOTrainer) -> dict[str, str]:
    args, records = trainer.args, trainer.records["train"]
    prompts = args.generation_batch_size // args.num_generations
    left_out = len(records) % prompts
    if len(records) < prompts:
        raise UsageError(
            f"{len(records)} rows: expected at least {prompts}, the prompts of one generation batch "
            f"({args.generation_batch_size} completions / --num_generations {args.num_generations}); add rows, or "
            f"lower --per_device_train_batch_size, --gradient_accumulation_steps or --steps_per_generation"
        )
    sample = [records[i] for i in range(0, len(records), max(1, len(records) // SAMPLED_ROWS))][:SAMPLED_ROWS]
    evaluated = len(trainer.records["eval"] or ())
    return {
        "rows": f"{len(records):,}"
        + (f" and {evaluated:,} for evaluation" if evaluated else "")
        + (
            f" ({left_out} left out of each epoch, other ones each time: {prompts} prompts a generation)"
            if left_out
            else ""
        ),
        "images per row": spread([len(record.images) for record in sample]),
        "model": f"{trainer.model.config.model_type}, {trainer.model.config._name_or_path}",
        "parameters": parameters(trainer.model),
        "groups per step": f"{prompts // max(1, args.steps_per_generation // args.gradient_accumulation_steps)} of "
        f"{args.num_generations} completions",
        "tokens per group": group_tokens(trainer, sample),
        "rewards": ", ".join(
            f"{name} x {weight:g}"
            for name, weight in zip(trainer.reward_func_names, trainer.reward_weights.tolist(), strict=True)
        ),
        "memory per device": memory(trainer),
        "computed once": "\n".join(trainer.savings.lines()),
    }


def spread(values: list[int]) -> str:
    """
    >>> spread([2, 2]), spread([1, 4])
    ('2', '1 to 4')
    """
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low:,} to {high:,}"


def parameters(model: PreTrainedModel) -> str:
    total, trained = counts(model)
    return f"{total:,}, of which {trained:,} are trained"


def counts(model: PreTrainedModel) -> tuple[int, int]:
    """(all, trained) parameters of the whole model, also where ZeRO-3 keeps a shard of each here."""
    sizes = [(getattr(p, "ds_numel", p.numel()), p.requires_grad) for p in model.parameters()]
    return sum(n for n, _ in sizes), sum(n for n, trained in sizes if trained)


def group_tokens(trainer: VLMGRPOTrainer, sample: list[Record]) -> str:
    """Prompt tokens (from up to `SAMPLED_ROWS` rows) once, and G completions of at most the allowed length."""
    prompts = [prompt_tokens(record, trainer.processing_class, trainer.instruction) for record in sample]
    completions = trainer.args.num_generations * trainer.max_completion_length
    return f"prompt {spread(prompts)}, completions at most {completions:,}"


def memory(trainer: VLMGRPOTrainer) -> str:
    """Weights, gradients, AdamW's two moments (and DeepSpeed's float32 masters), the reference model; sharded by ZeRO.

    Activations and the KV cache come on top: they depend on lengths not known before the first rollouts.
    """
    plugin = trainer.args.deepspeed_plugin
    stage, ranks = (plugin.zero_stage if plugin else 0), trainer.accelerator.num_processes
    size = next(trainer.model.parameters()).element_size()
    total, trained = counts(trainer.model)
    shards = {"weights": stage >= 3, "gradients": stage >= 2, "optimizer": stage >= 1, "reference": stage >= 3}
    needed = {
        "weights": total * size,
        "gradients": trained * size,
        "optimizer": trained * (12 if size == 2 and plugin else 8),
        "reference": total * size if trainer.ref_model is not None else 0,
    }
    gib = {name: bytes_ / (ranks if shards[name] else 1) / 2**30 for name, bytes_ in needed.items()}
    parts = ", ".join(f"{name} {value:.2f}" for name, value in gib.items() if value)
    return f"{sum(gib.values()):.2f} GiB ({parts}), activations and KV cache on top"
