"""Keeps the sampled frames of video files on disk, within a bound, for later epochs and runs. (torch-free)

An entry is found by the identity of the file (place, size, times of change) and by what was sampled, so that a changed
file is decoded again. Entries are written beside and moved into place, so that several ranks may share a folder, and
carry a checksum: a damaged one is removed and its video decoded anew.

When the folder is full, entries that no run used since this one began make room, the oldest first; those that this run
uses stay, and further videos are not kept. (Were the oldest dropped in any case, a data set that is larger than the
folder would find none of its own in the next epoch.)
"""

import hashlib
import json
import logging
import os
import threading
import time
import zlib
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from open_r1.data.video.types import FrameSampling, Video, VideoFrames

logger = logging.getLogger(__name__)

VERSION = 1  # of what stands in an entry, and of how frames are sampled and scaled
ENDING = ".frames"
RECOUNT_SHARE = 0.02  # of the bound that this process writes between two looks at the whole folder
FACTS_LENGTH = 8  # of the length of an entry's first part


@dataclass
class FrameCache:
    """Frames below `folder`, in at most `max_bytes`. Safe to use from many threads and processes."""

    folder: Path
    max_bytes: int
    began: float = field(default_factory=time.time)
    _used: int | None = None  # bytes, as counted last, and what was written since
    _since: int = 0
    _has_former: bool = True  # whether entries that no run used since this one may be there, to make room
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __getstate__(self) -> dict[str, object]:
        """For another process, which has a lock of its own and counts anew."""
        return {"folder": self.folder, "max_bytes": self.max_bytes, "began": self.began}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__ |= state | {"_used": None, "_since": 0, "_has_former": True, "_lock": threading.Lock()}

    def get(self, path: str, video: Video, sampling: FrameSampling) -> VideoFrames | None:
        """The frames that are kept, or None; a damaged entry is removed, with a line in the log."""
        entry = self._entry(path, video, sampling)
        try:
            content = entry.read_bytes()
        except OSError:
            return None
        try:
            frames = unpacked(content)
        except (ValueError, KeyError, TypeError) as error:
            logger.warning("%s: got a damaged entry (%s); %s is decoded again", entry, error, path)
            entry.unlink(missing_ok=True)
            return None
        with suppress(OSError):  # another rank may have removed it
            os.utime(entry)
        return frames

    def put(self, path: str, video: Video, sampling: FrameSampling, frames: VideoFrames) -> bool:
        """Keeps the frames where there is room; whether it did. A full disk is told once and is no error."""
        entry, content = self._entry(path, video, sampling), packed(frames)
        if not self._has_room(len(content)):
            return False
        beside = entry.with_name(f"{entry.name}.{os.getpid()}.{threading.get_ident()}")
        try:
            entry.parent.mkdir(parents=True, exist_ok=True)
            beside.write_bytes(content)
            beside.replace(entry)
        except OSError as error:
            with suppress(OSError):
                beside.unlink()
            said = "--video_cache_gb: %s could not be written (%s): no more frames are kept"
            logger.warning(said, entry, error.strerror)
            self.max_bytes = 0
            return False
        return True

    def _entry(self, path: str, video: Video, sampling: FrameSampling) -> Path:
        facts = Path(path).stat()
        key = [VERSION, path, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, asdict(video), asdict(sampling)]
        name = hashlib.sha256(json.dumps(key).encode("utf-8", "surrogatepass")).hexdigest()[:40]
        return self.folder / name[:2] / f"{name}{ENDING}"

    def _has_room(self, size: int) -> bool:
        """Whether `size` more bytes fit, after entries of former runs made room."""
        with self._lock:
            if self._used is None or self._since > RECOUNT_SHARE * self.max_bytes:
                self._used, self._since = sum(entry[1] for entry in self._entries()), 0
            over = self._used + self._since + size > self.max_bytes
            if over and self._has_former and size <= self.max_bytes:
                self._make_room(size)
            fits = self._used + self._since + size <= self.max_bytes
            self._since += size if fits else 0
            return fits

    def _make_room(self, size: int) -> None:
        """Removes the oldest entries of former runs until `size` bytes fit."""
        entries = sorted(self._entries())
        self._used, self._since = sum(entry[1] for entry in entries), 0
        former = [entry for entry in entries if entry[0] < self.began]
        for _, bytes_held, place in former:
            if self._used + size <= self.max_bytes:
                return
            Path(place).unlink(missing_ok=True)
            self._used -= bytes_held
        self._has_former = False

    def _entries(self) -> list[tuple[float, int, str]]:
        """(time of last use, bytes, path) of all entries, of which others may be removed meanwhile."""
        found = []
        for place in self.folder.glob(f"*/*{ENDING}*"):
            with suppress(OSError):
                facts = place.stat()
                found.append((facts.st_mtime, facts.st_size, str(place)))
        return found


def packed(frames: VideoFrames) -> bytes:
    """The bytes of an entry: the length of its facts, these as JSON, and the pixels."""
    pixels = np.ascontiguousarray(frames.pixels)
    facts = {"shape": pixels.shape, "seconds": frames.seconds, "span": frames.span, "crc": zlib.crc32(pixels)}
    text = json.dumps(facts).encode()
    return len(text).to_bytes(FACTS_LENGTH, "big") + text + pixels.tobytes()


def unpacked(content: bytes) -> VideoFrames:
    """The frames of an entry. Raises ValueError, KeyError or TypeError for a damaged one."""
    end = FACTS_LENGTH + int.from_bytes(content[:FACTS_LENGTH], "big")
    facts = json.loads(content[FACTS_LENGTH:end])
    values = np.frombuffer(content, np.uint8, offset=end)
    if zlib.crc32(values) != facts["crc"]:
        raise ValueError("its checksum is another")
    return VideoFrames(values.reshape(facts["shape"]), tuple(facts["seconds"]), float(facts["span"]))
