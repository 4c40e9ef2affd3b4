"""The settings file: proxies, the bounds of archives, how much is transferred at a time."""

import json

import pytest

from stackctl.contracts.registry import TransferLimits
from stackctl.daemon.settings import load_settings
from stackctl.errors import InvalidInputError


def settings(tmp_path, data: dict, **environ: str):
    file = tmp_path / "engine.json"
    file.write_text(json.dumps(data))
    return load_settings(environ, uid=0, config_file=str(file), run_root=str(tmp_path / "run"))


def test_proxies_come_from_the_environment_and_the_file_wins(tmp_path):
    found = settings(
        tmp_path,
        {"proxies": {"https-proxy": "http://file:3128", "no-proxy": "*.example"}},
        http_proxy="http://env:1",
        HTTPS_PROXY="http://env:2",
    )
    assert found.proxies == {
        "HTTP_PROXY": "http://env:1",
        "HTTPS_PROXY": "http://file:3128",
        "NO_PROXY": "*.example",
    }


def test_a_proxy_that_is_no_url_is_refused_by_name(tmp_path):
    with pytest.raises(InvalidInputError, match=r"http-proxy.*expected a URL"):
        settings(tmp_path, {"proxies": {"http-proxy": "proxy:3128"}})


def test_bounds_are_numbers_with_units(tmp_path):
    found = settings(tmp_path, {"max-layer-size": "64g", "max-layer-entries": 1000}).tar_limits
    assert (found.size, found.entries) == (64 << 30, 1000)
    with pytest.raises(InvalidInputError, match="max-layer-entries"):
        settings(tmp_path, {"max-layer-entries": "many"})


def test_transfers_at_a_time_come_from_the_file_and_flags_win(tmp_path):
    assert settings(tmp_path, {}).transfers == TransferLimits(downloads=3, uploads=5)
    found = settings(tmp_path, {"max-concurrent-downloads": 9}).transfers
    assert found == TransferLimits(downloads=9, uploads=5)
    flagged = load_settings(
        {}, uid=0, config_file=str(tmp_path / "engine.json"), run_root=str(tmp_path / "run"),
        max_downloads="2", max_uploads="1",
    )  # fmt: skip
    assert flagged.transfers == TransferLimits(downloads=2, uploads=1)
    for wrong in (0, -1, "many", 1.5, 10**6):
        with pytest.raises(InvalidInputError, match="invalid max-concurrent-uploads"):
            settings(tmp_path, {"max-concurrent-uploads": wrong})
