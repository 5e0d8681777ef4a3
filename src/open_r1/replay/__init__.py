"""A saved step of a run under other rewards and losses, without generating: what changes for which completion."""
