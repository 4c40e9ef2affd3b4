from xml.etree import ElementTree

from stackctl.cli.render.junit import Case, document


def test_a_document_counts_names_and_explains():
    root = ElementTree.fromstring(
        document(
            'a "b" <c>',
            [
                Case(name="db is ready", group="services", seconds=0.25),
                Case(
                    name="web is ready",
                    group="services",
                    failure="no\nbecause <&>\x1b[0m",
                    output="ou\x00t",
                ),
                Case(name="test", group="tests", skipped=True),
            ],
        ).encode()
    )
    suite = root.find("testsuite")
    assert (suite.get("name"), suite.get("tests"), suite.get("failures"), suite.get("skipped")) == (
        'a "b" <c>', "3", "1", "1",
    )  # fmt: skip
    db, web, test = suite.findall("testcase")
    assert (db.get("time"), len(db)) == ("0.250", 0)
    assert web.find("failure").get("message") == "no"
    assert web.find("failure").text == "no\nbecause <&>\ufffd[0m"
    assert web.find("system-out").text == "ou\ufffdt"
    assert test.find("skipped") is not None
