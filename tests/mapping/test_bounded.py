"""Memory does not grow with the scene: maps of 1, 4 and 16 times the pixels under one limit of the address space."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="address spaces are read from /proc")
@pytest.mark.parametrize("exclusive", [True, False])
def test_memory_is_flat_at_1_4_and_16_times_the_pixels(make: Any, tmp_path: Path, exclusive: bool) -> None:
    run = make.run(tmp_path / "run", make.model(size=8, exclusive=exclusive))
    scenes = [
        make.reflectance(tmp_path / f"s{side}.tif", make.noise(side, side).astype(np.uint16))
        for side in (1024, 2048, 4096)
    ]
    limit = 2**30
    script = Path(__file__).with_name("bounded.py")
    done = subprocess.run(
        [sys.executable, str(script), str(run), str(tmp_path), str(limit), *map(str, scenes)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    grown = json.loads(done.stdout.splitlines()[-1])
    assert None not in grown, f"more than {limit} bytes: {done.stderr}"
    # GDAL's cache of blocks fills up to its own limit of 256 MiB, whatever the scene's size.
    assert grown[2] - grown[1] < 2**28, grown
