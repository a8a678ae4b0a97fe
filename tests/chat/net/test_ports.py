"""Whether an address can be listened on."""

from __future__ import annotations

import errno
import socket

import pytest

from chat.net.ports import why_not_listening


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_a_port_is_in_use_while_listened_on_and_free_at_once_after(family, host):
    try:
        listener = socket.create_server((host, 0), family=family)
    except OSError:
        pytest.skip(f"this machine has no {host}")
    with listener:
        port = listener.getsockname()[1]
        client = socket.create_connection((host, port))
        served, _ = listener.accept()
        assert why_not_listening(host, port).errno == errno.EADDRINUSE
    served.close()  # the side that closes first waits for what may still be under way, and keeps the port
    client.close()
    assert why_not_listening(host, port) is None


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid", "2001:db8::1"])
def test_an_address_of_another_machine_or_of_none_is_an_error_with_words(host):
    error = why_not_listening(host, 0)
    assert error is not None
    assert error.strerror
