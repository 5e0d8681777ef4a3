"""GRPO on a `datasets` dataset with columns image (or images), problem, solution: from the hub, or a folder or file.

    torchrun --nproc_per_node 8 src/open_r1/grpo.py \\
        --model_name_or_path Qwen/Qwen2-VL-2B-Instruct --dataset_name leonardPKU/clevr_cogen_a_train \\
        --output_dir output/clevr --num_generations 8 --per_device_train_batch_size 8 --max_pixels 401408

Other columns are named by --columns problem=question,solution=answer. A solution in `<answer>` tags is read as what
stands inside them. All flags: `python src/open_r1/grpo.py --help`.
"""

import sys
from collections.abc import Sequence

from open_r1.config.parser import parse
from open_r1.config.task_arguments import HubArguments
from open_r1.data.model_place import refuse_no_model
from open_r1.errors import UsageError, last_words
from open_r1.trainer.checks.health import exit_if_stopped
from open_r1.trainer.run import run_grpo
from open_r1.trainer.training_rows import hub_split


def main(argv: Sequence[str] | None = None) -> None:
    data, training, model = parse(HubArguments, argv)
    try:
        refuse_no_model(model.model_name_or_path, "--model_name_or_path", model.model_revision)
        train = hub_split(data, data.dataset_train_split)
        held_out = hub_split(data, data.dataset_test_split) if data.dataset_test_split else None
        exit_if_stopped(run_grpo(train, held_out, data, training, model))
    except UsageError as error:
        sys.exit(last_words(f"{error}\nNothing was trained."))


if __name__ == "__main__":
    main()
