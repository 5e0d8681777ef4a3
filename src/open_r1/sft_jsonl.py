"""Supervised fine-tuning on your own JSONL files and image folders: the loss is on the last assistant turn alone.

    torchrun --nproc_per_node 8 src/open_r1/sft_jsonl.py \\
        --model_name_or_path Qwen/Qwen2.5-VL-3B-Instruct \\
        --data_file_paths a.jsonl:b.jsonl --image_folders images/a:images/b --reward_method mcq:math \\
        --learning_rate 2e-5 --lr_scheduler_type cosine --warmup_steps 0.1 --num_train_epochs 1 \\
        --output_dir output/my-sft --deepspeed local_scripts/zero3.json

The lines are those of `grpo_jsonl.py`, text rows, image rows and rows of several images mixed. A solution that holds
`<answer>` tags (a distilled trace) is taught as it stands, any other inside the tags that the prompt asks for. It is
TRL's SFTTrainer that trains; the final model is in `output_dir/checkpoint`. All flags: `--help`.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields

from datasets import Dataset
from trl import SFTConfig, SFTTrainer, TrlParser

from open_r1.arguments import JsonlArguments, VLMConfig, fit_machine, flag_names, unknown_flags, unknown_keys
from open_r1.errors import UsageError
from open_r1.lengths import refuse_long_prompts
from open_r1.models import freeze_vision, load_model, load_processor, lora_config
from open_r1.records import load_records
from open_r1.tasks import TASKS
from open_r1.trainer.blank import share_vision
from open_r1.trainer.callbacks import Curves
from open_r1.trainer.run import annotator, train_and_save
from open_r1.trainer.sft import Collator

# Flags of `JsonlArguments` that mean nothing here -> why.
REFUSED = {
    "reward_funcs": "nothing is rewarded here; remove it",
    "rollout_groups": "nothing is sampled here; remove it",
    "val_split_ratio": "nothing is held out here; use eval/evaluate.py on a file of held-out rows",
}


@dataclass
class SFTArguments(SFTConfig):
    """TRL's SFTConfig with the defaults of `GRPOArguments`: bf16 only on CUDA, every step logged, nothing cut."""

    logging_steps: float = field(default=1, metadata={"help": "Log every so many steps."})
    max_length: int | None = field(default=None, metadata={"help": "Not used: rows are never cut."})
    remove_unused_columns: bool = field(default=False, metadata={"help": "Not used: rows are numbers."})

    def __post_init__(self) -> None:
        if self.packing or self.padding_free or self.max_length is not None:
            raise ValueError("--packing, --padding_free, --max_length: cannot act on rows with images; leave them out")
        self.dataset_kwargs = {"skip_prepare_dataset": True}
        fit_machine(self)
        super().__post_init__()


def parse(argv: Sequence[str] | None = None) -> tuple[JsonlArguments, SFTArguments, VLMConfig]:
    """Flags and YAML; exits with status 2 on what cannot act."""
    argv = list(sys.argv[1:] if argv is None else argv)
    classes = (JsonlArguments, SFTArguments, VLMConfig)
    parser = TrlParser(classes, allow_abbrev=False, conflict_handler="resolve")
    known = {f.name for cls in classes for f in fields(cls)} - set(REFUSED)
    complaints = unknown_flags(argv, known, JsonlArguments) + unknown_keys(argv, known, JsonlArguments)
    complaints = [f"--{name}: {why}" for name, why in REFUSED.items() if name in flag_names(argv)] or complaints
    if complaints:
        parser.exit(2, "\n".join(complaints) + "\n")
    try:
        data, training, model = parser.parse_args_and_config(argv)
        if not model.model_name_or_path or not data.data_file_paths:
            raise ValueError("--model_name_or_path, --data_file_paths: got nothing for one of them, expected both")
    except (ValueError, FileNotFoundError) as error:
        parser.exit(2, f"{error}\n")
    return data, training, model


def run_sft(data: JsonlArguments, training: SFTArguments, model_args: VLMConfig) -> SFTTrainer:
    """Train on all rows of the data; everything a run leaves is under `training.output_dir`."""
    task = TASKS[data.task_type]
    instruction = task.prompts[data.prompt_mode]
    methods = data.reward_method or task.method
    records = load_records(data.data_file_paths, data.image_folders, reward_methods=methods)
    processor = load_processor(model_args, data, training.trust_remote_code)
    if data.max_prompt_length is not None:
        refuse_long_prompts(records, processor, instruction, data.max_prompt_length)
    model = load_model(model_args, training)
    if data.freeze_vision_modules:
        freeze_vision(model)
    annotate = annotator(model.config.model_type, processor, data.prompt_mode)
    trainer = SFTTrainer(
        model=model,
        args=training,
        processing_class=processor,
        train_dataset=Dataset.from_dict({"row": range(len(records))}),
        data_collator=Collator(records, processor, instruction, annotate, data.image_workers),
        callbacks=[Curves(training.output_dir)],
        peft_config=lora_config(model_args, model),
    )
    share_vision(trainer)
    train_and_save(trainer, data, training, model_args)
    return trainer


def main(argv: Sequence[str] | None = None) -> None:
    data, training, model = parse(argv)
    try:
        run_sft(data, training, model)
    except UsageError as error:
        sys.exit(f"{error}\nNothing was trained. `python -m open_r1.check` examines the whole dataset.")


if __name__ == "__main__":
    main()
