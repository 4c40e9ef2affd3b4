from pathlib import Path

import pytest

from stackctl.daemon.settings import TlsFiles, load_settings
from stackctl.daemon.tlsfront import address_of, tls_context
from stackctl.errors import HostError, InvalidInputError

TLS = TlsFiles(ca=Path("/ca"), cert=Path("/cert"), key=Path("/key"))


def settings(tmp_path, **options):
    file = tmp_path / "engine.json"
    if not file.exists():
        file.write_text("{}")
    return load_settings({}, uid=0, config_file=str(file), **options)


def test_plain_tcp_needs_the_flag_that_says_so(tmp_path):
    with pytest.raises(InvalidInputError, match="without TLS"):
        settings(tmp_path, hosts=["tcp://0.0.0.0:2375"])
    assert settings(tmp_path, hosts=["tcp://0.0.0.0:2375"], insecure_tcp=True).tls is None
    assert settings(tmp_path, hosts=["tcp://0.0.0.0:2376"], tls=TLS).tls == TLS


def test_the_settings_file_may_name_hosts_and_certificates(tmp_path):
    (tmp_path / "engine.json").write_text(
        '{"hosts": ["unix:///x", "tcp://[::1]:2376"], "tlsverify": true,'
        ' "tlscacert": "/ca", "tlscert": "/cert", "tlskey": "/key"}'
    )
    read = settings(tmp_path)
    assert read.tcp_hosts == ("tcp://[::1]:2376",)
    assert read.tls == TLS


@pytest.mark.parametrize("host", ["ftp://x", "x:1"])
def test_other_addresses_are_refused(tmp_path, host):
    with pytest.raises(InvalidInputError, match="invalid --host"):
        settings(tmp_path, hosts=[host])


def test_addresses_are_read_as_dockerd_reads_them():
    assert address_of("tcp://127.0.0.1:99") == ("127.0.0.1", 99)
    assert address_of("tcp://[::1]:99") == ("::1", 99)
    assert address_of("tcp://0.0.0.0") == ("0.0.0.0", 2376)
    with pytest.raises(InvalidInputError):
        address_of("tcp://x:port")


def test_a_missing_certificate_is_named():
    with pytest.raises(HostError, match="--tlscacert: there is no file /ca"):
        tls_context(TLS)


@pytest.mark.parametrize("mirror", ["mirror.example", "https://x/?q=1", "ftp://x"])
def test_a_mirror_must_be_a_url(tmp_path, mirror):
    with pytest.raises(InvalidInputError, match="invalid mirror"):
        settings(tmp_path, mirrors=[mirror])
    assert settings(tmp_path, mirrors=["https://m.example/"]).mirrors == ("https://m.example",)
