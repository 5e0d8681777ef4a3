"""GRPO on your own JSONL files and image folders.

    torchrun --nproc_per_node 8 src/open_r1/grpo_jsonl.py \\
        --model_name_or_path Qwen/Qwen2.5-VL-3B-Instruct \\
        --data_file_paths a.jsonl:b.jsonl --image_folders images/a:images/b \\
        --reward_method mcq:math --output_dir output/my-run --deepspeed local_scripts/zero3.json

The line format, and what is refused, is in assets/docs/data.md. All flags: `python src/open_r1/grpo_jsonl.py --help`.
"""

import sys
from collections.abc import Sequence

from open_r1.config.parser import parse
from open_r1.config.task_arguments import JsonlArguments
from open_r1.data.model_place import refuse_no_model
from open_r1.errors import UsageError, last_words, nothing_trained
from open_r1.trainer.checks.health import exit_if_stopped
from open_r1.trainer.run import run_grpo
from open_r1.trainer.training_rows import jsonl_rows


def main(argv: Sequence[str] | None = None) -> None:
    data, training, model = parse(JsonlArguments, argv)
    try:
        refuse_no_model(model.model_name_or_path, "--model_name_or_path", model.model_revision)
        train, held_out = jsonl_rows(data, training)
        exit_if_stopped(run_grpo(train, held_out, data, training, model))
    except UsageError as error:
        sys.exit(last_words(f"{error}\n{nothing_trained(error)}"))


if __name__ == "__main__":
    main()
