"""What the administrator sets, from the environment that the chart fills."""

import logging
import math
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from rtj_operator.core.observed import Settings
from rtj_operator.leader import LEASE_NAME

LEAST_NODE_SILENCE = 11.0
"""In seconds. A kubelet renews its node's Lease every 10, so every node is silent for as long."""


class ConfigError(Exception):
    """An environment variable makes no sense."""


@dataclass(frozen=True)
class Config:
    """The operator's settings; `docs/operator.md` lists the variables."""

    namespaces: tuple[str, ...] = ()
    """Namespaces to serve; empty means all."""
    operator_namespace: str = "default"
    lease: str = LEASE_NAME
    identity: str = ""
    resync_seconds: float = 300.0
    workers: int = 32
    log_level: str = "INFO"
    health_port: int = 8080
    settings: Settings = field(default_factory=Settings)

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> Self:
        """Read the variables. Raises ConfigError naming the one that is wrong."""
        names = env.get("RTJ_NAMESPACES", "")
        return cls(
            namespaces=tuple(name.strip() for name in names.split(",") if name.strip()),
            operator_namespace=env.get("RTJ_OPERATOR_NAMESPACE") or cls.operator_namespace,
            lease=env.get("RTJ_LEASE") or cls.lease,
            identity=env.get("RTJ_IDENTITY") or f"{socket.gethostname()}-{os.getpid()}",
            resync_seconds=_number(env, "RTJ_RESYNC_SECONDS", cls.resync_seconds, least=1),
            workers=int(_number(env, "RTJ_WORKERS", cls.workers, least=1)),
            log_level=_level(env, "RTJ_LOG_LEVEL", cls.log_level),
            health_port=int(_number(env, "RTJ_HEALTH_PORT", cls.health_port, least=1)),
            settings=Settings(
                node_silence=_number(
                    env, "RTJ_NODE_SILENCE_SECONDS", Settings.node_silence, LEAST_NODE_SILENCE
                )
            ),
        )


def _number(env: Mapping[str, str], name: str, default: float, least: float) -> float:
    text = env.get(name)
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ConfigError(f"{name}={text!r} is not a number")
    if value < least:
        raise ConfigError(f"{name}={text!r} must be at least {least:g}")
    return value


def _level(env: Mapping[str, str], name: str, default: str) -> str:
    level, levels = (env.get(name) or default).upper(), logging.getLevelNamesMapping()
    if level not in levels:
        raise ConfigError(f"{name}={env[name]!r} must be one of {', '.join(levels)}")
    return level
