"""Whether requests are traced.

Off by default: then there is no `Tracing`, nobody asks for times, and nothing of OpenTelemetry is
imported.
"""

from __future__ import annotations

from carousel_server.errors import ConfigError
from carousel_server.settings import Settings
from carousel_server.spans import Tracing


def open_tracing(settings: Settings, *, version: str, server_id: int) -> Tracing | None:
    """Return what `--otlp-traces-endpoint` asks for; None where it is empty.

    Raises:
        ConfigError: OpenTelemetry is not installed, or is set up wrongly.

    """
    if not settings.otlp_traces_endpoint:
        return None
    try:
        from carousel_server.otel import open_otel  # noqa: PLC0415 - not imported unless asked for
    except ImportError as error:
        raise ConfigError(
            "--otlp-traces-endpoint takes OpenTelemetry, which is not installed: "
            f"install carousel-server[otel] ({error})"
        ) from error
    return open_otel(settings.otlp_traces_endpoint, version=version, server_id=server_id)
