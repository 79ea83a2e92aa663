"""Formulas as MathML, made while the site is built: every browser draws it, and no script is fetched."""

import html
import re

from latex2mathml.converter import convert

_FORMULA = re.compile(r'<(span|div) class="arithmatex">\s*\\[(\[](.*?)\\[)\]]\s*</\1>', re.DOTALL)


def on_page_content(content: str, **_: object) -> str:
    r"""Replace each `\(...\)` and `\[...\]` that arithmatex marked; mkdocs calls this once per page."""
    return _FORMULA.sub(
        lambda found: convert(html.unescape(found[2]), display="inline" if found[1] == "span" else "block"),
        content,
    )
