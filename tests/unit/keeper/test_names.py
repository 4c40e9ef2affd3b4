from stackctl.keeper.names import Names, Zone


def zone(*networks: str, **fields) -> Zone:
    values = {"links": {}, "upstream": [], "search": [], **fields}
    return Zone("asker", list(networks), values["links"], values["upstream"], values["search"])


def test_a_name_is_known_in_its_network_only():
    names = Names()
    names.add("front", "c1", ["10.0.0.2"], ["Web", "c1short"])
    assert names.lookup(zone("front"), "web") == ["10.0.0.2"]
    assert names.lookup(zone("back"), "web") is None


def test_the_first_network_that_knows_the_name_answers():
    names = Names()
    names.add("front", "c1", ["10.0.0.2"], ["web"])
    names.add("back", "c1", ["10.0.1.2"], ["web"])
    assert names.lookup(zone("back", "front"), "web") == ["10.0.1.2"]


def test_several_containers_under_one_name_take_turns():
    names = Names()
    for number in (1, 2, 3):
        names.add("front", f"c{number}", [f"10.0.0.{number}"], ["web"])
    first = [names.lookup(zone("front"), "web")[0] for _ in range(3)]
    assert sorted(first) == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    assert all(len(names.lookup(zone("front"), "web")) == 3 for _ in range(3))


def test_names_are_replaced_and_removed():
    names = Names()
    names.add("front", "c1", ["10.0.0.2"], ["web"])
    names.add("front", "c1", ["10.0.0.2"], ["api"])
    assert names.lookup(zone("front"), "web") is None
    for _ in range(2):
        names.remove("front", "c1")
    assert names.lookup(zone("front"), "api") is None
    assert names.networks == {}


def test_links_mean_an_address_or_another_name():
    names = Names()
    names.add("front", "c1", ["10.0.0.2"], ["web"])
    asker = zone("front", links={"Db": "web", "fixed": "192.0.2.1", "six": "fd00::1"})
    assert names.lookup(asker, "db") == ["10.0.0.2"]
    assert names.lookup(asker, "fixed") == ["192.0.2.1"]
    assert names.lookup(asker, "six") == ["fd00::1"]


def test_a_search_domain_behind_a_known_name_is_no_obstacle():
    names = Names()
    names.add("front", "c1", ["10.0.0.2"], ["web"])
    assert names.lookup(zone("front", search=["Example.org"]), "web.example.org") == ["10.0.0.2"]
    assert names.lookup(zone("front"), "web.example.org") is None


def test_keep_forgets_all_others_and_reverse_gives_the_first_name():
    names = Names()
    names.add("front", "c1", ["10.0.0.2"], ["web", "alias"])
    names.add("front", "c2", ["10.0.0.3"], ["db"])
    names.keep({"c1"})
    assert names.reverse(zone("front"), "10.0.0.2") == "web"
    assert names.reverse(zone("front"), "10.0.0.3") == ""
    assert names.reverse(zone("back"), "10.0.0.2") == ""
