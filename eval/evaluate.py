"""Accuracy of a model on JSONL rows, with the parser, prompts and rewards of training.

    python eval/evaluate.py --model output/my-run/checkpoint --data_file_paths val.jsonl:testA.jsonl \\
        --image_folders images --output_dir output/my-run/eval
    python eval/evaluate.py --model Qwen/Qwen2.5-VL-3B-Instruct --task rec --prompt_mode both --backend vllm ...
    torchrun --nproc_per_node 8 eval/evaluate.py ...               # rows are shared out to the ranks
    python eval/evaluate.py --from_predictions saved.jsonl --task counting

A checkpoint of ours says what it was trained with (`recipe.json`): task, prompt mode and token budget are its own
unless they are given, and pixel limits come from its processor. Writes `predictions.jsonl`, appended to while it runs:
a run that was killed goes on where it stopped, with any number of ranks, and ends with the same figures. And
`summary.json`: accuracy with its 95 % Wilson interval, parse rate, format rate, mean tokens, share of truncated
completions, for all rows and for each split, task and value of `--by`; pass@k with `--num_samples k`.
`eval/compare.py A B` compares two runs.
"""

from open_r1.evaluation.cli import main, parser_of

if __name__ == "__main__":
    main(parser_of(__doc__))
