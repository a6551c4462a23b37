"""Settings as flags of a command line."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from pydantic_settings import BaseSettings


def add_flags(parser: argparse.ArgumentParser, settings: type[BaseSettings]) -> None:
    """Add --config, and a flag for each setting; those that are not given are in no result."""
    parser.add_argument("--config", metavar="FILE", help="YAML file with settings")
    for name, field in settings.model_fields.items():
        options: dict[str, Any] = {"dest": name, "default": argparse.SUPPRESS}
        if field.annotation is bool:
            options["action"] = "store_true"
        else:
            options["metavar"] = name.rsplit("_", maxsplit=1)[-1].upper()
        none = field.is_required() or field.default is None
        default = "" if none else f" (default: {field.default})"
        text = f"{field.description}{default}".replace("%", "%%")
        parser.add_argument(f"--{name.replace('_', '-')}", help=text, **options)


def config_file(given: dict[str, Any]) -> Path | None:
    """Take the YAML file out of what was given, or out of the environment."""
    config = given.pop("config") or os.environ.get("CAROUSEL_CONFIG")
    return Path(config) if config else None
