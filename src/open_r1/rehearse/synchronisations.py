"""Where the host waits for the device, or copies in a slow way, by line of code.

Each costs a GPU what it had queued up. CUDA's rules ("API synchronization behavior", CUDA Runtime API): reading a
number or a shape that depends on numbers waits; so does a copy in either direction without `non_blocking`. A copy
with `non_blocking` from memory that is not pinned does not wait, yet goes through a staging buffer.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from open_r1.rehearse.places import Place, place_of_call


@dataclass(frozen=True)
class Event:
    """One kind of wait or copy at one place in one phase."""

    what: str
    phase: str
    place: Place

    def __str__(self) -> str:
        return f"{self.what}: {self.place}"


@dataclass
class Synchronisations:
    """Event -> how often. `waits`: the host waits; `unpinned`: copies to the device from memory that is not pinned."""

    waits: Counter[Event] = field(default_factory=Counter)
    unpinned: Counter[Event] = field(default_factory=Counter)

    def wait(self, what: str, phase: str, times: int = 1) -> None:
        self.waits[Event(what, phase, place_of_call())] += times

    def copy(self, phase: str, blocking: bool, pinned: bool) -> None:
        """A copy from the host to the device."""
        if blocking:
            self.wait("copy to the device", phase)
        elif not pinned:
            self.unpinned[Event("copy from unpinned memory", phase, place_of_call())] += 1

    def in_layers(self) -> Counter[Event]:
        """The waits within transformer layers."""
        return Counter({event: count for event, count in self.waits.items() if event.place.in_layer})

    def by_line(self, phases: Iterable[str]) -> Counter[str]:
        """The waits of phases by line: ours where the line that waits is ours or was called from ours."""
        phases, lines = set(phases), Counter[str]()
        for event, count in self.waits.items():
            if event.phase in phases:
                lines[event.place.ours or event.place.library or "torch"] += count
        return lines
