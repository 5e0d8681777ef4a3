"""Starts the processes that decode videos, asks them within a deadline, and ends those that hang. (torch-free)

They are plain programs and no children of multiprocessing, which does not let a data loader's worker have any.
"""

import atexit
import json
import math
import os
import select
import signal
import subprocess  # nosec B404
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import open_r1
from open_r1.data.geometry.coordinates import MAX_ASPECT, MIN_SIDE
from open_r1.data.video.decoding.limits import LENGTH_BYTES, VideoLimits, VideoRefused
from open_r1.data.video.types import FrameSampling, Video, VideoFrames, VideoShape

MODULE = "open_r1.data.video.decoding.worker"
KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "HOME", "LANG", "LC_ALL", "VIRTUAL_ENV", "TMPDIR", "PYTHONPATH")
CALLS = 500  # after which a process is replaced, so that what a library loses does not add up
MOST_ANSWER = 1 << 20  # bytes of an answer without its pixels
ENDING_SECONDS = 1.0  # that a process which closed its output has to end
START_ALLOWANCE = 60.0  # beyond the deadline, to a new process's first answer

_idle: list["DecoderProcess"] = []
_lock = threading.Lock()


class DecoderFailed(RuntimeError):
    """A worker process that failed by an error of the program, with its traceback."""


@dataclass(eq=False)
class DecoderProcess:
    """A process that decodes one video at a time."""

    program: subprocess.Popen[bytes]
    memory_bytes: int  # its limit, which stays
    calls: int = 0
    is_ending: bool = False

    def ask(self, request: dict[str, Any], seconds: float) -> tuple[dict[str, Any], bytearray]:
        """The answer to a request and its pixels. Raises TimeoutError, and EOFError where the process ended."""
        until = time.monotonic() + seconds + (0.0 if self.calls else START_ALLOWANCE)
        self.calls += 1
        with suppress(BrokenPipeError):  # it ended: seen by reading
            self.program.stdin.write(json.dumps(request).encode() + b"\n")
            self.program.stdin.flush()
        length = int.from_bytes(self._bytes(LENGTH_BYTES, until), "big")
        if length > MOST_ANSWER:
            raise EOFError(f"an answer of {length} bytes")
        said = json.loads(self._bytes(length, until))
        size = math.prod(said["shape"]) if "shape" in said and not request["only_first"] else 0
        if size > most_bytes(**request["sampling"]):
            raise EOFError(f"an answer of {size} bytes")
        return said, self._bytes(size, until)

    def _bytes(self, size: int, until: float) -> bytearray:
        held, filled = bytearray(size), 0
        handle, view = self.program.stdout.fileno(), memoryview(held)
        waiting = select.poll()
        waiting.register(handle, select.POLLIN | select.POLLHUP)
        while filled < size:
            if not waiting.poll(max(0.0, until - time.monotonic()) * 1000):
                raise TimeoutError
            count = os.readv(handle, [view[filled:]])
            if count == 0:
                self.is_ending = True
                raise EOFError("the process ended")
            filled += count
        return held

    def end(self) -> int:
        """The exit status of the process, which is killed unless it ends by itself at once."""
        try:
            self.program.wait(ENDING_SECONDS if self.is_ending else 0)
        except subprocess.TimeoutExpired:
            self.program.kill()
        self.program.stdin.close()
        self.program.stdout.close()
        return self.program.wait()


def most_bytes(max_frames: int, max_pixels: int, **_: float) -> int:
    """The most bytes that sampled frames can have, with room for stripes, whose small side becomes 28 px."""
    return 3 * max_frames * max(max_pixels, MIN_SIDE**2 * MAX_ASPECT) * 2


def decode_apart(path: str, video: Video, sampling: FrameSampling, limits: VideoLimits, seconds: float) -> VideoFrames:
    """The sampled frames of a file, decoded in a process of its own within `seconds`. Safe to call from many threads.

    A video whose process ends is tried once more in a new one, as the machine may have ended the first. Raises
    VideoRefused for what is no video, takes too long or ends its process; DecoderFailed for other errors.
    """
    said, pixels = _answer(path, video, sampling, limits, seconds, only_first=False)
    return VideoFrames(np.frombuffer(pixels, np.uint8).reshape(said["shape"]), tuple(said["seconds"]), said["span"])


def measure_apart(path: str, video: Video, sampling: FrameSampling, limits: VideoLimits, seconds: float) -> VideoShape:
    """The shape and times of the sampled frames of a file, of which only the first is decoded. Raises as above."""
    said, _ = _answer(path, video, sampling, limits, seconds, only_first=True)
    _, height, width, _ = said["shape"]
    return VideoShape(width, height, tuple(said["seconds"]), said["span"])


def _answer(
    path: str, video: Video, sampling: FrameSampling, limits: VideoLimits, seconds: float, only_first: bool
) -> tuple[dict[str, Any], bytearray]:
    request = {"path": path, "video": asdict(video), "sampling": asdict(sampling), "limits": asdict(limits)}
    request |= {"deadline": seconds, "only_first": only_first}
    try:
        said, pixels = _asked(request, seconds, _taken(limits.memory_bytes))
    except EOFError:
        try:
            said, pixels = _asked(request, seconds, DecoderProcess(_started(), limits.memory_bytes))
        except EOFError as error:
            got = f"a video that ends the process which decodes it ({error})"
            raise VideoRefused(got, "a video that decodes", "save it anew, or remove the row") from error
    if "failed" in said:
        raise DecoderFailed(f"a process that decodes videos failed:\n{said['failed']}")
    if "refused" in said:
        raise VideoRefused(*said["refused"])
    return said, pixels


def _asked(request: dict[str, Any], seconds: float, process: DecoderProcess) -> tuple[dict[str, Any], bytearray]:
    """A process's answer; it is kept for the next video, or ended. Raises EOFError, which says how it ended itself."""
    is_reusable = False
    try:
        said, pixels = process.ask(request, seconds)
        is_reusable = process.calls < CALLS and not said.get("ends")
        return said, pixels
    except TimeoutError as error:
        remedy = "save it smaller, cut the part that is shown, or set $OPEN_R1_VIDEO_SECONDS"
        raise VideoRefused(f"over {seconds:g} s to decode", f"at most {seconds:g} s", remedy) from error
    except (EOFError, ValueError) as error:
        status = process.end()
        raise EOFError(signal.Signals(-status).name if status < 0 else f"status {status}") from error
    finally:
        _give_back(process) if is_reusable else process.end()


def _taken(memory_bytes: int) -> DecoderProcess:
    """An idle process with this limit, or a new one."""
    with _lock:
        for process in [process for process in _idle if process.memory_bytes == memory_bytes]:
            _idle.remove(process)
            if process.program.poll() is None:
                return process
    return DecoderProcess(_started(), memory_bytes)


def _give_back(process: DecoderProcess) -> None:
    with _lock:
        _idle.append(process)


def _started() -> subprocess.Popen[bytes]:
    """A new process, without the secrets of this one's environment and outside of its terminal's signals."""
    source = str(Path(open_r1.__file__).parents[1])
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    kept |= {"PYTHONPATH": os.pathsep.join(filter(None, [source, kept.get("PYTHONPATH")])), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(  # nosec B603
        [sys.executable, "-P", "-m", MODULE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=kept,
        cwd="/",
        start_new_session=True,
        bufsize=0,
    )


def end_decoders() -> None:
    """Ends the idle processes of this process; the next video starts new ones."""
    with _lock:
        idle, _idle[:] = list(_idle), []
    for process in idle:
        process.end()


def _forget() -> None:
    """In a forked child: the processes of its parent are not its own, nor is a lock that a thread there may hold."""
    global _lock
    _lock = threading.Lock()
    _idle.clear()


atexit.register(end_decoders)
os.register_at_fork(after_in_child=_forget)
