"""A training step on CUDA tensors without a device: errors, memory, operations and synchronisations of a GPU's run."""
