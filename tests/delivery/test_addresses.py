"""Where an endpoint may be: a table of addresses, and names that change their mind."""

from __future__ import annotations

import socket
from ipaddress import ip_network
from typing import Any

import pytest
from aiohttp import ThreadedResolver
from aiohttp.abc import AbstractResolver, ResolveResult

from streams.delivery.addresses import Allowed
from streams.delivery.asking import Answer, Failure, Http
from streams.sinks.base import Request
from tests.delivery.conftest import Receiver

PUBLIC = [
    "8.8.8.8", "93.184.216.34", "1.1.1.1", "2606:4700:4700::1111", "2a00:1450:4001:81b::200e",
    "64:ff9b::808:808", "::ffff:8.8.8.8",
]  # fmt: skip
REFUSED = [
    "127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255",
    "192.168.1.1", "169.254.169.254", "100.64.0.1", "100.127.255.255", "192.0.0.1", "192.0.2.1", "198.18.0.1",
    "198.51.100.7", "203.0.113.9", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254",
    "64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::1", "2002:7f00:1::1", "2002:a00:1::", "2001:0:4136:e378::1",
    "fc00::1", "fd12:3456::1", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "2001:db8::1", "100::1",
    "not an address", "",
]  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_the_public_internet_is_allowed_with_tls_only(address: str) -> None:
    assert Allowed().takes(address, encrypted=True)
    assert not Allowed().takes(address, encrypted=False)


@pytest.mark.parametrize("address", REFUSED)
def test_everything_else_is_refused(address: str) -> None:
    assert not Allowed().takes(address, encrypted=True)
    assert not Allowed().takes(address, encrypted=False)


@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::a01:203", "fd00::7"])
@pytest.mark.parametrize("encrypted", [True, False])
def test_a_network_of_ones_own_can_be_allowed(address: str, encrypted: bool) -> None:
    ours = Allowed((ip_network("10.0.0.0/8"), ip_network("fd00::/8")))
    assert ours.takes(address, encrypted)
    assert not ours.takes("192.168.1.1", encrypted)


class Names(AbstractResolver):
    """A name server whose answer is another one each time."""

    def __init__(self, *answers: str | list[str]) -> None:
        self.answers, self.asked = list(answers), 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        answer = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        found: list[Any] = [
            {"hostname": host, "host": each, "port": port, "family": socket.AF_INET, "proto": 0, "flags": 0}
            for each in ([answer] if isinstance(answer, str) else answer)
        ]
        return found

    async def close(self) -> None:
        pass


LOOPBACK_2 = Allowed((ip_network("127.0.0.2/32"),))


def post(url: str) -> Request:
    return Request("POST", url, {"webhook-id": "1"}, b"{}")


async def asked(allowed: Allowed, url: str, names: AbstractResolver | None = None) -> Answer | Failure:
    http = Http(allowed, 1, 5.0, names)
    try:
        return await http.ask(post(url))
    finally:
        await http.close()


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "localhost",
        "0.0.0.0",
        "2130706433",
        "0x7f000001",
        "127.1",
        "0177.1",
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_no_spelling_of_this_machine_is_asked(receiver: Receiver, scheme: str, host: str) -> None:
    port = receiver.url.rpartition(":")[2]
    answer = await asked(Allowed(), f"{scheme}://{host}:{port}/x")
    assert answer in (Failure.ADDRESS_REFUSED, Failure.UNRESOLVED, Failure.BAD_URL)
    assert receiver.got == []


async def test_a_name_that_leads_inside_is_refused(receiver: Receiver) -> None:
    port = receiver.url.rpartition(":")[2]
    inside = Names("127.0.0.1")
    assert await asked(LOOPBACK_2, f"http://hooks.example:{port}/x", inside) == Failure.ADDRESS_REFUSED
    assert inside.asked == 1


async def test_a_name_is_resolved_once_and_the_checked_address_is_connected_to() -> None:
    """127.0.0.2 is allowed, and asked; that the name says 127.0.0.1 afterwards changes nothing."""
    listener = socket.create_server(("127.0.0.2", 0))
    other = socket.create_server(("127.0.0.1", listener.getsockname()[1]))
    other.settimeout(0)
    rebinding = Names("127.0.0.2", "127.0.0.1")
    with listener, other:
        http = Http(LOOPBACK_2, 1, 0.5, rebinding)
        url = f"http://hooks.example:{listener.getsockname()[1]}/x"
        assert await http.ask(post(url)) == Failure.TIMEOUT  # it was connected to, and says nothing
        with listener.accept()[0] as peer:
            assert peer.recv(4) == b"POST"
        assert await http.ask(post(url)) == Failure.ADDRESS_REFUSED  # the next connection is judged anew
        await http.close()
        with pytest.raises(BlockingIOError):
            other.accept()
    assert rebinding.asked == 2


async def test_of_several_addresses_only_those_that_passed_are_tried() -> None:
    listener = socket.create_server(("127.0.0.2", 0))
    port = listener.getsockname()[1]
    other = socket.create_server(("127.0.0.1", port))
    other.settimeout(0)
    with listener, other:
        mixed = Names(["127.0.0.1", "127.0.0.2"])
        http = Http(LOOPBACK_2, 1, 0.5, mixed)
        assert await http.ask(post(f"http://hooks.example:{port}/x")) == Failure.TIMEOUT
        await http.close()
        with listener.accept()[0] as peer:
            assert peer.recv(4) == b"POST"
        with pytest.raises(BlockingIOError):
            other.accept()


async def test_no_proxy_of_the_environment_is_asked(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, receiver.url)
    assert await asked(Allowed(), "http://hooks.invalid/x", ThreadedResolver()) == Failure.UNRESOLVED
    assert receiver.got == []


async def test_what_is_no_tls_is_named_so(receiver: Receiver) -> None:
    here = Allowed((ip_network("127.0.0.0/8"),))
    assert await asked(here, receiver.url.replace("http:", "https:") + "/x") == Failure.TLS


async def test_where_nobody_listens_is_unreachable() -> None:
    here = Allowed((ip_network("127.0.0.0/8"),))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert await asked(here, f"http://127.0.0.1:{port}/x") == Failure.UNREACHABLE
