"""Cases built by us: over the classic wire by the docker command line, by ``stackctl build`` what that has no word for."""

import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import docker

from tests.compat.dockercli import docker_cli
from tests.conformance.cases import Case, described, with_words, write_context
from tests.conftest import RealEngine

_BEGINS = "Sending build context"  # before it docker warns of its own
_NEWER = frozenset({"--secret", "--ssh", "--build-context", "--no-cache-filter"})


def made_by_us(
    engine: RealEngine, client: docker.DockerClient, name: str, case: Case, words: Mapping[str, str]
) -> dict[str, object]:
    """Build a case and return its description, or {"error": True} with what was said when the build fails."""
    tag = f"conformance-{name}"
    words = {**words, "before": f"{tag}-before"}
    if case.before:
        with tempfile.TemporaryDirectory(dir="/tmp") as home:
            write_context(case, Path(home), words, before=True)
            made = _by_docker(engine, words["before"], [], home)
            assert made.returncode == 0, made.stderr
    with tempfile.TemporaryDirectory(dir="/tmp") as home:
        write_context(case, Path(home), words)
        words = {**words, "context": home}
        options = [with_words(option, words) for option in case.options]
        place = with_words(case.context, words)
        # The client of the classic wire leaves things out by rules of its own, and knows no Dockerfile.dockerignore.
        if place or name.startswith("ignore-") or _NEWER & {*options}:
            built = _by_stackctl(engine, tag, options, place or home)
        else:
            built = _by_docker(engine, tag, options, home)
        if built.returncode:
            return {"error": True, "said": (built.stdout + built.stderr).split(_BEGINS)[-1]}
        alone = client.api.create_host_config(network_mode="none")
        container = client.api.create_container(tag, "/nothing", host_config=alone)["Id"]
        export = b"".join(client.api.export(container))
        client.api.remove_container(container)
        inspected = client.api.inspect_image(tag)
        labels = inspected["Config"]["Labels"] or {}
        inspected["Config"]["Labels"] = {
            key: value for key, value in labels.items() if not key.startswith("com.docker.compose.")
        }
        return described(export, json.dumps([inspected]))


def _by_docker(
    engine: RealEngine, tag: str, options: Sequence[str], home: str
) -> subprocess.CompletedProcess[str]:
    environ = {**engine.environ, "DOCKER_HOST": engine.docker_host, "DOCKER_BUILDKIT": "0"}
    argv = [docker_cli(), "build", "--no-cache", "-q", "-t", tag, *options, home]
    return subprocess.run(argv, env=environ, capture_output=True, text=True, check=False)


def _by_stackctl(
    engine: RealEngine, tag: str, options: Sequence[str], place: str
) -> subprocess.CompletedProcess[str]:
    build: dict[str, Any] = {"context": place}
    secrets: dict[str, dict[str, str]] = {}
    named: dict[str, str] = {}
    pairs = zip(options[::2], options[1::2], strict=True)
    for option, value in pairs:
        left, _, right = value.partition("=")
        if option == "--secret":
            words = dict(word.partition("=")[::2] for word in value.split(","))
            key = {"file": words["src"]} if "src" in words else {"environment": words["env"]}
            secrets[words["id"]] = key
        elif option == "--ssh":
            build["ssh"] = [*build.get("ssh", []), value]
        elif option == "--build-context":
            named[left] = right
        elif option == "--no-cache-filter":
            build["no_cache_filter"] = [value]
        elif option == "-f":
            build["dockerfile"] = value
        else:
            raise AssertionError(f"{option} has no place here yet")
    build |= {"additional_contexts": named, "secrets": [*secrets]}
    stack = {"services": {"made": {"image": tag, "build": build}}, "secrets": secrets}
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder, "stack.yaml").write_text(json.dumps({"name": "conformance", **stack}))
        return engine.stackctl(
            "build", "--no-cache", cwd=Path(folder), check=False, environ={"WORD": "w"}
        )
