"""The run directory on the disk."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from synthrec.config.base import Settings


class Storage(Settings):
    """The run directory on the disk."""

    encrypt: bool = Field(
        False, description="seal every file but the bundle's and logs (AES-256-GCM); see docs/privacy.md"
    )
    key: Annotated[str, Field(pattern=r"^(env|file|hook):.+")] = Field(
        "env:SYNTHREC_STORAGE_KEY",
        description="env:NAME, file:PATH or hook:package.module:function; never the key itself",
    )

    @property
    def key_source(self) -> str | None:
        """Where the key is; None where nothing is encrypted."""
        return self.key if self.encrypt else None
