"""One architecture a file. A new file here with one `@register("name")` is known everywhere."""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
