"""What a sensor sees of the ground: season, sun, relief, air, clouds, optics and noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from swath.scenes.earth.ground import Ground
from swath.scenes.earth.noise import Float, Hash, Window, World, hash_lattice, mix_bits, unit
from swath.scenes.earth.spectra import MATERIALS, NATIVE_GSD_M, WAVELENGTH_NM, material_table

__all__ = ["MARGIN", "SENSORS", "Acquisition", "Sensor", "blur", "point_spread", "sense", "weather"]

# Pixels around a window that optics and slopes need.
MARGIN = 5
_RADIUS = 3


@dataclass(frozen=True)
class Sensor:
    """One instrument.

    Args:
        blur_m: Standard deviation of the point-spread function of its sharpest bands, in metres.
        noise: Standard deviation of the noise in reflectance.
        gain_slope: Change of the gain from the bluest to the most infrared band, about 1.
        offset: Constant error of the reflectance.
    """

    blur_m: float
    noise: float
    gain_slope: float
    offset: float


SENSORS = {
    "msi-a": Sensor(blur_m=5.0, noise=0.0025, gain_slope=0.0, offset=0.0),
    "msi-b": Sensor(blur_m=5.5, noise=0.0030, gain_slope=0.08, offset=0.004),
    "smallsat": Sensor(blur_m=8.5, noise=0.0070, gain_slope=-0.15, offset=0.012),
}


@dataclass(frozen=True)
class Acquisition:
    """The moment and instrument of each image of a batch; arrays of shape (batch,).

    Args:
        time_of_year: In [0, 4): 0 is mid-winter, 1 mid-spring, 2 mid-summer, 3 mid-autumn.
        sensor: Index into ``SENSORS``.
        sun_azimuth: Where the sun stands, radians clockwise from north.
        sun_tangent: Tangent of the sun's distance from the zenith: how strongly slopes show.
        gain: Error of the illumination correction, a factor on all bands.
        haze: Extra reflectance of the air at 490 nm.
        shadow: Share by which cloud shadow darkens, 0 for none.
        veil: Reflectance of thin cloud, 0 for none.
        key: Hash of the moment, for clouds and noise.
    """

    time_of_year: Float
    sensor: NDArray[np.int64]
    sun_azimuth: Float
    sun_tangent: Float
    gain: Float
    haze: Float
    shadow: Float
    veil: Float
    key: Hash


def weather(keys: Hash, season: NDArray[np.int64], sensor: NDArray[np.int64]) -> Acquisition:
    """Draw sun, air and clouds of images from their hashes.

    Args:
        keys: One hash per image.
        season: Index into ``SEASONS`` of each image.
        sensor: Index into ``SENSORS`` of each image.
    """

    def draw(number: int) -> Float:
        return unit(mix_bits(keys + np.uint32(0x9E3779B1 * number & 0xFFFFFFFF)), 4, 16)

    def some(number: int, chance: float, low: float, high: float) -> Float:
        amount = low + (high - low) * draw(number + 1)
        return np.where(draw(number) < chance, amount, 0).astype(np.float32)

    low_sun = np.array([1.0, 0.45, 0.15, 0.6], np.float32)[season]
    return Acquisition(
        time_of_year=((season + 0.9 * draw(1) - 0.45) % 4).astype(np.float32),
        sensor=sensor,
        sun_azimuth=np.radians(135 + 50 * draw(2)).astype(np.float32),
        sun_tangent=(0.5 + 1.1 * low_sun + 0.2 * draw(3)).astype(np.float32),
        gain=(0.82 + 0.34 * draw(4)).astype(np.float32),
        haze=(0.05 * draw(5) ** 2 + some(6, 0.2, 0.02, 0.06)).astype(np.float32),
        shadow=some(8, 0.3, 0.35, 0.65),
        veil=some(10, 0.15, 0.05, 0.2),
        key=keys,
    )


def point_spread(blur_px: NDArray[np.float64]) -> Float:
    """Return halves of Gaussian kernels with some standard deviations in pixels, shape (..., radius + 1)."""
    sigma = np.asarray(blur_px, np.float64)[..., None]
    half = np.exp(-0.5 * (np.arange(_RADIUS + 1) / sigma) ** 2)
    total = half[..., :1] + 2 * half[..., 1:].sum(axis=-1, keepdims=True)
    kernel: Float = (half / total).astype(np.float32)
    return kernel


def blur(image: Float, kernel: Float) -> Float:
    """Convolve the last two axes with a symmetric separable kernel; both axes lose ``MARGIN`` at each end.

    Written as shifted sums: the result does not depend on where a tile begins.

    Args:
        image: Shape (..., height + 2 margin, width + 2 margin).
        kernel: Half kernels that broadcast against the leading axes of ``image``, with taps last.
    """
    height, width = image.shape[-2] - 2 * MARGIN, image.shape[-1] - 2 * MARGIN
    taps = [kernel[..., tap, None, None] for tap in range(_RADIUS + 1)]
    down = image[..., MARGIN : MARGIN + height, :] * taps[0]
    for tap in range(1, _RADIUS + 1):
        pair = (
            image[..., MARGIN - tap : MARGIN - tap + height, :]
            + image[..., MARGIN + tap : MARGIN + tap + height, :]
        )
        pair *= taps[tap]
        down += pair
    across = down[..., MARGIN : MARGIN + width] * taps[0]
    for tap in range(1, _RADIUS + 1):
        pair = down[..., MARGIN - tap : MARGIN - tap + width] + down[..., MARGIN + tap : MARGIN + tap + width]
        pair *= taps[tap]
        across += pair
    return across


def blur_of(sensor: NDArray[np.int64], bands: NDArray[np.int64], gsd_m: float) -> NDArray[np.float64]:
    """Return the point spread of some bands of some sensors in pixels, shape (bands, batch)."""
    sharpest = np.array([entry.blur_m for entry in SENSORS.values()])[sensor]
    # A band sampled at g metres sees at least a square of that side: standard deviation g / sqrt(12).
    own = np.minimum(NATIVE_GSD_M[bands], 30) / np.sqrt(12.0)
    pixels: NDArray[np.float64] = np.maximum(sharpest[None, :], own[:, None]) / gsd_m
    return np.clip(pixels, 0.3, 1.2)


def sense(
    world: World, window: Window, ground: Ground, moment: Acquisition, bands: NDArray[np.int64], gsd_m: float
) -> NDArray[np.uint16]:
    """Return the images of some windows, reflectance times 10,000, shape (batch, bands, height, width).

    Args:
        world: The planet.
        window: Where, without margin.
        ground: The ground there, with ``MARGIN`` pixels more on each side.
        moment: When and with what.
        bands: Indices of the wanted bands.
        gsd_m: Pixel size in metres.
    """
    table = material_table(moment.time_of_year)[:, :, bands].transpose(2, 0, 1).reshape(len(bands), -1)
    base = (np.arange(len(window.top)) * len(MATERIALS))[:, None, None]
    main = table.take(ground.material + base, axis=1)
    reflectance = table.take(ground.under + base, axis=1)
    main -= reflectance
    main *= ground.share
    reflectance += main

    to_sun = ground.slope_east * np.sin(moment.sun_azimuth)[:, None, None]
    to_sun -= ground.slope_south * np.cos(moment.sun_azimuth)[:, None, None]
    light = np.clip(1 - to_sun * moment.sun_tangent[:, None, None], 0.45, 1.6) * moment.gain[:, None, None]
    reflectance *= ground.brightness * light.astype(np.float32)
    kernel = point_spread(blur_of(moment.sensor, bands, gsd_m))
    image = blur(reflectance, kernel)
    _air(world, window, moment, bands, image)
    _electronics(window, moment, bands, image)
    image *= 10000
    # 0 is nodata, so the darkest valid number is 1.
    return np.clip(np.rint(image), 1, 65535).astype(np.uint16).swapaxes(0, 1)


def _air(world: World, window: Window, moment: Acquisition, bands: NDArray[np.int64], image: Float) -> None:
    """Add haze, cloud shadow and thin cloud, in place; image is (bands, batch, height, width)."""
    colour = (490 / WAVELENGTH_NM[bands]) ** 2.2
    if moment.shadow.any() or moment.veil.any():
        cloud = world.noise("cloud", window, 32, moment.key)
        cloud += 0.4 * world.noise("cloud", window, 8, moment.key)
        # Skylight still reaches shadows, most of it blue.
        depth = moment.shadow[:, None, None] * np.clip(cloud * 1.2, 0, 1)
        image *= 1 - depth * (1 - 0.35 * np.minimum(colour, 1))[:, None, None, None]
        veil = moment.veil[:, None, None] * np.clip(0.3 - cloud * 0.6, 0, 1)
        image += veil * (0.95 - image)
    if moment.haze.any():
        uneven = 1 + 0.2 * world.noise("haze", window, 64, moment.key)
        path = moment.haze[:, None, None] * uneven
        image *= 1 - 1.2 * path
        image += path * colour[:, None, None, None]


def _electronics(window: Window, moment: Acquisition, bands: NDArray[np.int64], image: Float) -> None:
    """Add gain, offset and noise of the sensor, in place."""
    entries = list(SENSORS.values())
    place = (bands / (len(WAVELENGTH_NM) - 1) - 0.5).astype(np.float32)[:, None]
    slope = np.array([entry.gain_slope for entry in entries], np.float32)[moment.sensor]
    image *= (1 + place * slope)[:, :, None, None]
    image += np.array([entry.offset for entry in entries], np.float32)[moment.sensor][:, None, None]
    spread = np.array([entry.noise for entry in entries], np.float32)[moment.sensor][:, None, None]
    per_pixel = hash_lattice(window.rows, window.columns, moment.key[:, None, None])
    for position, band in enumerate(bands):
        # The sum of four random bytes is close to normal: mean 510, standard deviation 147.8.
        noise = mix_bits(per_pixel + np.uint32(0x632BE5AB * (int(band) + 1) & 0xFFFFFFFF))
        pairs = (noise & np.uint32(0x00FF00FF)) + ((noise >> np.uint32(8)) & np.uint32(0x00FF00FF))
        pairs += pairs >> np.uint32(16)
        total = (pairs & np.uint32(0xFFFF)).astype(np.float32) - 510
        total *= spread / 147.8
        image[position] += total
