"""Image to features: one file per family; any timm model by name."""

from swath.encoders import scene_mixer as _scene_mixer
from swath.encoders import small_resnet as _small_resnet
from swath.encoders.model import ENCODERS, SceneModel, build_model, list_encoders, register_encoder

__all__ = ["ENCODERS", "SceneModel", "build_model", "list_encoders", "register_encoder"]
