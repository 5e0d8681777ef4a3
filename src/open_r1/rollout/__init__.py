"""Rollouts: rows become prompts, prompts become completions (transformers or vLLM)."""
