"""A user's file of rewards, each with a fault; and records to grade."""

from open_r1.data.record import Record

FILE = """
import ctypes, multiprocessing, os, re, sys, time

def faulty(act):
    def one(completion, record): return act() if completion == "bad" else len(completion)
    def batch(completions, **columns): return [act() if text == "bad" else len(text) for text in completions]
    return one, batch

def eat():
    held = []
    while True: held.append(bytearray(30_000_000))

def raise_it():
    raise KeyError("the wanted key")  # HERE

sleeps, batch_sleeps = faulty(lambda: time.sleep(3600))
eats, batch_eats = faulty(eat)
segfaults, batch_segfaults = faulty(lambda: ctypes.string_at(0))
exits, batch_exits = faulty(lambda: os._exit(0))
holds, batch_holds = faulty(lambda: re.match(r"(a+)+$", "a" * 64 + "b"))  # C code that does not listen to signals
raises, batch_raises = faulty(raise_it)
quits, batch_quits = faulty(lambda: sys.exit("enough"))
nan, batch_nan = faulty(lambda: float("nan"))
infinite, batch_infinite = faulty(lambda: -float("inf"))
text, batch_text = faulty(lambda: "1")
unsendable, batch_unsendable = faulty(lambda: lambda: 0)
sleeps.minimum = -2
batch_sleeps.minimum = -3

def slow(completion, record): time.sleep(0.3); return 1.0
def inside(completion, record): return float(multiprocessing.parent_process() is not None)
def batch_inside(completions, **columns): return [float("trainer_state" in columns)] * len(completions)
def with_state(completions, trainer_state): return [float(trainer_state)] * len(completions)
def seeing(completion, record, images): return images[0].getpixel((0, 0))[0]
"""


def records(number: int) -> list[Record]:
    return [Record(str(i), (), "", (), "3", {}, f"a.jsonl:{i}") for i in range(1, number + 1)]
