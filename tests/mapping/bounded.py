"""Run as a program by test_bounded.py: map scenes of growing size, each in a process whose address space is limited."""

import json
import os
import resource
import sys
from pathlib import Path

import psutil
import torch
from torch import nn

import swath
from swath.encoders import ENCODERS, register_encoder

if "window_mean" not in ENCODERS:  # pytest, which looks for examples here, has it already

    @register_encoder("window_mean")
    class WindowMean(nn.Module):
        """The same as the tests' own, which this process does not load."""

        def __init__(self, bands, size=64):
            super().__init__()
            self.num_features = bands

        def forward(self, images):
            """Return the mean of each band."""
            return images.mean(dim=(2, 3))


def within(limit, function):
    """Run in a process that may take so many bytes more of address space; return by how many it grew, or None."""
    read, write = os.pipe()
    process = os.fork()
    if process == 0:
        before = psutil.Process().memory_info().vms
        resource.setrlimit(resource.RLIMIT_AS, (before + limit, resource.RLIM_INFINITY))
        try:
            function()
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmPeak" in line)
        os.write(write, str(int(peak.split()[1]) * 1024 - before).encode())
        os._exit(0)
    _, status = os.waitpid(process, 0)
    os.close(write)
    with os.fdopen(read) as answer:
        return int(answer.read()) if status == 0 else None


def main(run, folder, limit, *scenes):
    """Print how much each map took."""
    torch.set_num_threads(1)
    folder = Path(folder)
    # Everything is imported and started before it is measured.
    swath.map_scenes(run, [scenes[0]], out=folder / "warm", stride=8)
    grown = [
        within(
            int(limit),
            lambda scene=scene: swath.map_scenes(run, [scene], out=folder / "maps", stride=4, tile=512),
        )
        for scene in scenes
    ]
    print(json.dumps(grown))


if __name__ == "__main__":
    main(*sys.argv[1:])
