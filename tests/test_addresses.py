"""Addresses as text: what they mean, what is refused, and what a missing services file costs."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import hornpipe as hp
from hornpipe.address import _KNOWN, INTERNET, UNIX

LABELS = st.from_regex(r"[a-z][a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True).filter(
    lambda label: not label.startswith("xn--")
)
NAMES = st.lists(LABELS, min_size=1, max_size=4).map(".".join)
SCOPES = st.from_regex(r"[a-z0-9.-]{1,15}", fullmatch=True)
IPV6 = st.ip_addresses(v=6).map(str)
HOSTS = st.one_of(
    st.just(""),
    NAMES,
    st.ip_addresses(v=4).map(str),
    IPV6.filter(lambda host: "%" not in host),
    st.tuples(IPV6.filter(lambda host: "%" not in host), SCOPES).map("%".join),
)
PORTS = st.integers(0, 65535)
SERVICES = st.one_of(
    PORTS.map(str),
    st.just("http"),
    st.tuples(st.from_regex(r"[a-z][a-z0-9-]{0,12}", fullmatch=True), PORTS).map(lambda pair: "{}({})".format(*pair)),
)
PATHS = st.binary(min_size=1, max_size=107).filter(lambda name: b"\0" not in name and name[:1] != b"@")
ADDRESSES = st.one_of(
    st.tuples(st.sampled_from(sorted(INTERNET)), HOSTS, SERVICES).map(lambda parts: hp.Address(*parts)),
    st.builds(lambda scheme, path: hp.Address(scheme, path=os.fsdecode(path)), st.sampled_from(sorted(UNIX)), PATHS),
    st.builds(
        lambda scheme, name: hp.Address(scheme, path="\0" + os.fsdecode(name)),
        st.sampled_from(sorted(UNIX)),
        st.binary(min_size=1, max_size=107),
    ),
)


@given(ADDRESSES)
def test_what_is_printed_parses_to_the_same(address: hp.Address) -> None:
    """gotcha:SO6, perlipc:N1"""
    assert hp.Address.parse(str(address)) == address


@given(
    st.one_of(
        st.text(),
        st.builds("{}://{}".format, st.sampled_from([*INTERNET, *UNIX]), st.text()),
        st.builds("{}://{}:{}".format, st.sampled_from([*INTERNET]), st.text(), st.text(max_size=8)),
        st.builds("tcp://[{}]{}".format, st.text(), st.text(max_size=8)),
    )
)
@example("tcp://\ud800:1")
@example("unix://\ud800")
@example("tcp://[::1\0]:1")
@example("tcp://a\0b:1")
@example("tcp://x:\u0663")
@example("tcp://\u3002:1")
def test_every_string_parses_or_is_refused(text: str) -> None:
    try:
        address = hp.Address.parse(text)
    except ValueError as refused:
        complaint = str(refused)
    else:
        complaint = repr(text)
        assert hp.Address.parse(str(address)) == address
        assert address.socket_type in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET)
    assert repr(text) in complaint


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("localhost:80", "://"),
        ("http://localhost:80", "'http'"),
        ("://localhost:80", "scheme ''"),
        ("TCP://localhost:80", "'TCP'"),
        ("tcp://localhost", "no port after 'localhost'"),
        ("tcp://", "no port"),
        ("tcp://localhost:", "port ''"),
        ("tcp://localhost:65536", "'65536'"),
        ("tcp://localhost:http(65536)", "'65536'"),
        ("tcp://localhost:80(80)", "two numbers"),
        ("tcp://localhost:-1", "'-1'"),
        ("tcp://localhost:80/path", "'80/path'"),
        ("tcp://localhost:http()", r"'http\(\)'"),
        ("tcp://localhost:1" + "0" * 5000, "'10000"),
        ("tcp://::1:80", "'::1' .* brackets"),
        ("tcp://[::1:80", "'::1:80' .* not closed"),
        ("tcp://[::1]80", "'80' after"),
        ("tcp://[::1]", "'' after"),
        ("tcp://[127.0.0.1]:80", "'127.0.0.1' in brackets"),
        ("tcp://[::g]:80", "'::g'"),
        ("tcp://[fe80::1%]:80", "scope ''"),
        ("tcp://[fe80::1%eth0/1]:80", "'eth0/1'"),
        ("tcp://127.1:80", "'127.1'"),
        ("tcp://256.0.0.1:80", "'256.0.0.1'"),
        ("tcp://0x7f000001:80", "'0x7f000001'"),
        ("tcp://a..b:80", "part ''"),
        ("tcp://user@host:80", "'user@host'"),
        ("tcp://two words:80", "'two words'"),
        ("tcp://" + "a" * 64 + ":80", "'a{64}'"),
        ("tcp://" + ".".join(["a" * 63] * 4) + ":80", "253"),
        ("unix://", "no name"),
        ("unix://@", "no name"),
        ("unix:///a\0b", r"'/a\\x00b'"),
        ("unix://" + "/" + "x" * 107, "108 bytes .* 107"),
        ("unixgram://@" + "x" * 108, "108 bytes"),
    ],
)
def test_a_bad_address_is_told_which_part_of_it_is_bad(text: str, part: str) -> None:
    with pytest.raises(ValueError, match=part):
        hp.Address.parse(text)


def test_what_is_no_string_is_no_address() -> None:
    with pytest.raises(TypeError, match="tuple"):
        hp.Address.parse(("localhost", 80))  # type: ignore[arg-type]


def test_the_longest_names_are_taken_by_the_kernel() -> None:
    """gotcha:SO8"""
    address = hp.Address.parse("unix://@" + "n" * 107)
    with socket.socket(socket.AF_UNIX) as each:
        each.bind(address.unix_name)
        assert hp.Address.of("unix", each.getsockname()) == address


@pytest.mark.parametrize(("service", "port"), [("http", 80), ("80", 80), ("http(8080)", 80), ("nothing-like-it(7)", 7)])
def test_services_have_numbers(service: str, port: int) -> None:
    """perlipc:N1"""
    assert hp.Address.parse(f"tcp://localhost:{service}").port == port


def test_services_that_are_known_by_heart_have_the_systems_numbers() -> None:
    """perlipc:N1"""
    listed = set()
    for line in Path("/etc/services").read_text().splitlines():
        if words := line.partition("#")[0].split():
            listed |= {(name, int(words[1].partition("/")[0])) for name in (words[0], *words[2:])}
    assert [entry for entry in _KNOWN.items() if entry not in listed] == []


def test_an_unknown_service_says_what_to_write() -> None:
    with pytest.raises(ValueError, match=r"'nothing-like-it' .*nothing-like-it\(NUMBER\)"):
        _ = hp.Address.parse("tcp://localhost:nothing-like-it").port


WITHOUT_SERVICES = """
import sys
import hornpipe as hp
assert not open("/etc/services").read()
print([hp.Address.parse(f"tcp://localhost:{service}").port for service in sys.argv[1:]])
"""


def test_services_have_numbers_on_a_machine_without_a_services_file() -> None:
    """gotcha:SO6, perlipc:N1"""
    hide = 'mount --bind /dev/null /etc/services && exec "$@"'
    ran = subprocess.run(
        ["unshare", "-rm", "sh", "-c", hide, "sh", sys.executable, "-c", WITHOUT_SERVICES, "http", "80", "daytime(13)"],
        capture_output=True,
        text=True,
    )
    if ran.returncode and "unshare" in ran.stderr:
        pytest.skip("no namespaces for us here")
    assert ran.stdout == "[80, 80, 13]\n", ran.stderr


def test_a_mapped_ipv4_address_is_an_ipv4_address() -> None:
    """gotcha:SO6"""
    assert str(hp.Address.of("tcp", ("::ffff:127.0.0.1", 80, 0, 0))) == "tcp://127.0.0.1:80"
    assert hp.Address.of("unix", "") is None
