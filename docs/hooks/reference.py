"""How docstrings become the reference: two small changes to what griffe reads from the source."""

import re
from typing import Any

from griffe import Extension, Module, Object


class Reference(Extension):
    """Named in mkdocs.yml; griffe calls its methods while the reference is built."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Rename `Example:`; griffe only knows `Examples:` as the section whose content is code."""
        if obj.docstring:
            obj.docstring.value = re.sub(r"(?m)^(\s*)Example:$", r"\1Examples:", obj.docstring.value)

    def on_module(self, *, mod: Module, **_: Any) -> None:
        """Leave out what a package's front re-exports, so that each name stands once, in its own module."""
        if mod.is_init_module:
            for name in [name for name, member in mod.members.items() if member.is_alias]:
                del mod.members[name]
            mod.exports = None
