"""GRPO with verifiable rewards for vision-language models. Importing this package loads no torch."""
