"""Run as a program by test_resume.py: train once undisturbed, and once killed at many random moments.

The program forks, because starting Python anew for each of sixty processes would take minutes: every training is a
process of its own, and SIGKILL ends it wherever it is.
"""

import importlib.util
import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch

from swath.methods import METHODS
from swath.training.checkpoint import Shelf, read_tensors, write_tensors

specification = importlib.util.spec_from_file_location("tiny", Path(__file__).with_name("conftest.py"))
tiny = importlib.util.module_from_spec(specification)
specification.loader.exec_module(tiny)

EPOCHS = 30


def train(folder, name, options, die_at_sync=None):
    """Train and leave ``final.safetensors``; kill the own process at the n-th time something reaches the disk."""
    if die_at_sync is not None:
        real, left = os.fsync, [die_at_sync]

        def fsync(handle):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            real(handle)

        os.fsync = fsync
    problem, method = tiny.Problem(), METHODS[name](**options)

    def read(rows):
        time.sleep(0.002)  # an epoch lasts long enough to be hit in its middle
        return problem.images[rows]

    kept, _ = problem.fit(
        folder,
        method,
        problem.network(normalise=True),
        read,
        settings={
            "epochs": EPOCHS,
            "clip_norm": 1.0,
            "augment": ("flips", "turns", "shifts", "crops", "jitter"),
        },
        # The best epoch is neither the first nor the last.
        validate=(lambda network: -abs(method.epoch - 11)) if name == "assume-negative" else None,
    )
    tensors = {f"kept.{key}": value for key, value in kept.state_dict().items()}
    tensors |= {f"method.{key}": value for key, value in method.state_dict().items()}
    write_tensors(folder / "final.safetensors", tensors, {})


def in_a_process(*arguments, seconds=None):
    """Train in a process, kill it after some seconds, and say whether it was killed."""
    process = os.fork()
    if process == 0:
        try:
            train(*arguments)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        sys.exit(f"a training failed: {arguments}")
    return os.WIFSIGNALED(status)


def main(folder, name, options, seed):
    """Compare the two trainings and print how often the second was killed."""
    folder, options = Path(folder), json.loads(options)
    # In this process, so that those forked from it have everything imported.
    train(folder / "warm", name, options)
    started = time.perf_counter()
    in_a_process(folder / "whole", name, options)
    whole = time.perf_counter() - started
    random, killed, before_first = np.random.default_rng(int(seed)), 0, 0
    broken = folder / "broken"
    while killed < 20:
        if killed % 2 == 0:
            # While something is written: at an epoch's end the checkpoint, the folder and the line are synced.
            # The third time is the first checkpoint itself.
            died = in_a_process(broken, name, options, int(random.integers(1, 9)) if killed else 3)
        else:
            died = in_a_process(broken, name, options, seconds=random.uniform(0, 0.15 * whole))
        if not died:  # it came to its end before it was hit; another one has to be
            if not (broken / "final.safetensors").exists():
                sys.exit("a training ended without a result")
            break
        killed += 1
        latest = Shelf(broken).latest
        if latest.exists():
            read_tensors(latest)  # raises if it is partial
        else:
            before_first += 1
    in_a_process(broken, name, options)
    one, other = (read_tensors(folder / part / "final.safetensors")[0] for part in ("whole", "broken"))
    print(
        json.dumps(
            {
                "killed": killed,
                "seconds": whole,
                "before_first": before_first,
                "differing": [key for key in one if not torch.equal(one[key], other[key])],
                "same_names": list(one) == list(other),
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
