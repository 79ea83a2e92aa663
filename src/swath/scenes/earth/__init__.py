"""The synthetic Earth: scenes of a made-up planet with the truth to the pixel, for trials and tests."""

from swath.scenes.earth.source import SyntheticEarth
from swath.scenes.earth.whole import WholeScene

__all__ = ["SyntheticEarth", "WholeScene"]
