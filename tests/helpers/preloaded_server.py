"""The interpreter of `preloaded.py`: imports the trainers, and forks for each request of `preloaded_client.py`.

    python tests/helpers/preloaded_server.py FOLDER

listens at FOLDER/socket until its stdin ends, and kills with itself what is left of its forks.
"""

import gc
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

STREAMS = 3


def receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """A request, and the descriptors that its streams are to be."""
    head, streams, _, _ = socket.recv_fds(connection, 8, STREAMS)
    with connection.makefile("rb") as stream:
        return json.loads(stream.read(int.from_bytes(head, "big"))), streams


class Server:
    """Connections, and the fork of each."""

    def __init__(self, listener: socket.socket) -> None:
        self.listener, self.selector = listener, selectors.DefaultSelector()
        self.selector.register(sys.stdin.fileno(), selectors.EVENT_READ, self.end)
        self.selector.register(listener, selectors.EVENT_READ, self.accept)

    def serve(self) -> dict[str, Any]:
        """Answer for ever; returns, in a fork alone, what it is to run."""
        while True:
            for key, _ in self.selector.select():
                if key.fileobj in self.selector.get_map() and (request := key.data()):
                    return request

    def end(self) -> None:
        os.killpg(0, signal.SIGKILL)

    def accept(self) -> dict[str, Any] | None:
        """Fork; the request in the fork."""
        connection, _ = self.listener.accept()
        request, streams = receive(connection)
        if (child := os.fork()) == 0:
            for opened in [key.fileobj for key in self.selector.get_map().values()]:
                os.close(opened if isinstance(opened, int) else opened.detach())
            self.selector.close()
            connection.close()
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
            os.closerange(min(streams), max(streams) + 1)
            return request
        for stream in streams:
            os.close(stream)
        ended = os.pidfd_open(child)
        self.selector.register(connection, selectors.EVENT_READ, lambda: self.pass_on(connection, child))
        self.selector.register(ended, selectors.EVENT_READ, lambda: self.answer(connection, child, ended))
        return None

    def pass_on(self, connection: socket.socket, child: int) -> None:
        """A signal that the client received; one that cannot be received has ended it."""
        numbers = connection.recv(16)
        for number in numbers or [signal.SIGKILL]:
            os.kill(child, number)
        if not numbers:
            self.selector.unregister(connection)

    def answer(self, connection: socket.socket, child: int, ended: int) -> None:
        """How the fork ended."""
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        self.selector.unregister(ended)
        os.close(ended)
        if connection in self.selector.get_map():
            self.selector.unregister(connection)
            connection.send(str(status).encode())
        connection.close()


def become(words: list[str], cwd: str, environment: dict[str, str]) -> None:
    """In a fork: the folder, the variables and the arguments of the command."""
    import torch

    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    if "OMP_NUM_THREADS" in environment:
        torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
    warnings._processoptions([word for word in environment.get("PYTHONWARNINGS", "").split(",") if word])
    warnings.filterwarnings("ignore", category=RuntimeWarning, module="runpy")  # that a module is there already
    if words[0] == "-u":
        words = words[1:]
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(write_through=True)
    named = words[0] in ("-m", "-c")
    sys.argv = words[named:]
    where = cwd if named else str(Path(words[0]).resolve().parent)
    more = [folder for folder in environment.get("PYTHONPATH", "").split(os.pathsep) if folder not in ("", *sys.path)]
    sys.path[:1] = [where, *more]


def start(words: list[str]) -> None:
    """What `python *words` does once it has started."""
    first, *rest = [word for word in words[:3] if word != "-u"]
    if first == "-m":
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif first == "-c":
        sys.argv[0] = "-c"
        exec(rest[0], {"__name__": "__main__"})
    else:
        runpy.run_path(first, run_name="__main__")


def listen(folder: str) -> dict[str, Any]:
    """Listen; returns in forks alone."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/socket.new")
        listener.listen(64)
        Path(folder, "socket.new").rename(f"{folder}/socket")
        return Server(listener).serve()


if __name__ == "__main__":
    import deepspeed  # noqa: F401
    import matplotlib.backends.backend_agg  # noqa: F401
    import torch.distributed.run
    import transformers.models.qwen2_5_vl.modeling_qwen2_5_vl  # noqa: F401
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    from open_r1 import grpo_jsonl, sft_jsonl  # noqa: F401

    if find_spec("vllm"):  # TRL and peft have imported the most of it
        import torch._inductor.compile_fx  # noqa: F401
        import vllm.model_executor.models.qwen2_5_vl
        import vllm.v1.engine.llm_engine
        import vllm.v1.worker.cpu_worker  # noqa: F401

        import open_r1.rollout.vllm.colocate  # noqa: F401
    from library_shortcuts import take_shortcuts

    take_shortcuts()
    get_checkpoint_conversion_mapping("qwen2_5_vl")  # compiles a thousand regular expressions the first time
    gc.freeze()
    request = listen(sys.argv[1])
    become(**request)
    start(request["words"])
