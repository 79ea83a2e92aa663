"""What the Earth looks like on disk: sources of scenes, band contract, packed store, synthetic Earth."""

from swath.scenes.contract import BandContract
from swath.scenes.memory import ArrayScenes
from swath.scenes.open import open_images, open_scenes
from swath.scenes.source import SceneSource

__all__ = ["ArrayScenes", "BandContract", "SceneSource", "open_images", "open_scenes"]
