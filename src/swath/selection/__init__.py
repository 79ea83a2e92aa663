"""Which scenes: to keep, to learn from first, to have labelled next."""

from __future__ import annotations
