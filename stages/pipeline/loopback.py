"""Which addresses only this machine can reach: there nothing has to be encrypted, and no stranger be kept out."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether an address or name can be reached from this machine only; an IPv6 address stands without brackets."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
