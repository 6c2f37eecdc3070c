"""The one settings file: TOML, at VPIPE_CONFIG or in the user's config folder.

    jobs = 2                      # shared options, for every command that has them
    cache-dir = "/data/vpipe"

    [flow]                        # one command's options
    preset = "fast"

    [synth.clips]                 # a command of a group
    fps = "30"

Precedence: flag > VPIPE_JOBS and other VPIPE_* > this file > default.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from vpipe.cli.options import SHARED_SETTINGS
from vpipe.documents import read_document
from vpipe.errors import UsageError


def settings_path() -> tuple[Path, bool]:
    """Where the settings file is, and whether VPIPE_CONFIG named it (then it must exist)."""
    named = os.environ.get("VPIPE_CONFIG")
    if named:
        return Path(named), True
    import platformdirs  # here: a command with VPIPE_CONFIG set does not need it

    return Path(platformdirs.user_config_dir("vpipe", appauthor=False)) / "config.toml", False


def settings_for(name: str, command: Any, commands: Collection[str]) -> dict[str, Any]:
    """Defaults of one command from the settings file, as Typer's `default_map` wants them.

    `command` is the command or group object, `commands` every command's name. Raises UsageError for a file
    that cannot be read, a key that no command has, or one that this command has not.
    """
    path, named = settings_path()
    try:
        data = tomllib.loads(read_document(path).decode())
    except FileNotFoundError:
        if named:
            message = f"{path}: no such file, but VPIPE_CONFIG names it"
            raise UsageError("bad_settings", message) from None
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError("bad_settings", f"{path}: not a readable settings file: {error}") from None
    shared = {_option(key): value for key, value in data.items() if key not in commands}
    for key in shared:
        if key not in SHARED_SETTINGS:
            allowed = ", ".join(key.replace("_", "-") for key in SHARED_SETTINGS)
            message = f"{path}: '{key}' is no command and no shared setting ({allowed})"
            raise UsageError("bad_settings", message)
    return _defaults(command, data.get(name, {}), shared, f"{path}: [{name}]")


def _defaults(command: Any, table: Any, shared: dict[str, Any], where: str) -> dict[str, Any]:
    """The shared settings that `command` has, overlaid with its own table; a group's go to its commands."""
    if not isinstance(table, dict):
        raise UsageError("bad_settings", f"{where} must be a table of options")
    children: dict[str, Any] = getattr(command, "commands", {})
    options = {param.name for param in command.params if param.param_type_name == "option"}
    defaults: dict[str, Any] = {key: value for key, value in shared.items() if key in options}
    for key, value in table.items():
        if key not in children and _option(key) not in options:
            allowed = ", ".join(sorted(children) or sorted(option.replace("_", "-") for option in options))
            raise UsageError("bad_settings", f"{where} has no option '{key}'; it has {allowed}")
        if key not in children:
            defaults[_option(key)] = value
    for child, its_command in children.items():
        defaults[child] = _defaults(its_command, table.get(child, {}), shared, f"{where}.{child}")
    return defaults


def _option(key: str) -> str:
    return key.replace("-", "_")
