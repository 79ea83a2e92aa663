"""Run as a program by test_resume.py: map a scene once undisturbed, and once killed at many random moments.

The program forks, because starting Python anew for each of many processes would take minutes: every map is a process
of its own, and SIGKILL ends it wherever it is.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch

import swath
from swath.errors import SwathError
from swath.mapping.naming import SUFFIXES

PRODUCTS = [f"scene{suffix}" for suffix in SUFFIXES.values()]


def make_map(run, scene, out, die_at_sync=None, late=False):
    """Map the scene; kill the own process when something reaches the disk the n-th time (late: of the products)."""
    if die_at_sync is not None:
        real, left, counts = os.fsync, [die_at_sync], [not late]

        def fsync(handle):
            counts[0] = counts[0] or (out / ".scene.work" / "labels.tif").exists()
            left[0] -= counts[0]
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            real(handle)

        os.fsync = fsync
    swath.map_scenes(run, [scene], out=out, stride=8, tile=48, batch_size=16)


def in_a_process(*arguments, seconds=None):
    """Map in a process, kill it after some seconds, and say whether it was killed."""
    process = os.fork()
    if process == 0:
        try:
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), 2)
            make_map(*arguments)
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        sys.exit(f"a map failed: {arguments}")
    return os.WIFSIGNALED(status)


def check(out, whole):
    """Whatever is at a final path is whole."""
    for path in out.iterdir():
        if path.name.startswith("."):
            continue
        if path.name not in PRODUCTS or path.read_bytes() != (whole / path.name).read_bytes():
            sys.exit(f"something partial is at a final path: {path}")


def main(run, scene, folder, kills, seed):
    """Compare the two maps and print how often the second was killed, and with how much done."""
    torch.set_num_threads(1)
    folder, kills = Path(folder), int(kills)
    whole, broken = folder / "whole", folder / "broken"
    make_map(run, scene, folder / "warm")  # so that what is forked has everything imported
    started = time.perf_counter()
    in_a_process(run, scene, whole)
    lasted = time.perf_counter() - started
    random, killed, kept, ends = np.random.default_rng(int(seed)), 0, [], 0
    while killed < kills:
        if killed % 3 == 0:
            # While something is written: two syncs for each of the chunks and products.
            died = in_a_process(run, scene, broken, int(random.integers(1, 12)))
        elif killed % 3 == 1:
            died = in_a_process(run, scene, broken, int(random.integers(1, 2 * len(PRODUCTS) + 1)), True)
        else:
            died = in_a_process(run, scene, broken, seconds=random.uniform(0.1, 0.6) * lasted)
        killed += died
        if broken.exists():
            check(broken, whole)
            kept.append(len(list(broken.glob(".scene.work/[0-9]*.safetensors"))))
        if not died:  # it came to its end before it was hit: begin again
            ends += 1
            for path in broken.iterdir():
                path.unlink()
    in_a_process(run, scene, broken)
    check(broken, whole)
    try:
        again = swath.map_scenes(run, [scene], out=broken, stride=8)
    except SwathError as error:
        sys.exit(str(error))
    print(
        json.dumps(
            {
                "killed": killed,
                "ends": ends,
                "kept": kept,
                "files": sorted(path.name for path in broken.iterdir()),
                "windows_again": again.maps[0].windows,
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
