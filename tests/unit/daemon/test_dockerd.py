"""dockerd's command line and daemon.json."""

import json

import pytest

from stackctl.daemon import dockerd
from stackctl.errors import InvalidInputError


def translate(*words, config=None):
    def read(path):
        assert path in (dockerd.CONFIG_FILE, "/c.json")
        return None if config is None else json.dumps(config)

    return dockerd.translate(words, read)


def test_without_arguments_it_is_the_usual_engine_at_docker_s_socket():
    argv, ignored = translate()
    assert argv == [
        "--socket", "/var/run/docker.sock", "--run-root", "/run/stackctl", "--data-root", "/var/lib/stackctl",
        "--pidfile", "/var/run/docker.pid",
    ]  # fmt: skip
    assert ignored == []


def test_common_flags_are_passed_on():
    argv, ignored = translate(
        "-H", "unix:///x.sock", "--host=tcp://127.0.0.1:2376", "--tlsverify", "--tlscacert=/ca", "--tlscert", "/cert",
        "--tlskey", "/key", "--data-root", "/d", "--exec-root", "/e", "-p", "/pid", "-D", "--live-restore=false",
        "--bip", "10.9.0.1/24", "--default-address-pool", "base=10.10.0.0/16,size=26", "--registry-mirror",
        "http://m", "--insecure-registry", "r:5000", "--label", "a=b", "--iptables=true", "--storage-driver=overlay2",
        "--max-concurrent-downloads", "7",
    )  # fmt: skip
    assert argv == [
        "--host", "tcp://127.0.0.1:2376", "--socket", "/x.sock", "--pidfile", "/pid", "--debug", "--tlsverify",
        "--data-root", "/d", "--run-root", "/e", "--bip", "10.9.0.1/24", "--tlscacert", "/ca", "--tlscert", "/cert",
        "--tlskey", "/key", "--max-concurrent-downloads", "7", "--registry-mirror", "http://m", "--insecure-registry",
        "r:5000", "--label", "a=b", "--default-address-pool", "base=10.10.0.0/16,size=26",
    ]  # fmt: skip
    assert ignored == ["iptables", "storage-driver"]


def test_daemon_json_says_the_same():
    config = {
        "hosts": ["unix:///x.sock"], "data-root": "/d", "exec-root": "/e", "pidfile": "/pid", "debug": True,
        "live-restore": True, "bip": "10.9.0.1/24", "default-address-pools": [{"base": "10.10.0.0/16", "size": 26}],
        "registry-mirrors": ["http://m"], "insecure-registries": ["r:5000"], "labels": ["a=b"],
        "runtimes": {"crun": {"path": "/usr/bin/crun"}}, "features": {"buildkit": True}, "exec-opts": ["x=y"],
        "max-concurrent-uploads": 2,
    }  # fmt: skip
    argv, ignored = translate("--config-file", "/c.json", config=config)
    assert argv == [
        "--socket", "/x.sock", "--pidfile", "/pid", "--debug", "--data-root", "/d", "--run-root", "/e", "--bip",
        "10.9.0.1/24", "--max-concurrent-uploads", "2", "--registry-mirror", "http://m", "--insecure-registry", "r:5000",
        "--label", "a=b", "--default-address-pool", "base=10.10.0.0/16,size=26", "--add-runtime", "crun=/usr/bin/crun",
    ]  # fmt: skip
    assert ignored == ["exec-opts", "features"]


@pytest.mark.parametrize(
    ("words", "config", "message"),
    [
        (["--bogus"], None, "unrecognized arguments: --bogus"),
        (["--debug=maybe"], None, "neither true nor false"),
        (["--config-file", "/c.json"], None, "no such file"),
        (["-H", "ftp://x"], None, "ftp://x"),
        (["-H", "unix:///a", "-H", "unix:///b"], None, "only one UNIX socket"),
        (["--tls"], None, "--tlsverify"),
        (["--debug"], {"debug": True}, "both as a flag and in the configuration file: debug"),
        ([], {"bogus": 1}, "don't match any configuration option: bogus"),
        ([], {"debug": "yes"}, "wrong type"),
        ([], {"max-concurrent-downloads": "3"}, "wrong type"),
        ([], ["debug"], "must hold a JSON object"),
    ],
)
def test_what_dockerd_refuses_is_refused(words, config, message):
    with pytest.raises(InvalidInputError, match=message):
        translate(*words, config=config)


def test_mistakes_are_one_line_and_versions_are_docker_s(capsys):
    assert dockerd.main(["--bogus"]) == 1
    assert capsys.readouterr().err.startswith("dockerd: unrecognized arguments")
    assert dockerd.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("Docker version ")
