"""The address of a server: an advice for each reason why it cannot be taken."""

import socket

import pytest

from zap.errors import CannotServe
from zap.server.address import check_address
from zap.settings import Settings


@pytest.mark.parametrize("host", ["10.9.9.9", "no host", "a.name.invalid", "2001:db8::1"])
def test_a_host_of_another_machine_is_told(host):
    with pytest.raises(CannotServe, match="the host is not an address of this machine") as caught:
        check_address(Settings(host=host, port=0))

    assert host in caught.value.message
    assert "the program that uses" not in caught.value.message


def test_requests_and_metrics_have_two_ports():
    """A server on one port for both would answer nothing but metrics, and those without a key."""
    for host in ("127.0.0.1", "127.0.0.2"):
        with pytest.raises(CannotServe, match="choose another port with ZAP_METRICS_PORT"):
            check_address(Settings(port=18_000, metrics_port=18_000, metrics_host=host))


def test_a_port_that_is_taken_is_told():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()

        with pytest.raises(CannotServe, match="end the program that uses the port") as caught:
            check_address(Settings(port=taken.getsockname()[1]))

    assert "ZAP_HOST" not in caught.value.message
