from stackctl.host.nftables import _message


def test_a_refusal_names_the_command_it_is_about():
    errors = "<cmdline>:2:9-12: Error: syntax error, unexpected string\nadd chian x\n    ^^^^\n"
    assert _message(errors, "add table ip x\nadd chian x\n") == (
        'nftables: syntax error, unexpected string in "add chian x"'
    )


def test_a_refusal_without_a_place_is_told_as_it_is():
    assert _message("Error: Could not process rule: No such file", "x") == (
        "nftables: Could not process rule: No such file"
    )
