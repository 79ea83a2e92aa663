"""Every registered encoder, and one timm model of each kind, keeps the contract."""

from swath.encoders import ENCODERS
from swath.testing import EncoderTester

TOO_SMALL = {"scene_mixer": 3, "small_resnet": 15}
CASES = {name: {"sizes": (32, 64), "too_small": TOO_SMALL.get(name)} for name in ENCODERS} | {
    "resnet10t": {"sizes": (32, 64), "band_counts": (1, 6, 13)},
    # Pools to more than it calls num_features.
    "mobilenetv3_small_050": {"sizes": (32, 48), "band_counts": (1, 13)},
    # Position embeddings are built for one size.
    "vit_tiny_patch16_224": {"sizes": (32, 64), "band_counts": (1, 13), "too_small": 15},
}

for _name, _attributes in CASES.items():
    _title = "Test" + _name.title().replace("_", "")
    globals()[_title] = type(_title, (EncoderTester,), {"name": _name, **_attributes, "__module__": __name__})
