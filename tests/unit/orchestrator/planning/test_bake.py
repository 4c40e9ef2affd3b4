"""Builds as a bake file, beside what `docker compose build --print` (2.40) printed for this stack.

Only the order of ulimits is ours: there it is another on every run.
"""

import json

from stackctl.orchestrator.planning.bake import bake
from stackctl.orchestrator.stackfile.load import LoadOptions, load

FILE = """
name: shop
services:
  web:
    image: web:1
    build:
      context: .
      dockerfile: Containerfile
      args: {A: "1", B: }
      target: one
      labels: {l: m}
      tags: ["web:2"]
      platforms: [linux/amd64, linux/arm64]
      cache_from: ["type=local,src=/cache", "img:1"]
      cache_to: ["type=local,dest=/cache"]
      no_cache: true
      pull: true
      network: host
      extra_hosts: ["h:1.2.3.4"]
      secrets: [tok]
      ssh: [default]
      shm_size: 64m
      ulimits: {nofile: 100, nproc: {soft: 1, hard: 2}}
      additional_contexts: {more: ./app, img: docker-image://busybox}
      entitlements: [network.host]
      privileged: true
      provenance: true
      sbom: true
    depends_on: [job]
  job:
    build:
      context: app
      dockerfile_inline: |
        FROM busybox
        RUN true
  none: {image: busybox}
secrets: {tok: {file: ./tok}}
"""
RECORDED = {
    "group": {"default": {"targets": ["job", "web"]}},
    "target": {
        "job": {
            "context": "{home}/app",
            "dockerfile-inline": "FROM busybox\nRUN true\n",
            "labels": {
                "com.docker.compose.project": "shop",
                "com.docker.compose.service": "job",
                "com.docker.compose.version": "2.40.3",
            },
            "tags": ["shop-job"],
            "output": ["type=docker"],
        },
        "web": {
            "context": "{home}",
            "contexts": {"img": "docker-image://busybox", "more": "{home}/app"},
            "dockerfile": "{home}/Containerfile",
            "args": {"A": "1"},
            "labels": {
                "com.docker.compose.project": "shop",
                "com.docker.compose.service": "web",
                "com.docker.compose.version": "2.40.3",
                "l": "m",
            },
            "tags": ["web:2", "web:1"],
            "cache-from": ["type=local,src=/cache", "img:1"],
            "cache-to": ["type=local,dest=/cache"],
            "target": "one",
            "secret": ["id=tok,type=file,src={home}/tok"],
            "ssh": ["default="],
            "platforms": ["linux/amd64", "linux/arm64"],
            "pull": True,
            "no-cache": True,
            "network": "host",
            "shm-size": "67108864",
            "ulimits": ["nofile=100", "nproc=1:2"],
            "entitlements": ["network.host", "security.insecure"],
            "extra-hosts": {"h": "1.2.3.4"},
            "output": ["type=image,push=false"],
            "attest": ["type=provenance", "type=sbom"],
        },
    },
}


def loaded(tmp_path, text=FILE):
    (tmp_path / "stack.yaml").write_text(text)
    (tmp_path / "app").mkdir(exist_ok=True)
    (tmp_path / "tok").write_text("s")
    return load(LoadOptions(environ={}, cwd=str(tmp_path))).stack


def test_builds_are_printed_as_docker_compose_prints_them(tmp_path):
    found = json.loads(
        json.dumps(bake(loaded(tmp_path), ["job", "web"], {})).replace(str(tmp_path), "{home}")
    )
    assert found == RECORDED


def test_arguments_and_the_push_of_the_command_line_go_in(tmp_path):
    found = bake(loaded(tmp_path), ["job"], {"Z": "1", "Y": None}, push=True)
    assert found["group"] == {"default": {"targets": ["job"]}}
    assert found["target"]["job"]["args"] == {"Z": "1"}
    assert found["target"]["job"]["output"] == ["type=image,push=true"]


def test_what_services_and_the_environment_give_is_named(tmp_path):
    text = """
name: s
services:
  base: {image: base:1, build: "https://example.com/app.git#main"}
  web:
    build: {context: ., additional_contexts: {base: "service:base"}, secrets: [word]}
secrets: {word: {environment: WORD}}
"""
    found = bake(loaded(tmp_path, text), ["base", "web"], {})["target"]
    assert found["base"]["context"] == "https://example.com/app.git#main"
    assert found["web"]["contexts"] == {"base": "docker-image://base:1"}
    assert found["web"]["secret"] == ["id=word,type=env,env=WORD"]
