"""The bytes on the fake device: what is alive, and the peak of each phase."""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import torch

ALLOCATED = 512  # bytes: CUDA's allocator gives whole blocks


class Ledger:
    """Counts each storage once, from its first tensor to its last. `peaks`: phase -> the most bytes alive in it."""

    def __init__(self) -> None:
        self.phase, self.alive, self.peaks = "start", 0, {"start": 0}
        self._storages: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def add(self, tensor: torch.Tensor) -> None:
        """Count the storage of a tensor, unless it is counted."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._storages:
            return
        size = -(-storage.nbytes() // ALLOCATED) * ALLOCATED
        self._storages[key] = weakref.ref(storage, lambda _: self._remove(key, size))
        self.alive += size
        self.peaks[self.phase] = max(self.peaks[self.phase], self.alive)

    def _remove(self, key: int, size: int) -> None:
        del self._storages[key]
        self.alive -= size

    @contextmanager
    def within(self, phase: str) -> Iterator[None]:
        """Inside this context peaks are those of `phase`."""
        before, self.phase = self.phase, phase
        self.peaks[phase] = max(self.peaks.get(phase, 0), self.alive)
        try:
            yield
        finally:
            self.phase = before
