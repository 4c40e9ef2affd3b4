"""Starting: settings, the lock on the data, the socket; what the machine is."""

import json
import os
import socket
import stat

import pytest

from stackctl.daemon import check, hostfacts, main
from stackctl.daemon.settings import load_settings
from stackctl.errors import ConflictError, HostError, InvalidInputError


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "engine.json").write_text("{}")
    return load_settings(
        {},
        uid=0,
        socket=str(tmp_path / "s"),
        data_root=str(tmp_path / "data"),
        run_root=str(tmp_path / "run"),
        config_file=str(tmp_path / "engine.json"),
    )


def test_flags_win_over_the_environment(tmp_path):
    (tmp_path / "e.json").write_text(
        '{"debug": true, "group": "wheel", "insecure-registries": ["r:5000"]}'
    )
    found = load_settings(
        {
            "STACKCTL_SOCKET": "/env.sock",
            "STACKCTL_DATA_ROOT": "/env-data",
            "STACKCTL_ENGINE_CONFIG": str(tmp_path / "e.json"),
        },
        uid=0,
        socket="/flag.sock",
    )
    assert str(found.paths.socket) == "/flag.sock"
    assert str(found.paths.data_root) == "/env-data"
    assert (found.debug, found.group, found.insecure_registries) == (True, "wheel", ("r:5000",))


@pytest.mark.parametrize(
    ("text", "words"),
    [("{", "not JSON"), ("[]", "JSON object"), ('{"registry-mirrors": "x"}', "registry-mirrors")],
)
def test_a_broken_settings_file_is_refused_by_name(tmp_path, text, words):
    file = tmp_path / "engine.json"
    file.write_text(text)
    with pytest.raises(InvalidInputError, match=words):
        load_settings({}, uid=0, config_file=str(file))


def test_a_settings_file_that_was_named_must_exist(tmp_path):
    with pytest.raises(HostError, match="does not exist"):
        load_settings({}, uid=0, config_file=str(tmp_path / "none"))


def test_two_daemons_never_share_their_data(settings):
    main._make_roots(settings)
    held = main._lock(settings)
    with pytest.raises(ConflictError, match=f"process {os.getpid()}"):
        main._lock(settings)
    os.close(held)
    os.close(main._lock(settings))


def test_the_socket_is_its_owners_and_a_stale_one_is_replaced(settings):
    first, _ = main._listen(settings, 0)
    first.close()
    second, inode = main._listen(settings, 0)
    path = settings.paths.socket
    assert stat.S_IMODE(path.stat().st_mode) in (0o600, 0o660)
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(path))
    client.close()
    second.close()
    main._remove_socket(path, inode)
    assert not path.exists()


def test_a_socket_that_is_served_is_not_taken(settings):
    first, _ = main._listen(settings, 0)
    with pytest.raises(ConflictError, match="already serves"):
        main._listen(settings, 0)
    first.close()


def test_a_file_in_the_sockets_place_is_not_removed(settings):
    settings.paths.socket.write_text("precious")
    with pytest.raises(ConflictError, match="no socket"):
        main._listen(settings, 0)
    assert settings.paths.socket.read_text() == "precious"


def test_another_daemons_socket_is_not_removed(settings):
    listener, inode = main._listen(settings, 0)
    main._remove_socket(settings.paths.socket, inode + 1)
    assert settings.paths.socket.exists()
    listener.close()


def test_a_data_root_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    broken = load_settings(
        {}, uid=0, data_root=str(tmp_path / "file" / "data"), run_root=str(tmp_path / "r")
    )
    with pytest.raises(HostError, match="file"):
        main._make_roots(broken)


def test_facts_are_read_from_the_kernels_files():
    assert hostfacts.operating_system('NAME="x"\nPRETTY_NAME="Debian 12"\n') == "Debian 12"
    assert hostfacts.operating_system("") == "Linux"
    assert hostfacts.total_memory("MemTotal:  2048 kB\n") == 2048 * 1024
    assert hostfacts.bounding_set("CapBnd:\t0000000000000003\n") == {
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
    }
    assert len(hostfacts.bounding_set("CapBnd: 000001ffffffffff")) == 41


def test_check_says_what_is_missing_and_fails(settings, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "/nowhere")
    assert check.run_check(settings, form="json") == 1
    found = {item["name"]: item for item in json.loads(capsys.readouterr().out)}
    assert found["runc"]["state"] == "missing"
    assert found["runc"]["mend"] == "apt-get install runc"
    assert found["git"]["state"] == "note"


def test_check_prints_a_line_for_each_finding(settings, capsys):
    check.run_check(settings, form="text")
    lines = capsys.readouterr().out.splitlines()
    assert all(line.split()[0] in ("ok", "missing", "note") for line in lines)
    assert any("cgroups" in line for line in lines)
