"""Rollouts: prompts become completions."""
