from types import SimpleNamespace

import pytest

from stackctl.ignore import Ignore
from stackctl.orchestrator.model.build import Build
from stackctl.orchestrator.model.develop import Hook, WatchRule
from stackctl.orchestrator.watch.rules import Work, decide, make_rules


def rules(*watch: WatchRule, build: Build | None = None, ignores=(), files=()):
    service = SimpleNamespace(watch=watch, build=build)
    return make_rules(SimpleNamespace(services={"web": service}), (), {"web": ignores}, files=files)


def sync(path="/src", target="/app", action="sync", **more) -> WatchRule:
    return WatchRule(path=path, action=action, target=target, **more)


def files(found: dict[str, Work]) -> dict[str, str]:
    return found["web"].files if found else {}


def test_a_changed_path_goes_to_its_place_below_the_target():
    found = decide(rules(sync()), ["/src/a/b.py", "/srcother", "/elsewhere"])
    assert files(found) == {"/app/a/b.py": "/src/a/b.py"}


def test_a_rule_for_one_file_maps_it_to_the_target_itself():
    found = decide(rules(sync("/conf/a.ini", "/etc/a.ini"), files={"/conf/a.ini"}), ["/conf/a.ini"])
    assert files(found) == {"/etc/a.ini": "/conf/a.ini"}


def test_the_watched_directory_itself_is_never_a_change():
    assert decide(rules(sync()), ["/src"]) == {}


@pytest.mark.parametrize(
    "path",
    [
        "/src/.git/index",
        "/src/sub/.git",
        "/src/.a.py.swp",
        "/src/a.py~",
        "/src/sub/4913",
        "/src/.#a.py",
        "/src/node_modules/x/y",
        "/src/secret.txt",
    ],
)
def test_editors_files_ignored_ones_and_those_of_dockerignore_are_left_out(path):
    rule = sync(ignore=("node_modules/",))
    found = rules(rule, build=Build(context="/"), ignores=("src/secret.txt",))
    assert decide(found, [path]) == {}
    assert decide(found, ["/src/a.py"])


def test_ignored_directories_are_not_entered_unless_something_in_them_is_taken_back():
    (rule,) = rules(sync(ignore=("node_modules", "vendor", "!vendor/mine")))
    assert not rule.enters("/src/node_modules")
    assert rule.enters("/src/vendor")
    assert rule.enters("/src/lib")
    assert not rule.enters("/other")


def test_include_keeps_to_what_it_names():
    found = decide(rules(sync(include=("**/*.py",))), ["/src/a.txt", "/src/x/a.py"])
    assert files(found) == {"/app/x/a.py": "/src/x/a.py"}


def test_a_path_under_several_rules_counts_for_each():
    hook = Hook(command=("reload",))
    found = decide(
        rules(
            sync(),
            sync(target="/copy", action="sync+exec", exec=hook),
            sync("/src/conf", "/conf", action="sync+restart"),
            WatchRule(path="/src/build", action="rebuild"),
        ),
        ["/src/conf/c", "/src/build/b"],
    )["web"]
    assert found.files == {
        "/app/conf/c": "/src/conf/c",
        "/copy/conf/c": "/src/conf/c",
        "/conf/c": "/src/conf/c",
        "/app/build/b": "/src/build/b",
        "/copy/build/b": "/src/build/b",
    }
    assert (found.rebuild, found.restart, found.hooks) == (True, True, [hook])


def test_work_joins_and_keeps_the_earliest_time():
    first = Work(files={"/a": "1"}, since=2.0)
    first.add(Work(files={"/a": "2", "/b": "3"}, restart=True, since=1.0))
    assert (first.files, first.restart, first.since) == ({"/a": "2", "/b": "3"}, True, 1.0)
    first.add(Work())
    assert first.since == 1.0


def test_default_ignores_are_well_formed_and_spare_ordinary_names():
    from stackctl.orchestrator.watch.rules import DEFAULT_IGNORES

    ignore = Ignore(DEFAULT_IGNORES)
    for name in ("a.py", "Makefile", ".env", ".gitignore", "src/swap.sw", "x/.hidden", "a.swift"):
        assert not ignore.ignores(name), name
