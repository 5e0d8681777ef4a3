"""What a run leaves to go on from, written whole or not at all, and how it goes on exactly.

A save: `staging` gives a folder beside the others, transformers writes weights and optimizer into it, `run_state` what
else a rank holds, `manifest` seals it. A resume: `checkpoints` chooses one by `contents`, `manifest`, flags and data,
and `resume` makes the trainer go on.
"""
