"""Which addresses an endpoint may have, so that a URL does not make us ask somebody who trusts us.

A name is resolved once for each connection, each address is judged, and the connection goes to one that passed: an
answer of the name server that comes later changes nothing. What is allowed by name of network (`allow:`) is the
operator's own; everything else must be an address of the public internet.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, TypeAlias

from aiohttp import ThreadedResolver
from aiohttp.abc import AbstractResolver, ResolveResult

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

# Ways to write an IPv4 address as another one: what counts is the one within.
NAT64 = ip_network("64:ff9b::/96")
# Tunnels: nobody has an endpoint there, and what they lead to is not seen from the address.
TUNNELS = (ip_network("2002::/16"), ip_network("2001::/32"), ip_network("64:ff9b:1::/48"), ip_network("::/96"))


class RefusedAddressError(OSError):
    """The endpoint's name leads where none may be. The message names no address: it is told to nobody outside."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """The networks of our own that endpoints may be in; http:// is for them alone."""

    networks: tuple[Network, ...] = ()

    def takes(self, address: str, encrypted: bool) -> bool:
        found = _plain(address)
        if found is None:
            return False
        if any(found.version == each.version and found in each for each in self.networks):
            return True
        return encrypted and _is_public(found)


def _plain(text: str) -> Address | None:
    """The address that packets go to; None for what is none."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and (
        address.is_site_local or any(address in each for each in TUNNELS if isinstance(each, IPv6Network))
    ):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved)


class Resolver(AbstractResolver):
    """Gives the addresses of a name that may be connected to."""

    def __init__(self, allowed: Allowed, encrypted: bool, inner: AbstractResolver | None = None) -> None:
        self._allowed, self._encrypted = allowed, encrypted
        self._inner = inner or ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        taken = [each for each in found if self._allowed.takes(each["host"], self._encrypted)]
        if found and not taken:
            raise RefusedAddressError("the endpoint's address is not one of the public internet, nor allowed")
        return taken

    async def close(self) -> None:
        await self._inner.close()


def checked_socket(allowed: Allowed, encrypted: bool) -> Any:
    """Makes the sockets of connections, and none to where none may go: the last look, at the very address, also of
    a URL that names one."""

    def make(info: Sequence[Any]) -> socket.socket:
        family, kind, protocol, _, address = info
        if not allowed.takes(address[0], encrypted):
            raise RefusedAddressError("the endpoint's address is not one of the public internet, nor allowed")
        return socket.socket(family, kind, protocol)

    return make
