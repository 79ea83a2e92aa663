"""The label map's class names and colours as a QGIS style."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from swath.mapping.colours import class_colours
from swath.mapping.finished import FinishedRasters

__all__ = ["write_style"]

# What XML 1.0 cannot hold, not even escaped.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_style(rasters: FinishedRasters, path: Path) -> None:
    """Write the style that QGIS loads by itself with the label map, as both have the same name.

    Exclusive classes are all in it. QGIS shows one band by a palette, so where classes may hold together it shows the
    first class's; the layer's properties change the band.

    Args:
        rasters: The map.
        path: Where to.
    """
    classes = rasters.contract.classes
    colours = [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in class_colours(classes)]
    if rasters.contract.exclusive:
        entries = [(value, colours[value], name, 255) for value, name in enumerate(classes)]
    else:
        entries = [(0, "#ffffff", "absent", 0), (1, colours[0], classes[0], 255)]
    root = ElementTree.Element("qgis", version="3.22", styleCategories="Symbology", swath=rasters.stamp)
    pipe = ElementTree.SubElement(root, "pipe")
    renderer = ElementTree.SubElement(
        pipe, "rasterrenderer", type="paletted", band="1", opacity="1", alphaBand="-1", nodataColor=""
    )
    palette = ElementTree.SubElement(renderer, "colorPalette")
    for value, colour, name, alpha in entries:
        label = _NOT_XML.sub("\ufffd", name)
        ElementTree.SubElement(
            palette, "paletteEntry", value=str(value), color=colour, label=label, alpha=str(alpha)
        )
    ElementTree.indent(root)
    content = ElementTree.tostring(root, encoding="unicode", xml_declaration=False)
    path.write_text(
        f"<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n{content}\n", encoding="utf-8"
    )
