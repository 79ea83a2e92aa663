"""Run as a program by test_two_dates.py: compare two dates undisturbed, and killed at many moments, by forks."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch

import swath


def compare(run, before, after, out, die_at_sync=None):
    """Compare; kill the own process when a file of the comparison reaches the disk for the n-th time."""
    if die_at_sync is not None:
        real, left = os.fsync, [die_at_sync]

        def fsync(handle):
            left[0] -= any(out.glob(".*--*.work"))
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            real(handle)

        os.fsync = fsync
    return swath.map_scenes(run, before=before, after=after, out=out, stride=8, tile=48, batch_size=16)


def in_a_process(*arguments, seconds=None):
    """Compare in a process, kill it after some seconds, and say whether it was killed."""
    process = os.fork()
    if process == 0:
        try:
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), 2)
            compare(*arguments)
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        sys.exit(f"a comparison failed: {arguments}")
    return os.WIFSIGNALED(status)


def main(run, before, after, folder):
    """Print how often the comparison was killed and what is there at the end."""
    torch.set_num_threads(1)
    folder = Path(folder)
    whole, broken = folder / "whole", folder / "broken"
    compare(run, before, after, folder / "warm")  # so that what is forked has everything imported
    started = time.perf_counter()
    in_a_process(run, before, after, whole)
    lasted = time.perf_counter() - started
    random, killed, partial = np.random.default_rng(0), 0, set()

    def check():
        for path in broken.glob("[!.]*"):
            if path.read_bytes() != (whole / path.name).read_bytes():
                sys.exit(f"something partial or other is at a final path: {path}")
        partial.add(len(list(broken.glob("*--*"))))

    for _ in range(3):
        killed += in_a_process(run, before, after, broken, seconds=random.uniform(0.1, 0.6) * lasted)
        check()
    for path in broken.glob("*--*"):
        path.unlink()
    moment = 1
    while in_a_process(run, before, after, broken, moment):
        killed, moment = killed + 1, moment + 1
        check()
    check()
    again = compare(run, before, after, broken)
    files = sorted(path.name for path in broken.iterdir())
    told = {
        "killed": killed,
        "moments": moment,
        "partial": sorted(partial),
        "same_files": files == sorted(path.name for path in whole.iterdir()),
        "work_again": sum(entry.windows for entry in again.maps) + again.change.seconds,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
