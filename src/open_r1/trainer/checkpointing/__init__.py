"""Checkpoints that are written atomically, verified, and resumed from with the weights of an undisturbed run.

A save: `atomic_save` gives a folder beside the others, transformers writes weights and optimizer into it, `run_state`
all else that a rank holds, `manifest` the size and hash of each file. A resume: `select` chooses a checkpoint by
`required_files`, `manifest` and `identity` (flags and data), and `resumable` makes the trainer continue from it.
"""
