"""The process that decodes videos for another: requests come on its standard input, frames go to its output.

A request is a line of JSON; an answer the length of a JSON text, that text, and the pixels. No code and no pickled
object comes back, so that a file that takes this process over reaches nothing but its frames. (torch-free)
"""

import json
import os
import resource
import select
import signal
import sys
import traceback
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np

from open_r1.data.images import open_regular
from open_r1.data.video.decoding.animations import is_animation, read_animation
from open_r1.data.video.decoding.containers import read_container
from open_r1.data.video.decoding.kinds import PROBED_BYTES, no_video
from open_r1.data.video.decoding.limits import LENGTH_BYTES, VideoLimits, VideoRefused
from open_r1.data.video.types import FrameSampling, Video, VideoFrames

ORPHAN_SECONDS = 5.0  # between two looks at whether the process that asks is there
MOST_DESCRIPTORS = 64  # that this process may hold open


def read_video(
    path: str, video: Video, sampling: FrameSampling, limits: VideoLimits, only_first: bool = False
) -> VideoFrames:
    """The sampled frames of a file; `only_first`: with the pixels of the first one alone. Raises VideoRefused for what
    is no video within the limits."""
    with os.fdopen(open_regular(path, VideoRefused), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            raise VideoRefused("an empty file (0 bytes)", "a video", "copy the file again, or remove the row")
        if size > limits.file_bytes:
            raise VideoRefused(f"{size:,} bytes", f"at most {limits.file_bytes:,}", "save the video smaller")
        head = os.pread(file.fileno(), PROBED_BYTES, 0)
        if kind := no_video(head):
            raise VideoRefused(kind[0], "a video", kind[1])
        reader = read_animation if is_animation(head) else read_container
        return reader(file, video, sampling, limits, only_first)


def answer_of(request: dict[str, Any]) -> tuple[dict[str, Any], np.ndarray | None]:
    """The answer to a request, and the pixels that follow it."""
    video = Video(**{**request["video"], "paths": tuple(request["video"]["paths"])})
    sampling, limits = FrameSampling(**request["sampling"]), VideoLimits(**request["limits"])
    try:
        frames = read_video(request["path"], video, sampling, limits, request["only_first"])
    except VideoRefused as refused:
        return {"refused": list(refused.args)}, None
    except MemoryError:
        most = f"at most {limits.memory_bytes >> 20:,} MiB of memory"
        return {"refused": ["a video that takes more to decode", most, "save the video smaller"], "ends": True}, None
    except Exception:
        return {"failed": traceback.format_exc()}, None
    told = {"shape": frames.pixels.shape, "seconds": frames.seconds, "span": frames.span}
    return told, None if request["only_first"] else frames.pixels


def serve_requests(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answers requests until the process that asks is gone."""
    parent = os.getppid()
    limited = False
    while True:
        if not select.select([requests], [], [], ORPHAN_SECONDS)[0]:
            if os.getppid() != parent:
                return
            continue
        line = requests.readline()
        if not line:
            return
        request = json.loads(line)
        if not limited:
            limit_process(request["limits"]["memory_bytes"])
            limited = True
        signal.setitimer(signal.ITIMER_REAL, 2 * request["deadline"] + 5)  # where nobody is left to end this process
        said, pixels = answer_of(request)
        text = json.dumps(said).encode()
        answers.write(len(text).to_bytes(LENGTH_BYTES, "big") + text)
        if pixels is not None:
            answers.write(memoryview(np.ascontiguousarray(pixels)).cast("B"))
        answers.flush()
        signal.setitimer(signal.ITIMER_REAL, 0)
        if said.get("ends"):
            return


def limit_process(memory_bytes: int) -> None:
    """Limits this process's memory to its present size and `memory_bytes` (Linux), its files and its writing."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (MOST_DESCRIPTORS, MOST_DESCRIPTORS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        allowed = resource.getrlimit(resource.RLIMIT_AS)[1]
        limit = held + memory_bytes if allowed == resource.RLIM_INFINITY else min(held + memory_bytes, allowed)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main() -> None:
    """Serves the process that started this one; a cluster's SIGTERM, which it gets as well, does not end it."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    av.logging.set_level(av.logging.ERROR)  # what FFmpeg says of a file is read, and stands in the refusal
    av.logging.set_skip_repeated(False)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    serve_requests(os.fdopen(0, "rb", buffering=0), answers)


if __name__ == "__main__":
    main()
