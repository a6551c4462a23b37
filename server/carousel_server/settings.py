"""The server's settings: flags, then `CAROUSEL_*` variables, then a YAML file, then defaults."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from carousel_server.addresses import is_loopback, split_address
from carousel_server.problems import Expected
from carousel_server.sources import Sources, load

_MIB = 1024 * 1024
_DEVICE = r"auto|cpu|cuda(:\d+)?"
_INT32_MAX = 2**31 - 1
_MOST_THREADS = 4096


def _no_truth_value(value: Any) -> Any:
    """Refuse YAML's `true`, which Python takes for 1, by making it what no number is."""
    return str(value) if isinstance(value, bool) else value


def _auto_is_zero(value: object) -> object:
    return 0 if value == "auto" else value


def _host_and_port(value: str) -> str:
    split_address(value)
    return value


Address = Annotated[str, AfterValidator(_host_and_port)]
Threads = Annotated[
    int,
    BeforeValidator(_no_truth_value),
    BeforeValidator(_auto_is_zero),
    Field(ge=0, le=_MOST_THREADS),
    Expected(f"auto, or a whole number from 0 to {_MOST_THREADS:,}"),
]
Count = Annotated[int, BeforeValidator(_no_truth_value), Field(ge=1)]
# What gRPC or a run counts in 32 bits.
SmallCount = Annotated[int, BeforeValidator(_no_truth_value), Field(ge=1, le=_INT32_MAX)]
# 30 years, and still a number of milliseconds that the protocol can hold.
Seconds = Annotated[float, BeforeValidator(_no_truth_value), Field(ge=0, le=1e9)]


class Settings(Sources):
    """Everything that can be chosen; read once, at the start."""

    model_config = SettingsConfigDict(env_prefix="CAROUSEL_", extra="forbid", frozen=True)

    models: Path = Field(description="folder of NAME/VERSION/model.onnx")
    address: Address = Field("127.0.0.1:8001", description="HOST:PORT for gRPC; port 0: a free one")
    metrics_address: Address = Field(
        "127.0.0.1:8002", description="HOST:PORT for /metrics, /healthz and /readyz"
    )
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
    math: Literal["float32", "tf32", "float16", "bfloat16"] = Field(
        "float32",
        description="on a GPU: the numbers that matrix products are made in: float32, tf32, "
        "float16 or bfloat16; states stay as the model has them",
    )
    autotune: bool = Field(
        default=False,
        description="on a GPU: measure at the start which way of running each batch is fastest",
    )
    tuning_folder: str = Field(
        "",
        description="folder in which --autotune keeps what it measured for the next start; "
        "empty: nowhere",
    )
    allow_cpu_nodes: bool = Field(
        default=False,
        description="on a GPU: serve models some of whose nodes ONNX Runtime runs on the CPU",
    )
    pool_bytes: Annotated[float, BeforeValidator(_no_truth_value)] = Field(
        0.8,
        gt=0,
        allow_inf_nan=False,
        description="bytes of the device's memory that a model's pool may take; up to 1: that part "
        "of what is free when it is loaded",
    )
    threads: Threads = Field(
        0, description="threads inside a large run; auto or 0: one for every core"
    )
    busy_poll_us: Annotated[int, BeforeValidator(_no_truth_value)] = Field(
        200,
        ge=0,
        le=1_000_000,
        description="microseconds that the event loop polls before it sleeps, while messages "
        "follow each other as fast; 0: it sleeps at once",
    )
    slots: Count = Field(
        16_384,
        le=2**31 - 2,
        description="sessions of a model on the device at a time",
    )
    max_sessions: Count = Field(1_000_000, description="sessions that the server has room for")
    max_message_bytes: SmallCount = Field(
        64 * _MIB,
        ge=64 * 1024,
        description="the largest gRPC message, in bytes",
    )
    max_chunk: SmallCount = Field(65_536, description="the longest chunk, in steps")
    max_steps_per_tick: SmallCount = Field(
        256, description="longer chunks are cut into pieces of so many steps, or fewer"
    )
    queue_rows: Count = Field(65_536, description="rows that may wait for a model")
    queue_bytes: Count = Field(256 * _MIB, description="bytes of inputs that may wait for a model")
    park_after: Seconds = Field(
        0.0,
        description="seconds after which an idle session's state leaves the device; "
        "0: only when another one needs its slot",
    )
    state_dtype: Literal["float32", "float16"] = Field(
        "float32",
        description="how parked float32 states are kept: float32, or float16 in half the memory",
    )
    store: str = Field(
        "memory",
        description="where sessions are kept: memory, file:FOLDER, "
        "redis://[USER:PASSWORD@]HOST:PORT/DB, or rediss://… with TLS",
    )
    advertise: str = Field(
        "",
        description="HOST:PORT at which clients find this server when sessions are here; "
        "empty: --address, if that is one",
    )
    checkpoint_every_steps: Count = Field(
        100, description="steps after which a session is saved to the store"
    )
    checkpoint_every_ms: Count = Field(
        1000, description="milliseconds after which a session that was stepped is saved"
    )
    durability: Literal["relaxed", "strict"] = Field(
        "relaxed",
        description="relaxed, or strict: no answer leaves before the store has what it tells of",
    )
    lease_seconds: Annotated[float, BeforeValidator(_no_truth_value)] = Field(
        2.0, ge=0.1, le=3600, description="seconds after which others take over from a dead server"
    )
    store_buffer_bytes: Count = Field(
        256 * _MIB, description="bytes of checkpoints that may wait for the store"
    )
    snapshot_key_file: Path | None = Field(
        None, description="file with a key that snapshots are signed with; servers share it"
    )
    expire_after: Seconds = Field(
        3600.0, description="seconds that a session may be idle; 0: for ever"
    )
    reload_seconds: Seconds = Field(
        5.0,
        description="seconds between looks at the repository for new versions; 0: only on SIGHUP",
    )
    migrate: Literal["none", "compatible"] = Field(
        "none",
        description="whether open sessions go on with a new version: none, or compatible: "
        "where inputs, outputs and states are the same",
    )
    drain_seconds: Seconds = Field(30.0, description="seconds that a stop waits for what is queued")
    tls_cert: Path | None = Field(
        None,
        description="file with the certificate, and those between it and the authority, in PEM "
        "form; gRPC is then served with TLS",
    )
    tls_key: Path | None = Field(
        None, description="file with the certificate's private key, in PEM form, without passphrase"
    )
    tls_client_ca: Path | None = Field(
        None,
        description="file with the authorities' certificates that clients' certificates must be "
        "signed by; without it clients are not asked for any",
    )
    insecure: bool = Field(
        default=False, description="serve other machines without TLS, without asking who they are"
    )
    otlp_traces_endpoint: Annotated[
        str, Expected("http://HOST:PORT, https://HOST:PORT or nothing")
    ] = Field(
        "",
        pattern=r"^(https?://[^/@\s]+:\d+/?)?$",
        description="http://HOST:PORT or https://HOST:PORT of an OpenTelemetry collector that gets "
        "a span of each request, by OTLP over gRPC; empty: none",
    )
    log_format: Literal["auto", "json", "text"] = Field(
        "auto", description="auto (text on a terminal), json or text"
    )

    @field_validator("device")
    @classmethod
    def _known_device(cls, value: str) -> str:
        if not re.fullmatch(_DEVICE, value):
            raise ValueError("auto, cpu, cuda or cuda:N was expected")
        return value

    @field_validator("advertise")
    @classmethod
    def _host_and_port_or_nothing(cls, value: str) -> str:
        return _host_and_port(value) if value else value

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Settings:
        if (self.tls_cert is None) != (self.tls_key is None):
            given, missing = ("cert", "key") if self.tls_key is None else ("key", "cert")
            raise ValueError(f"--tls-{given} is given and --tls-{missing} is not: TLS takes both")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError(
                "--tls-client-ca asks clients for certificates, which takes --tls-cert and "
                "--tls-key too"
            )
        return self

    @model_validator(mode="after")
    def _loopback_unless_said(self) -> Settings:
        # Metrics are plain HTTP also where gRPC has TLS: they hold no data of sessions, and nothing
        # can be asked for there. So they follow the same rule.
        for name in ("address", "metrics_address"):
            host, _ = split_address(getattr(self, name))
            if not is_loopback(host) and not self.insecure and self.tls_cert is None:
                raise ValueError(
                    f"{name} {getattr(self, name)} can be reached from other machines, without TLS "
                    "and without asking who they are; use a loopback address, give --tls-cert and "
                    "--tls-key, or say --insecure"
                )
        return self

    def shown(self) -> dict[str, Any]:
        """Return the settings as a log may show them: without the store's password."""
        values = self.model_dump(mode="json")
        return values | {"store": re.sub(r"//[^/]*@", "//***@", self.store)}

    @property
    def run_threads(self) -> int:
        """The threads inside a large run: as asked for, or as many as there are cores."""
        return self.threads or os.cpu_count() or 1


def load_settings(flags: Mapping[str, Any], config: Path | None) -> Settings:
    """Return the settings from flags, the environment and a YAML file.

    Raises:
        ConfigError: a setting is missing or wrong; the message names it.

    """
    return load(Settings, flags, config)
