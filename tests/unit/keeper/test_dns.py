import struct

from hypothesis import given
from hypothesis import strategies as st

from stackctl.keeper import dns

_LABEL = st.text(alphabet="abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=63)


def encoded(name: str, kind: int = dns.A, *, extra: bytes = b"", flags: int = 0x100) -> bytes:
    labels = b"".join(bytes((len(part),)) + part.encode() for part in name.split("."))
    head = struct.pack(">HHHHHH", 0x1234, flags, 1, 0, 0, 1 if extra else 0)
    return head + labels + b"\0" + struct.pack(">HH", kind, 1) + extra


def parsed(data: bytes) -> dns.Question:
    question = dns.parse_question(data)
    assert question is not None
    return question


def counts(answer: bytes) -> tuple[int, int, int]:
    """Return rcode, number of answers and whether it was cut."""
    _, flags, _, number, _, _ = struct.unpack_from(">HHHHHH", answer)
    return flags & 15, number, flags >> 9 & 1


def opt(size: int) -> bytes:
    return b"\0" + struct.pack(">HHIH", dns.OPT, size, 0, 0)


@given(st.binary(max_size=600))
def test_any_bytes_end_in_a_question_or_in_nothing(data: bytes):
    question = dns.parse_question(data)
    if question is not None:
        assert len(dns.reply(question, question.rcode or dns.SERVFAIL, [])) >= 12


@given(st.binary(max_size=80))
def test_any_bytes_after_a_header_are_answered_with_its_identifier(body: bytes):
    question = parsed(struct.pack(">HHHHHH", 0x55AA, 0, 1, 0, 0, 1) + body)
    assert dns.reply(question, question.rcode, ["10.0.0.1"])[:2] == b"\x55\xaa"


@given(st.lists(_LABEL, min_size=1, max_size=3).map(".".join))
def test_a_name_is_read_as_it_was_written(name: str):
    assert parsed(encoded(name)).name == name


def test_names_are_read_in_lower_case():
    assert parsed(encoded("WeB")).name == "web"


def test_responses_and_fragments_are_not_answered():
    assert dns.parse_question(encoded("web", flags=0x8180)) is None
    assert dns.parse_question(encoded("web")[:11]) is None


def test_a_compressed_question_is_malformed():
    head = struct.pack(">HHHHHH", 1, 0, 1, 0, 0, 0)
    assert parsed(head + b"\xc0\x0c\0\x01\0\x01").rcode == dns.FORMERR


def test_another_operation_is_not_implemented():
    assert parsed(encoded("web", flags=0x2800)).rcode == dns.NOTIMP


def test_the_family_asked_for_is_answered():
    both = ["10.0.0.1", "fd00::1"]
    assert dns.reply(parsed(encoded("web")), 0, both)[-4:] == bytes((10, 0, 0, 1))
    assert dns.reply(parsed(encoded("web", dns.AAAA)), 0, both)[-1] == 1
    assert counts(dns.reply(parsed(encoded("web", dns.AAAA)), 0, both[:1])) == (0, 0, 0)
    assert counts(dns.reply(parsed(encoded("web", dns.ANY)), 0, both)) == (0, 2, 0)


def test_an_answer_too_long_for_the_client_is_cut_and_marked():
    many = [f"10.0.0.{n}" for n in range(100)]
    assert counts(dns.reply(parsed(encoded("web")), 0, many)) == (0, 0, 1)
    assert counts(dns.reply(parsed(encoded("web", extra=opt(4096))), 0, many)) == (0, 100, 0)
    assert counts(dns.reply(parsed(encoded("web")), 0, many, limit=65535)) == (0, 100, 0)


def test_a_client_with_edns_gets_edns():
    assert dns.reply(parsed(encoded("web", extra=opt(1232))), 0, [])[-11:] == opt(1232)


def test_reverse_names_give_addresses():
    assert dns.reverse_address("2.0.201.10.in-addr.arpa") == "10.201.0.2"
    assert dns.reverse_address("1." + "0." * 27 + "0.0.d.f.ip6.arpa") == "fd00::1"
    assert dns.reverse_address("x.0.201.10.in-addr.arpa") == ""
    assert dns.reverse_address("z." + "0." * 31 + "ip6.arpa") == ""
    assert dns.reverse_address("web") == ""


def test_a_pointer_answer_holds_the_name():
    question = parsed(encoded("2.0.201.10.in-addr.arpa", dns.PTR))
    assert dns.reply(question, 0, [], names=["web"]).endswith(b"\0\x05\x03web\0")
