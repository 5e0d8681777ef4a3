"""The evaluator behind every script of `eval/`; it uses the rows, prompts, parsers and rewards of training."""
