"""What ends an example early."""

from __future__ import annotations


class DemoError(Exception):
    """Says in one sentence what failed, and where to look."""
