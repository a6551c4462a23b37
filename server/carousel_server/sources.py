"""Where settings come from: flags, then `CAROUSEL_*` variables, then a YAML file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    YamlConfigSettingsSource,
)

from carousel_server.errors import ConfigError
from carousel_server.problems import sentences


class Sources(BaseSettings):
    """Settings that are read from all of them."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put the YAML file behind flags and environment."""
        del dotenv_settings, file_secret_settings
        return init_settings, env_settings, YamlConfigSettingsSource(settings_cls)


S = TypeVar("S", bound=Sources)


def load(settings: type[S], flags: Mapping[str, Any], config: Path | None) -> S:
    """Return the settings from flags, the environment and a YAML file.

    Raises:
        ConfigError: a setting is missing or wrong; the message names it.

    """
    if config is not None:
        _check_file(config)

    class Configured(settings):  # type: ignore[valid-type, misc]
        model_config = SettingsConfigDict(yaml_file=config)

    try:
        found: S = Configured(**flags)
    except ValidationError as error:
        raise ConfigError("; ".join(sentences(error, settings, flags, config))) from error
    except SettingsError as error:
        raise ConfigError(str(error)) from error
    return found


def _check_file(config: Path) -> None:
    """Refuse a file that is no YAML mapping, before the reading of settings stumbles on it."""
    if not config.is_file():
        raise ConfigError(f"--config {config}: there is no such file")
    try:
        found = yaml.safe_load(config.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--config {config}: it can't be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        why = " ".join(str(error).split())
        raise ConfigError(f"--config {config}: it is no YAML: {why}") from error
    if not isinstance(found, dict | None):
        raise ConfigError(
            f"--config {config}: a mapping of settings was expected, such as 'slots: 100'"
        )
