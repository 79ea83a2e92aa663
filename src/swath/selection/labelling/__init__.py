"""The labelling page: what a person says of each scene, kept the moment it is said, and the table made from it."""

from __future__ import annotations
