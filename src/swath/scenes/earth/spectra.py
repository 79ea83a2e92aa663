"""What the ground reflects: land covers, materials, their spectra and how the seasons change them.

The spectra are rounded typical reflectances of the kind that spectral libraries of field and laboratory
measurements (USGS Spectral Library, ECOSTRESS library) and class means of Sentinel-2 scenes show. They are no
copies of particular entries; take them as right to about a fifth.
"""

from __future__ import annotations

import numpy as np

from swath.scenes.earth.noise import Float

__all__ = ["BANDS", "CLASSES", "MATERIALS", "NATIVE_GSD_M", "SEASONS", "WAVELENGTH_NM", "material_table"]

CLASSES = (
    "water",
    "broadleaf-forest",
    "conifer-forest",
    "crop",
    "orchard",
    "grass",
    "bare-soil",
    "buildings",
    "road",
    "sand",
    "wetland",
)

SEASONS = ("winter", "spring", "summer", "autumn")

BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
WAVELENGTH_NM = np.array([443, 490, 560, 665, 705, 740, 783, 842, 865, 945, 1375, 1610, 2190], np.float32)
# Sentinel-2 measures its bands at 10, 20 and 60 m; all are delivered on the 10 m grid here.
NATIVE_GSD_M = np.array([60, 10, 10, 10, 20, 20, 20, 10, 20, 60, 60, 20, 20], np.float32)

# Reflectance in thousandths, in the order of BANDS.
_ENDMEMBERS: dict[str, tuple[int, ...]] = {
    "leaf": (25, 30, 60, 32, 95, 250, 325, 355, 370, 350, 4, 185, 85),
    "needle": (16, 20, 34, 21, 50, 130, 160, 178, 188, 180, 3, 86, 38),
    "cereal": (28, 34, 74, 36, 108, 320, 415, 445, 460, 430, 5, 195, 90),
    "sward": (33, 42, 82, 52, 122, 270, 328, 360, 378, 360, 5, 240, 128),
    "flower": (32, 45, 135, 118, 190, 335, 395, 420, 430, 405, 5, 215, 110),
    "straw": (68, 85, 130, 170, 200, 222, 242, 268, 282, 285, 5, 325, 240),
    "litter": (40, 50, 66, 82, 96, 118, 132, 150, 165, 168, 4, 195, 132),
    "reed": (36, 46, 68, 66, 92, 150, 180, 200, 212, 205, 4, 165, 95),
    "soil-brown": (55, 70, 100, 140, 158, 175, 190, 206, 220, 225, 5, 290, 250),
    "soil-dark": (36, 45, 60, 80, 90, 100, 110, 121, 130, 134, 4, 175, 152),
    "soil-light": (115, 145, 198, 250, 270, 287, 300, 316, 330, 332, 6, 400, 360),
    "water-clear": (40, 38, 32, 16, 12, 9, 8, 7, 6, 5, 1, 3, 2),
    "water-turbid": (58, 68, 92, 76, 66, 36, 32, 28, 22, 16, 1, 5, 3),
    "sand-dry": (125, 155, 210, 260, 282, 298, 310, 325, 335, 332, 8, 405, 375),
    "sand-wet": (75, 92, 125, 152, 163, 170, 176, 182, 186, 182, 4, 190, 152),
    "asphalt": (72, 82, 95, 106, 111, 116, 121, 126, 131, 134, 3, 152, 140),
    "gravel": (145, 178, 212, 240, 250, 258, 266, 272, 280, 282, 5, 312, 290),
    "tile": (66, 78, 102, 170, 198, 220, 236, 252, 264, 268, 5, 340, 312),
    "slate": (98, 114, 130, 140, 146, 151, 156, 161, 166, 168, 4, 180, 168),
    "metal": (320, 355, 390, 410, 418, 425, 430, 438, 442, 440, 9, 455, 420),
}

Mixture = dict[str, float]


def _always(mixture: Mixture) -> tuple[Mixture, Mixture, Mixture, Mixture]:
    return (mixture, mixture, mixture, mixture)


# Share of each endmember in winter, spring, summer and autumn (northern mid-latitudes).
_MATERIALS: dict[str, tuple[Mixture, Mixture, Mixture, Mixture]] = {
    "water-clear": _always({"water-clear": 1.0}),
    "water-turbid": _always({"water-turbid": 1.0}),
    "broadleaf": (
        {"litter": 0.85, "leaf": 0.15},
        {"leaf": 0.85, "sward": 0.15},
        {"leaf": 1.0},
        {"leaf": 0.45, "straw": 0.22, "litter": 0.33},
    ),
    "conifer": (
        {"needle": 0.9, "litter": 0.1},
        {"needle": 0.95, "leaf": 0.05},
        {"needle": 0.9, "leaf": 0.1},
        {"needle": 0.92, "litter": 0.08},
    ),
    "forest-floor": _always({"litter": 0.6, "soil-dark": 0.4}),
    "winter-cereal": (
        {"cereal": 0.35, "soil-brown": 0.65},
        {"cereal": 0.95, "soil-brown": 0.05},
        {"straw": 0.8, "cereal": 0.2},
        {"cereal": 0.3, "soil-brown": 0.7},
    ),
    "maize": (
        {"straw": 0.45, "soil-brown": 0.55},
        {"cereal": 0.3, "soil-brown": 0.7},
        {"cereal": 0.92, "leaf": 0.08},
        {"straw": 0.65, "cereal": 0.35},
    ),
    "rapeseed": (
        {"cereal": 0.55, "soil-brown": 0.45},
        {"flower": 0.9, "cereal": 0.1},
        {"straw": 0.7, "soil-brown": 0.3},
        {"cereal": 0.5, "soil-brown": 0.5},
    ),
    "root-crop": (
        {"sward": 0.3, "soil-dark": 0.7},
        {"cereal": 0.35, "soil-dark": 0.65},
        {"cereal": 0.85, "leaf": 0.15},
        {"cereal": 0.7, "soil-dark": 0.3},
    ),
    "orchard-tree": (
        {"litter": 0.75, "leaf": 0.25},
        {"leaf": 0.8, "metal": 0.04, "sward": 0.16},
        {"leaf": 1.0},
        {"leaf": 0.6, "straw": 0.2, "litter": 0.2},
    ),
    "grass": (
        {"sward": 0.55, "straw": 0.2, "litter": 0.25},
        {"sward": 0.8, "cereal": 0.2},
        {"sward": 0.7, "straw": 0.3},
        {"sward": 0.75, "straw": 0.15, "litter": 0.1},
    ),
    "dry-grass": (
        {"sward": 0.25, "straw": 0.45, "litter": 0.3},
        {"sward": 0.75, "straw": 0.25},
        {"sward": 0.3, "straw": 0.7},
        {"sward": 0.45, "straw": 0.55},
    ),
    "reed": (
        {"reed": 0.4, "straw": 0.4, "litter": 0.2},
        {"reed": 0.8, "sward": 0.2},
        {"reed": 0.7, "leaf": 0.3},
        {"reed": 0.6, "straw": 0.4},
    ),
    "soil-brown": _always({"soil-brown": 1.0}),
    "soil-dark": _always({"soil-dark": 1.0}),
    "soil-light": _always({"soil-light": 0.6, "soil-brown": 0.4}),
    "sand-dry": _always({"sand-dry": 0.9, "straw": 0.1}),
    "sand-wet": _always({"sand-wet": 1.0}),
    "asphalt": _always({"asphalt": 1.0}),
    "gravel": _always({"gravel": 0.7, "soil-brown": 0.3}),
    "tile": _always({"tile": 1.0}),
    "slate": _always({"slate": 1.0}),
    "metal": _always({"metal": 0.85, "slate": 0.15}),
}

# Name -> number, the code that the ground uses for a material.
MATERIALS: dict[str, int] = {name: number for number, name in enumerate(_MATERIALS)}


def _by_season() -> Float:
    """Return reflectances of shape (seasons, materials, bands)."""
    table = np.zeros((len(SEASONS), len(_MATERIALS), len(BANDS)), np.float32)
    for material, mixtures in enumerate(_MATERIALS.values()):
        for season, mixture in enumerate(mixtures):
            for endmember, share in mixture.items():
                table[season, material] += np.array(_ENDMEMBERS[endmember], np.float32) * share / 1000
    return table


_BY_SEASON = _by_season()


def material_table(time_of_year: Float) -> Float:
    """Return the reflectance of every material at some moments of the year.

    Args:
        time_of_year: Moments, shape (moments,), in [0, 4): 0 is mid-winter, 1 mid-spring, 2 mid-summer and
            3 mid-autumn; in between, the plants change at an even pace.

    Returns:
        Reflectances in [0, 1], shape (moments, materials, bands).
    """
    before = np.floor(time_of_year).astype(np.int64)
    share = (time_of_year - before).astype(np.float32)[:, None, None]
    earlier, later = _BY_SEASON[before % len(SEASONS)], _BY_SEASON[(before + 1) % len(SEASONS)]
    table: Float = earlier * (1 - share) + later * share
    return table
