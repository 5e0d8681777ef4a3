"""Refuses flags of supervised fine-tuning that could not act, before anything is loaded."""

from open_r1.config.batches import check_counts
from open_r1.config.idle_flags import REFUSED_FLAGS
from open_r1.config.model_arguments import VLMConfig
from open_r1.config.task_arguments import JsonlArguments
from open_r1.config.training_arguments import SFTArguments
from open_r1.config.validation import (
    check_attention,
    check_four_bit,
    check_limit,
    check_lora,
    check_sources,
    check_task_flags,
)
from open_r1.tools.registry import load_tools

NOT_SAMPLED = "nothing is sampled here; remove it"
ON_ANSWERS = "the loss is always on the assistant's turns alone; remove it"
NOT_EVALUATED = "nothing is held out here; use eval/evaluate.py on a file of held-out rows"
ROWS = "rows become tokens in this script, whole and one by one; remove it"
# Flags of `JsonlArguments` and TRL's SFTConfig without meaning here -> why.
REFUSED_SFT_FLAGS = REFUSED_FLAGS | {
    **dict.fromkeys(
        ("reward_funcs", "reward_seconds", "reward_memory_gb", "rewards_in_process", "reward_errors"),
        "nothing is rewarded here; remove it",
    ),
    "rollout_groups": NOT_SAMPLED,
    "rollouts_to_keep": NOT_SAMPLED,
    "val_split_ratio": NOT_EVALUATED,
    "packing": "TRL cuts rows into sequences of one length, which would part images from their tokens; "
    "--padding_free true makes one sequence of each batch, without padding and with the same loss",
    "packing_strategy": ROWS,
    "eval_packing": ROWS,
    "max_length": "rows are never cut; --max_prompt_length refuses long ones; remove it",
    "truncation_mode": ROWS,
    "dataset_text_field": ROWS,
    "dataset_kwargs": ROWS,
    "dataset_num_proc": ROWS,
    "shuffle_dataset": "rows are drawn in another order each epoch already; remove it",
    "pad_to_multiple_of": ROWS,
    "completion_only_loss": ON_ANSWERS,
    "assistant_only_loss": ON_ANSWERS,
    **dict.fromkeys(
        (
            "eval_steps",
            "eval_delay",
            "eval_on_start",
            "per_device_eval_batch_size",
            "bf16_full_eval",
            "fp16_full_eval",
        ),
        NOT_EVALUATED,
    ),
}


def check_sft_values(data: JsonlArguments, training: SFTArguments, model: VLMConfig, typed: set[str]) -> None:
    """Refuse combinations that could not act. Raises ValueError with the values to set."""
    check_counts(training)
    check_sources(data, model)
    check_task_flags(data)
    check_lora(data, model, typed)
    check_attention(model, training)
    check_four_bit(model, training)
    check_limit(training)
    load_tools(training.tools or ())
    if training.eval_strategy != "no":
        raise ValueError(f"--eval_strategy: got {training.eval_strategy}, expected no: {NOT_EVALUATED}")
    if training.train_sampling_strategy not in ("random", "sequential"):
        raise ValueError(
            f"--train_sampling_strategy: got {training.train_sampling_strategy}, expected random or sequential: rows "
            "have no lengths before they are processed"
        )
    if training.padding_free and training.label_smoothing_factor:
        raise ValueError(
            f"--label_smoothing_factor: got {training.label_smoothing_factor}, cannot act with --padding_free true, "
            "where no logits are kept; remove one of them"
        )
