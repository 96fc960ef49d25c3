"""The keys that a node trusts; that ssh-keygen agrees is checked in test_ssh_keygen.py."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appbundle.errors import NotFoundError, UsageError
from appbundle.trust import allowed_signers
from appbundle.trust.allowed_signers import AllowedSigner, UnusableLine
from appbundle.trust.keys import PublicKey

KEY = PublicKey(bytes(range(32)), "vendor")
OTHER = PublicKey(bytes(range(1, 33)), "other")
TYPE_AND_KEY = " ".join(KEY.line.split()[:2])


def only(text: str) -> AllowedSigner:
    (signer,) = allowed_signers.parse(text)
    return signer


def problem(text: str) -> str:
    (line,) = allowed_signers.read_lines(text)
    assert isinstance(line, UnusableLine)
    assert allowed_signers.parse(text) == ()
    return line.problem


def epoch(*date: int) -> int:
    return int(datetime(*date, tzinfo=UTC).timestamp())  # type: ignore[arg-type,misc]


def test_plain_line() -> None:
    """Names, key and comment; without options the key is good for everything, always."""
    signer = only(f"nova-*,!nova-api {KEY.line}\n")
    assert signer == AllowedSigner(line=1, names="nova-*,!nova-api", key=KEY)
    assert signer.key.comment == "vendor"
    assert signer.is_for("nova-compute")
    assert not signer.is_for("nova-api")
    assert signer.is_valid_at(0)


def test_all_options() -> None:
    """Options in any order and case, with a comma or blank inside quotes."""
    signer = only(
        f'* VALID-BEFORE="20270101Z",Namespaces="git,appb-*",valid-after="202601011200Z" {KEY.line}'
    )
    assert signer.namespaces == "git,appb-*"
    assert signer.is_for_bundles
    assert signer.valid_after == epoch(2026, 1, 1, 12)
    assert signer.valid_before == epoch(2027, 1, 1)


def test_blank_lines_and_comments_are_skipped_and_counted() -> None:
    """Line numbers are those of an editor."""
    text = f"# head\n\n \t\n  # indented\n  * {KEY.line}\r\n#* {OTHER.line}\n"
    assert only(text).line == 5
    assert only(text).key.comment == "vendor"


def test_only_newlines_end_lines() -> None:
    """Other characters that Python takes for line ends hide nothing and start nothing."""
    for odd in ("\f", "\v", "\x85", "\u2028", "\x1c"):
        assert allowed_signers.parse(f"# comment{odd}* {KEY.line}\n") == ()


@pytest.mark.parametrize(
    ("column", "names"),
    [
        ('"nova-api" ', "nova-api"),
        ('"a,b c" ', "a,b c"),
        ('no"va-ap"\t', "nova-ap"),
        ('"nova-api"', "nova-api"),
        ("a,b   ", "a,b"),
    ],
)
def test_quoted_names(column: str, names: str) -> None:
    """Quotes are taken off the names as ssh takes them off."""
    assert only(f"{column}{KEY.line}").names == names


@pytest.mark.parametrize(
    ("namespaces", "expected"),
    [
        ("appb-bundle-v1", True),
        ("git,appb-bundle-v1", True),
        ("appb-*", True),
        ("*,!appb-bundle-v1", False),
        ("git", False),
        ("", False),
    ],
)
def test_namespaces(namespaces: str, expected: bool) -> None:
    """A key that is trusted for other purposes is not trusted for bundles."""
    signer = only(f'* namespaces="{namespaces}" {KEY.line}')
    assert signer.is_for_bundles is expected
    assert signer.is_for("nova-api") is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("20260301Z", epoch(2026, 3, 1)),
        ("20260301", epoch(2026, 3, 1)),
        ("20260301z", epoch(2026, 3, 1)),
        ("20260301UTC", epoch(2026, 3, 1)),
        ("202603011234Z", epoch(2026, 3, 1, 12, 34)),
        ("20260301123456Z", epoch(2026, 3, 1, 12, 34, 56)),
        ("20260301123456", epoch(2026, 3, 1, 12, 34, 56)),
        ("20280229Z", epoch(2028, 2, 29)),
        ("99991231Z", epoch(9999, 12, 31)),
    ],
)
def test_times(text: str, expected: int) -> None:
    """Every form of time; without Z it is UTC unless the caller says otherwise."""
    assert only(f'* valid-after="{text}" {KEY.line}').valid_after == expected


def test_zone_is_for_times_without_z_only() -> None:
    """A caller's time zone moves times without Z and leaves the others alone."""
    text = f'* valid-after="20260301",valid-before="20260401Z" {KEY.line}'
    (signer,) = allowed_signers.parse(text, zone=timezone(timedelta(hours=2)))
    assert signer.valid_after == epoch(2026, 2, 28, 22)
    assert signer.valid_before == epoch(2026, 4, 1)


@pytest.mark.parametrize(
    "text",
    [
        "2026030",
        "202603011",
        "2026030112345Z",
        "20260230Z",
        "20261301Z",
        "202603012400Z",
        "20260301123460Z",
        "00000101Z",
        "19691231Z",
        "19700101Z",
        "2026-03-01",
        " 20260301",
        "20260301 ",
        "20260301ZZ",
        "\u0662026030\u0661",
        "",
        "now",
    ],
)
def test_no_other_time_is_taken(text: str) -> None:
    """Dates that do not exist, other forms, and times before 1970 make the line unusable."""
    assert "time" in problem(f'* valid-before="{text}" {KEY.line}')


def test_both_ends_of_the_validity_belong_to_it() -> None:
    """A key counts at valid-after and at valid-before themselves, as ssh-keygen has it."""
    signer = only(f'* valid-after="20260101Z",valid-before="20270101Z" {KEY.line}')
    begin, end = epoch(2026, 1, 1), epoch(2027, 1, 1)
    moments = (begin - 1, begin, end, end + 1)
    assert [signer.is_valid_at(t) for t in moments] == [False, True, True, False]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (f"* cert-authority {KEY.line}", "cert-authority"),
        (f'* cert-authority,namespaces="appb-*" {KEY.line}', "cert-authority"),
        ("* ssh-rsa AAAAB3NzaC1yc2EAAAADAQAB vendor", "ssh-rsa"),
        ("* sk-ssh-ed25519@openssh.com AAAA vendor", "sk-ssh-ed25519@openssh.com"),
        ("* ecdsa-sha2-nistp256 AAAA", "ecdsa"),
        (KEY.line, "begins with the key"),
        ("nova-api", "form"),
        ('"nova-api', "form"),
        ("nova-api ssh-ed25519", "missing"),
        ('nova-api namespaces="x"', "malformed options"),
        ('nova-api namespaces="x" ', "malformed options"),
        (f"* {TYPE_AND_KEY}=", "malformed"),
        (f"* {TYPE_AND_KEY[:-1]}", "malformed"),
        (f'* namespaces="a",namespaces="b" {KEY.line}', "twice"),
        (f'* valid-after="20260101Z",VALID-AFTER="20260101Z" {KEY.line}', "twice"),
        (f'* valid-after="20260101Z",valid-before="20260101Z" {KEY.line}', "not later"),
        (f"* verify-required {KEY.line}", "unknown"),
        (f'* namespace="x" {KEY.line}', "unknown"),
        (f'* name\u017fpaces="git" {KEY.line}', "unknown"),
        (f"* namespaces=x {KEY.line}", "malformed"),
        (f'* namespaces="x, {KEY.line}', "malformed"),
        (f'* namespaces="x\\" {KEY.line}', "malformed"),
        (f'* namespaces="x",, {KEY.line}', "malformed"),
        (f'* namespaces="x", {KEY.line}', "malformed"),
        (f'* namespaces="x"{KEY.line}', "malformed"),
        (f"*\0 {KEY.line}", "NUL"),
    ],
)
def test_unusable_lines_are_listed_and_give_no_trust(line: str, expected: str) -> None:
    """What cannot be used is left out and said, and hides no other line."""
    assert expected in problem(line)
    assert only(f"{line}\n* {OTHER.line}\n").key == OTHER


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    """No text, alone or in any column, makes the reader fail; a good line after it still counts."""
    for line in (text, f"* {text}", f"* {text} {KEY.line}", f'* namespaces="{text}" {KEY.line}'):
        signers = allowed_signers.parse(f"{line}\nnova-api {OTHER.line}\n")
        assert signers[-1].key == OTHER


NAMES = st.lists(st.text("abz019-*?", min_size=1, max_size=30), min_size=1, max_size=4)
TIMES = st.none() | st.integers(1, 253_402_300_799)
COMMENTS = st.text(max_size=40)


@given(NAMES, TIMES, TIMES, st.binary(min_size=32, max_size=32), COMMENTS)
def test_what_is_written_is_read(
    names: list[str], after: int | None, before: int | None, raw: bytes, comment: str
) -> None:
    """An added entry says to the reader what the writer meant, and stays on one line."""
    if after is not None and before is not None and before <= after:
        before = None
    line = allowed_signers.format_entry(
        PublicKey(raw, comment), names=names, valid_after=after, valid_before=before
    )
    assert line.count("\n") == 1
    assert only(line) == AllowedSigner(
        line=1,
        names=",".join(names),
        key=PublicKey(raw),
        namespaces="appb-bundle-v1",
        valid_after=after,
        valid_before=before,
    )


@pytest.mark.parametrize(
    "names",
    [[], [""], ["!nova"], ["a b"], ["a,b"], ['"'], ["#x"], ["a\n*"], ["!!a"], ["A"], ["x" * 102]],
)
def test_patterns_that_would_say_something_else_are_refused(names: list[str]) -> None:
    """Nothing that a name on the command line holds can become another column or line."""
    with pytest.raises(UsageError):
        allowed_signers.format_entry(KEY, names=names)


@pytest.mark.parametrize(
    ("after", "before"), [(5, 5), (6, 5), (0, None), (None, -1), (1 << 60, None)]
)
def test_validity_that_makes_no_sense_is_refused(after: int | None, before: int | None) -> None:
    """A validity must begin before it ends, between 1970 and 9999."""
    with pytest.raises(UsageError):
        allowed_signers.format_entry(KEY, names=["*"], valid_after=after, valid_before=before)


def test_add_keeps_what_was_there() -> None:
    """An entry is appended on a line of its own, also where the last newline is missing."""
    entry = allowed_signers.format_entry(KEY, names=["nova-*"])
    assert allowed_signers.add("", entry) == entry
    assert allowed_signers.add("# x\r\n", entry) == "# x\r\n" + entry
    assert allowed_signers.add("# x", entry) == "# x\n" + entry


def test_remove_takes_every_line_of_the_key_and_nothing_else() -> None:
    """All other lines stay byte for byte, odd line ends, undecodable bytes and all."""
    before = f"# caf\udce9\r\n\n  git {OTHER.line}  \r\n"
    after = f"\t# {KEY.line}\nrubbish\x0c\u2028 line\n* {OTHER.line}"
    text = f'{before}a {KEY.line}\nb valid-after="20260101Z" {TYPE_AND_KEY} else\n{after}'
    assert allowed_signers.remove(text, KEY.fingerprint) == before + after


def test_remove_the_last_line() -> None:
    """A last line without newline goes wholly."""
    assert allowed_signers.remove(f"#\n* {KEY.line}", KEY.fingerprint) == "#\n"


def test_remove_reaches_unusable_lines() -> None:
    """A key of another type, or an authority, can be removed by its fingerprint as well."""
    text = f"* ssh-rsa AAAAB3NzaC1yc2EAAAADAQAB vendor\n* cert-authority {KEY.line}\n"
    first, second = allowed_signers.read_lines(text)
    assert isinstance(first, UnusableLine)
    assert isinstance(second, UnusableLine)
    assert second.fingerprint == KEY.fingerprint
    rest = allowed_signers.remove(text, first.fingerprint)
    assert allowed_signers.remove(rest, second.fingerprint) == ""


@pytest.mark.parametrize("fingerprint", ["", "SHA256:", OTHER.fingerprint, KEY.fingerprint[:-1]])
def test_remove_says_if_there_is_no_such_key(fingerprint: str) -> None:
    """A fingerprint that no line has, also an empty one, removes nothing."""
    with pytest.raises(NotFoundError):
        allowed_signers.remove(f"* {KEY.line}\nrubbish\n", fingerprint)


@given(st.lists(st.sampled_from([f"* {KEY.line}", f"x {OTHER.line}", "", "# x", "rubbish", "\r"])))
def test_remove_leaves_a_subsequence(lines: list[str]) -> None:
    """Whatever the file, removal deletes exactly the lines that have the key."""
    text = "\n".join(lines)
    kept = [line for line in lines if KEY.line not in line]
    try:
        result = allowed_signers.remove(text, KEY.fingerprint)
    except NotFoundError:
        assert kept == lines
        return
    assert result.rstrip("\n") == "\n".join(kept).rstrip("\n")
    assert result in text + "\n" or len(result) < len(text)
