"""Processes from a fork server that do not import the training script, and outlive a cluster's SIGTERM.

The standard library's import `__main__` again: a training script would load torch in every one. A cluster that ends a
job signals all of its processes, and the training process still needs these to finish its step and save. The programs
that such a process starts are of its group, and end with it (`lead_group`).
"""

import fcntl
import io
import multiprocessing.context
import os
import signal
import sys
from contextlib import suppress
from multiprocessing import forkserver, popen_forkserver, reduction, spawn, util

EXITED = 255  # the exit status of a process that ended by itself with 0


class _Popen(popen_forkserver.Popen):
    def _launch(self, process_obj: multiprocessing.Process) -> None:
        """The parent's, less the import of `__main__`, and with SIGTERM blocked in a fork server that it starts."""
        preparation = spawn.get_preparation_data(process_obj.name)
        preparation = {key: value for key, value in preparation.items() if not key.startswith("init_main")}
        buffer = io.BytesIO()
        multiprocessing.context.set_spawning_popen(self)
        try:
            reduction.dump(preparation, buffer)
            reduction.dump(process_obj, buffer)
        finally:
            multiprocessing.context.set_spawning_popen(None)
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            self.sentinel, pipe = forkserver.connect_to_new_process(self._fds)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        self.finalizer = util.Finalize(self, util.close_fds, (os.dup(pipe), self.sentinel))
        with open(pipe, "wb", closefd=True) as file:
            file.write(buffer.getbuffer())
        self.pid = forkserver.read_signed(self.sentinel)

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """The parent's; what is left of the process's group ends once the process has, whatever ended it."""
        if self.returncode is None and super().poll(flag) is not None:
            with suppress(ProcessLookupError, PermissionError):  # nothing is left
                os.killpg(self.pid, signal.SIGKILL)
        return self.returncode


class _Process(multiprocessing.context.ForkServerProcess):
    @property
    def exitcode(self) -> int | None:
        """Never 0, which pebble takes for a worker that was told to end: `os._exit(0)` is none of that."""
        return EXITED if super().exitcode == 0 else super().exitcode

    @staticmethod
    def _Popen(process_obj: multiprocessing.Process) -> _Popen:
        return _Popen(process_obj)


class Context(multiprocessing.context.ForkServerContext):
    Process = _Process


def ignore_sigterm() -> None:
    """In such a process: it, but not the programs that it starts, is deaf to SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def lead_group() -> None:
    """In such a process: the programs that it starts end with it, but for those that leave its process group.

    Where it is killed or crashes, its parent's `poll` ends them; where it ends in an orderly way, it does so itself.
    Where its parent dies, Linux does, at once: SIGKILL to the whole group when the pipe that the parent holds closes.
    """
    os.setsid()
    util.Finalize(None, os.killpg, (0, signal.SIGKILL), exitpriority=0)
    if sys.platform == "linux":
        pipe = multiprocessing.parent_process().sentinel
        fcntl.fcntl(pipe, fcntl.F_SETOWN, -os.getpid())
        fcntl.fcntl(pipe, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)
