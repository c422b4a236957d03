"""``gateway.toml`` and the environment as frozen settings; the only reader of ``os.environ``."""

from gateway.settings.checking import is_local
from gateway.settings.discovering import with_members
from gateway.settings.loading import DEFAULT_FILE, Examination, examine, inherits_sockets, load_settings
from gateway.settings.model import (
    AuthSettings,
    CatalogueSettings,
    EndpointSettings,
    GroupSettings,
    IdempotencySettings,
    LogSettings,
    McpSettings,
    Member,
    ProbeSettings,
    ServerSettings,
    Settings,
    TracesSettings,
)
from gateway.settings.template import FIRST_QUERY, settings_template

__all__ = [
    "DEFAULT_FILE",
    "FIRST_QUERY",
    "AuthSettings",
    "CatalogueSettings",
    "EndpointSettings",
    "Examination",
    "GroupSettings",
    "IdempotencySettings",
    "LogSettings",
    "McpSettings",
    "Member",
    "ProbeSettings",
    "ServerSettings",
    "Settings",
    "TracesSettings",
    "examine",
    "inherits_sockets",
    "is_local",
    "load_settings",
    "settings_template",
    "with_members",
]
