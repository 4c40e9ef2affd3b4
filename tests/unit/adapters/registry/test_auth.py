"""Challenges, and where credentials may go."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackctl.adapters.registry.auth import Challenge, check_realm, parse_challenges
from stackctl.adapters.registry.endpoints import Endpoint, endpoints, is_insecure
from stackctl.errors import UnauthorizedError


def test_a_bearer_challenge_is_read():
    text = 'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="a:b:pull,push"'
    [found] = parse_challenges(text)
    assert found == Challenge(
        scheme="bearer",
        parameters={
            "realm": "https://auth.docker.io/token",
            "service": "registry.docker.io",
            "scope": "a:b:pull,push",
        },
    )


def test_several_challenges_are_told_apart():
    found = parse_challenges('Basic realm="a \\"b\\"", Bearer realm="https://x/t", service=y')
    assert [item.scheme for item in found] == ["basic", "bearer"]
    assert found[0].parameters == {"realm": 'a "b"'}
    assert found[1].parameters == {"realm": "https://x/t", "service": "y"}


@given(st.text(max_size=300))
def test_any_header_is_read_without_failing(text):
    parse_challenges(text)


@pytest.mark.parametrize("realm", ["http://tokens.example/t", "ftp://x/y", "", "token", "https://"])
def test_credentials_are_not_sent_where_they_could_be_read(realm):
    with pytest.raises(UnauthorizedError):
        check_realm(realm, plain_allowed=False)


def test_a_plain_realm_will_do_for_a_plain_registry():
    check_realm("http://127.0.0.1:5001/token", plain_allowed=True)


@pytest.mark.parametrize(
    "registry",
    [
        "localhost",
        "localhost:5000",
        "127.0.0.1:5000",
        "127.8.9.1",
        "[::1]:5000",
        "lab:5000",
        "10.1.2.3",
    ],
)
def test_loopback_and_what_was_configured_is_insecure(registry):
    assert is_insecure(registry, ["lab:5000", "10.0.0.0/8"])


@pytest.mark.parametrize(
    "registry", ["docker.io", "ghcr.io", "lab:5001", "128.0.0.1", "localhost.example"]
)
def test_everything_else_needs_tls(registry):
    assert not is_insecure(registry, ["lab:5000", "10.0.0.0/8"])
    assert all(item.base.startswith("https://") and item.verify for item in endpoints(registry, ()))


def test_the_hub_is_where_it_is_and_plain_http_comes_last():
    assert endpoints("docker.io", ()) == [Endpoint(base="https://registry-1.docker.io")]
    assert [item.base for item in endpoints("localhost:5000", ())] == [
        "https://localhost:5000",
        "http://localhost:5000",
    ]
