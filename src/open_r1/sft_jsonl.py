"""Supervised fine-tuning on your own JSONL files and image folders: the loss is on the assistant's turns alone.

    torchrun --nproc_per_node 8 src/open_r1/sft_jsonl.py \\
        --model_name_or_path Qwen/Qwen2.5-VL-3B-Instruct \\
        --data_file_paths a.jsonl:b.jsonl --image_folders images/a:images/b --reward_method mcq:math \\
        --learning_rate 2e-5 --lr_scheduler_type cosine --warmup_steps 0.1 --num_train_epochs 1 \\
        --output_dir output/my-sft --deepspeed local_scripts/zero3.json

The lines are those of `grpo_jsonl.py`, text rows, image rows and rows of several images mixed. A solution that holds
`<answer>` tags (a distilled trace) is taught as it stands, any other inside the tags that the prompt asks for; earlier
assistant turns are taught as they stand. With `--padding_free true` a batch is one sequence, exactly. It is TRL's
SFTTrainer that trains; the final model is in `output_dir/checkpoint`. All flags: `--help`.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from open_r1.config.arguments import JsonlArguments, RunArguments, VLMConfig
from open_r1.config.hardware import fit_machine
from open_r1.config.parser import parse_classes
from open_r1.config.validation import check_lora, check_sources
from open_r1.data.jsonl_dataset import load_records
from open_r1.data.prompt_length import refuse_long_prompts
from open_r1.errors import UsageError
from open_r1.models.context_length import limits_of, load_config
from open_r1.models.loading import bare, family_of, freeze_vision, load_model, load_processor, vision_parts
from open_r1.models.lora import lora_config
from open_r1.rollout.annotation import annotator
from open_r1.tasks.registry import TASKS
from open_r1.trainer.checkpointing.resumable import Resumable
from open_r1.trainer.checkpointing.select import Resume, plan_resume
from open_r1.trainer.checks.nonfinite import Finite
from open_r1.trainer.checks.weight_updates import Moved
from open_r1.trainer.forward.dummy_image import share_vision
from open_r1.trainer.forward.shared_prefix import share_prefixes, why_not
from open_r1.trainer.lifecycle.hooks import Guarded
from open_r1.trainer.lifecycle.run_lock import alone
from open_r1.trainer.outputs.callbacks import Curves
from open_r1.trainer.outputs.hub import Published
from open_r1.trainer.run import train_and_save
from open_r1.trainer.sft_batches import Collator, PackingCollator, taught

# Flags of `JsonlArguments` and TRL's SFTConfig that mean nothing here -> why.
NOT_SAMPLED = "nothing is sampled here; remove it"
ON_ANSWERS = "the loss is always on the assistant's turns alone; remove it"
ROWS = "rows become tokens in this script, whole and one by one; remove it"
REFUSED = {
    **dict.fromkeys(
        ("reward_funcs", "reward_seconds", "reward_memory_gb", "rewards_in_process", "reward_errors"),
        "nothing is rewarded here; remove it",
    ),
    "rollout_groups": NOT_SAMPLED,
    "rollouts_to_keep": NOT_SAMPLED,
    "val_split_ratio": "nothing is held out here; use eval/evaluate.py on a file of held-out rows",
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
}


@dataclass
class SFTArguments(RunArguments, SFTConfig):
    """TRL's SFTConfig with the defaults of `GRPOArguments`: bf16 only on CUDA, every step logged, nothing cut."""

    logging_steps: float = field(default=1, metadata={"help": "Log every so many steps."})
    max_length: int | None = field(default=None, metadata={"help": "Not used: rows are never cut."})
    remove_unused_columns: bool = field(default=False, metadata={"help": "Not used: rows are numbers."})
    padding_free: bool = field(
        default=False, metadata={"help": "Compute the rows of a batch as one sequence, without padding; exact."}
    )

    def __post_init__(self) -> None:
        self.dataset_kwargs = {"skip_prepare_dataset": True}
        fit_machine(self)
        super().__post_init__()


def parse(argv: Sequence[str] | None = None) -> tuple[JsonlArguments, SFTArguments, VLMConfig]:
    """Flags and YAML; exits with status 2 on what cannot act."""
    return parse_classes((JsonlArguments, SFTArguments, VLMConfig), check_values, argv, REFUSED)


def check_values(data: JsonlArguments, training: SFTArguments, model: VLMConfig, given: set[str]) -> None:
    """Refuse combinations that could not act. Raises ValueError with the values to set."""
    check_sources(data, model)
    check_lora(data, model, given)
    if training.eval_strategy != "no":
        got, why = training.eval_strategy.value, REFUSED["val_split_ratio"]
        raise ValueError(f"--eval_strategy: got {got}, expected no: {why}")
    if training.padding_free and training.label_smoothing_factor:
        raise ValueError(
            f"--label_smoothing_factor: got {training.label_smoothing_factor}, cannot act with --padding_free true, "
            "where no logits are kept; remove one of them"
        )


class VLMSFTTrainer(Finite, Guarded, Resumable, Published, SFTTrainer):
    """TRL's trainer, resumed exactly; `plan` says from where."""

    plan: Resume

    def rows_of(self, inputs: dict[str, Any]) -> Any:
        return inputs.pop("rows")

    def where(self, row: Any) -> str:
        return self.records[int(row)].where


def run_sft(data: JsonlArguments, training: SFTArguments, model_args: VLMConfig) -> VLMSFTTrainer:
    """Train on all rows of the data; everything a run leaves is under `training.output_dir`."""
    with alone(training):
        trainer = make_trainer(data, training, model_args)
        train_and_save(trainer, data, training, model_args, trainer.plan)
    return trainer


def make_trainer(data: JsonlArguments, training: SFTArguments, model_args: VLMConfig) -> VLMSFTTrainer:
    """Rows, processor, model and TRL's trainer."""
    task = TASKS[data.task_type]
    instruction = task.prompts[data.prompt_mode]
    methods = data.reward_method or task.method
    records = load_records(data.data_file_paths, data.image_folders, reward_methods=methods)
    resume = plan_resume(records, data, training, model_args)
    processor = load_processor(model_args, data, training.trust_remote_code)
    annotate = annotator(load_config(model_args, training.trust_remote_code).model_type, processor, data.prompt_mode)
    limits = limits_of(data, training, model_args)
    refuse_long_prompts(records, processor, instruction, limits, lambda record: taught(annotate(record)))
    model = load_model(model_args, training)
    if data.freeze_vision_modules:
        freeze_vision(model)
    collator = Collator(records, processor, instruction, annotate, data.image_workers)
    packed, training.padding_free = training.padding_free, False  # TRL's own takes no rows with images
    trainer = VLMSFTTrainer(
        model=model,
        args=training,
        processing_class=processor,
        train_dataset=Dataset.from_dict({"row": range(len(records))}),
        data_collator=collator,
        callbacks=[Curves(training.output_dir)],
        peft_config=lora_config(model_args, model, vision_parts(model)),
    )
    trainer.records = records
    trainer.add_callback(Moved(trainer))
    share_vision(trainer)
    if packed:
        training.padding_free = True
        pack_batches(trainer, collator)
    trainer.plan = resume
    return trainer


def pack_batches(trainer: SFTTrainer, collator: Collator) -> None:
    """`--padding_free true`: batches as one sequence. Raises UsageError for models where that would not be exact."""
    model: Any = bare(trainer.model)
    if reason := why_not(model) or ("--router_aux_loss_coef counts padding" if trainer.aux_loss_enabled else None):
        raise UsageError(f"--padding_free: got true, cannot act: {reason}; remove one of them")
    rope = getattr(model.base_model, "get_rope_index", None)
    trainer.data_collator = PackingCollator(collator, rope, family_of(model).images_see_themselves)
    share_prefixes(model)


def main(argv: Sequence[str] | None = None) -> None:
    data, training, model = parse(argv)
    try:
        run_sft(data, training, model)
    except UsageError as error:
        sys.exit(f"{error}\nNothing was trained. `python -m open_r1.check` examines the whole dataset.")


if __name__ == "__main__":
    main()
