"""The settings file: proxies and the bounds of archives."""

import json

import pytest

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
