"""GRPO for referring expression comprehension: `grpo_jsonl.py` with the task's prompt, and IoU as accuracy.

    torchrun --nproc_per_node 8 src/open_r1/grpo_rec.py \\
        --model_name_or_path Qwen/Qwen2.5-VL-3B-Instruct \\
        --data_file_paths refcoco_train.jsonl:refcocog_train.jsonl --image_folders coco \\
        --output_dir output/rec --deepspeed local_scripts/zero3.json

Gold boxes are `[x1, y1, x2, y2]` in pixels of the original image; the model answers in its family's coordinates.
"""

import sys

from open_r1.grpo_jsonl import main

if __name__ == "__main__":
    main(["--task_type", "rec", *sys.argv[1:]])
