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

from open_r1.config.model_arguments import VLMConfig
from open_r1.config.parser import parse_classes
from open_r1.config.sft_validation import REFUSED_SFT_FLAGS, check_sft_values
from open_r1.config.task_arguments import JsonlArguments
from open_r1.config.training_arguments import SFTArguments
from open_r1.data.model_place import refuse_no_model
from open_r1.errors import UsageError, last_words, nothing_trained
from open_r1.trainer.sft_trainer import run_sft


def parse_sft(argv: Sequence[str] | None = None) -> tuple[JsonlArguments, SFTArguments, VLMConfig]:
    """Flags and YAML; exits with status 2 on what cannot act."""
    return parse_classes((JsonlArguments, SFTArguments, VLMConfig), check_sft_values, argv, REFUSED_SFT_FLAGS)


def main(argv: Sequence[str] | None = None) -> None:
    data, training, model = parse_sft(argv)
    try:
        refuse_no_model(model.model_name_or_path, "--model_name_or_path", model.model_revision)
        run_sft(data, training, model)
    except UsageError as error:
        sys.exit(last_words(f"{error}\n{nothing_trained(error)}"))


if __name__ == "__main__":
    main()
