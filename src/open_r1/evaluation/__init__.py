"""One evaluator behind every script of `eval/`: the rows, prompts, parser and rewards of training."""
