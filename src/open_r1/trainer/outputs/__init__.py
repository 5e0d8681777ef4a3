"""Files that a run writes beside its checkpoints, and its uploads to the hub."""
