"""A reader of bundles, written from docs/format.md alone: nothing of appb is imported here.

    bundle = read(file, allowed={KEY: {"hello"}}, target=Path("tree"))

Sections of the page are named where they are followed.
"""

import hashlib
import io
import ipaddress
import json
import re
import struct
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import zstandard
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

# Constants and limits.
PREAMBLE = bytes.fromhex("28 b5 2f fd 20 00 01 00 00")
END_FRAME = bytes.fromhex("28 b5 2f fd 60 00 03 03 20 00 00")
AREA_STEP = 2048
MAX_AREA_SIZE = 32_768
MAX_SIGNATURES = 16
MAX_MANIFEST = 64 << 20
MAX_CREATED = 8**11 - 1
MAX_ENTRIES = 250_000
MAX_CONTENT = 1 << 46
MAX_FRAME = 4 << 20
MAX_COMPRESSED_FRAME = (4 << 20) + (16 << 10) + 64
MIN_WINDOW = 1 << 10

NAME = r"(?=.{1,26}\Z)(?!(?:appbundle|bin)\Z)[a-z][a-z0-9]*(-[a-z0-9]+)*"
VERSION = r"(?!current\Z)[0-9A-Za-z][0-9A-Za-z.+~_-]{0,62}"
DIGEST = r"[0-9a-f]{64}"
NUMBER = r"0|[1-9][0-9]*"
BIDI = {0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)}


class Refused(Exception):
    """A bundle breaks a rule."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """What was read.

    Args:
        manifest: Of the bundle.
        digest: Its identity.
        signers: Keys that were allowed and signed.
    """

    manifest: dict[str, Any]
    digest: str
    signers: frozenset[bytes]


def need(holds: object, rule: str) -> None:
    """Refuse the bundle unless a rule holds."""
    if not holds:
        raise Refused(rule)


def read(
    file: BinaryIO,
    *,
    allowed: Mapping[bytes, Collection[str]],
    threshold: int = 1,
    target: Path | None = None,
) -> Bundle:
    """Read a bundle as "Order of reading" says; every step refuses before the next one begins.

    Args:
        file: A file or pipe at its first byte; read once.
        allowed: For each trusted key (32 bytes) the apps that it may sign for.
        threshold: How many distinct keys must have signed.
        target: Where to unpack to; must not exist. Without it everything is checked all the same.
    """
    statement, signatures = read_area(file)
    known = {read_signature(each, statement) for each in signatures} & allowed.keys()
    need(signatures, "not signed")
    need(known, "no trusted key")
    said = read_statement(statement)
    signers = frozenset(key for key in known if said["name"] in allowed[key])
    need(len(signers) >= threshold, "too few keys are allowed for this app")
    manifest = read_manifest(file, said)
    read_payload(file, manifest, target)
    need(take(file, len(END_FRAME)) == END_FRAME and not file.read(1), "the end is another")
    return Bundle(manifest, said["manifest-sha256"], signers)


def take(file: BinaryIO, size: int) -> bytes:
    """Read exactly so many bytes."""
    content = b""
    while len(content) < size:
        piece = file.read(size - len(content))
        need(piece, "the file ends early")
        content += piece
    return content


# Container, Signature area ------------------------------------------------------------------------


def read_area(file: BinaryIO) -> tuple[bytes, list[bytes]]:
    """Read frames 1 and 2."""
    need(take(file, len(PREAMBLE)) == PREAMBLE, "another preamble")
    magic, length = struct.unpack("<4sI", take(file, 8))
    need(magic == bytes.fromhex("5a 2a 4d 18"), "no signature area")
    need(length + 8 <= MAX_AREA_SIZE and (length + 8) % AREA_STEP == 0, "the area's length")
    area = io.BytesIO(take(file, length))

    def number() -> int:
        return int.from_bytes(take(area, 4), "little")

    statement = take(area, number())
    count = number()
    need(count <= MAX_SIGNATURES, "too many signatures")
    signatures = [take(area, number()) for _ in range(count)]
    padding = area.read()
    need(len(padding) < AREA_STEP and not padding.strip(b"\0"), "padding")
    return statement, signatures


def string(content: bytes) -> bytes:
    """SSH's encoding of a string."""
    return struct.pack(">I", len(content)) + content


def read_signature(blob: bytes, statement: bytes) -> bytes:
    """Check a signature and give the key that made it."""
    purpose = string(b"appb-bundle-v1") + string(b"") + string(b"sha512")
    key, signature = blob[33:65], blob[-64:]
    whole = b"SSHSIG" + struct.pack(">I", 1) + string(string(b"ssh-ed25519") + string(key))
    whole += purpose + string(string(b"ssh-ed25519") + string(signature))
    need(len(blob) == 184 and blob == whole, "another spelling of a signature")
    signed = b"SSHSIG" + purpose + string(hashlib.sha512(statement).digest())
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, signed)
    except InvalidSignature as error:
        raise Refused("a signature does not hold") from error
    return key


def read_statement(raw: bytes) -> dict[str, str]:
    """Read an authentic statement."""
    forms = {
        "name": NAME,
        "version": VERSION,
        "release": NUMBER,
        "manifest-frame-size": NUMBER,
        "manifest-frame-sha256": DIGEST,
        "manifest-size": NUMBER,
        "manifest-sha256": DIGEST,
    }
    first, *lines, last = raw.split(b"\n")
    need(first == b"appb-bundle-v1" and last == b"" and len(lines) == len(forms), "the statement")
    said = {}
    for line, (key, form) in zip(lines, forms.items(), strict=True):
        text = line.decode("latin-1")
        need(text.startswith(f"{key}: "), f"the statement's {key}")
        said[key] = text.removeprefix(f"{key}: ")
        need(re.fullmatch(form, said[key], re.ASCII), f"the statement's {key}")
    need(len(said["release"]) <= 16 and int(said["release"]) < 1 << 53, "the release")
    for key in ("manifest-frame-size", "manifest-size"):
        need(len(said[key]) <= 9 and 1 <= int(said[key]) <= MAX_MANIFEST, key)
    return said


def unpack_frame(frame: bytes, size: int) -> bytes:
    """Decompress exactly one authenticated frame to exactly so many bytes."""
    try:
        header = zstandard.get_frame_parameters(frame)
        need(header.content_size == size and not header.dict_id, "a frame's header")
        need(header.window_size <= max(size, MIN_WINDOW), "a frame's window")
        plain = zstandard.ZstdDecompressor().decompress(
            frame, max_output_size=size, read_across_frames=False, allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise Refused("a frame does not unpack") from error
    need(len(plain) == size, "a frame's size")
    return plain


# Manifest -----------------------------------------------------------------------------------------

MANIFEST: dict[str, Any] = {
    "format": ...,
    "name": ...,
    "version": ...,
    "release": ...,
    "summary": "",
    "licence": "",
    "homepage": "",
    "source": "",
    "created": 0,
    "previous": "",
    "compression": "",
    "requires": {},
    "run": None,
    "commands": {},
    "services": [],
    "settings": [],
    "templates": [],
    "tasks": [],
    "rollback": [],
    "outward": [],
    "directories": [],
    "links": [],
    "files": [],
    "frames": [],
}
REQUIRES = {"architecture": "any", "base": "", "kernel": ""}
RUN: dict[str, Any] = {"argv": ..., "environment": {}, "directory": "/", "network": "host"}
INNER: dict[str, dict[str, Any]] = {
    "requires": REQUIRES,
    "run": RUN,
    "services": {
        "name": ...,
        "argv": ...,
        "kind": "long",
        "every": "",
        "environment": {},
        "directory": "/",
        "sockets": [],
        "ready": "exec",
        "ready_timeout_s": 60,
        "health": None,
        "stop": {},
        "reload": "",
        "after": [],
        "change": "restart",
        "limits": {},
        "entitlements": [],
    },
    "sockets": {"name": ..., "listen": ..., "backlog": 511},
    "health": {
        "http": "",
        "tcp": "",
        "command": [],
        "grace_s": 30,
        "attempts": 3,
        "interval_s": 1,
        "timeout_s": 5,
    },
    "stop": {"signal": "TERM", "timeout_s": 30},
    "limits": {
        "memory_bytes": 1 << 31,
        "tasks": 512,
        "cpu_percent": 0,
        "open_files": 65_536,
    },
    "settings": {
        "name": ...,
        "type": "text",
        "default": "",
        "help": "",
        "secret": False,
        "choices": [],
        "shared": False,
        "of": "",
    },
    "templates": {"source": ..., "target": ...},
    "tasks": {
        "when": ...,
        "argv": ...,
        "environment": {},
        "timeout_s": 600,
        "entitlements": [],
    },
    "rollback": {"below": ..., "kind": ..., "reason": ""},
}
"""The tables of objects, by the key under which they stand, alone or in a list."""
ROWS = {"links": (str, str), "files": (str, int, str, bool, int), "frames": (int, int, str)}
NUMBERS = ("format", "release", "below")
"""Required keys that are no texts."""
SIGNALS = ("TERM", "INT", "QUIT", "HUP", "USR1", "USR2", "WINCH", "KILL")
CAPABILITIES = (
    *("chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid"),
    *("setuid", "setpcap", "linux_immutable", "net_bind_service", "net_broadcast"),
    *("net_admin", "net_raw", "ipc_lock", "ipc_owner", "sys_module", "sys_rawio"),
    *("sys_chroot", "sys_ptrace", "sys_pacct", "sys_admin", "sys_boot", "sys_nice"),
    *("sys_resource", "sys_time", "sys_tty_config", "mknod", "lease", "audit_write"),
    *("audit_control", "setfcap", "mac_override", "mac_admin", "syslog", "wake_alarm"),
    *("block_suspend", "audit_read", "perfmon", "bpf", "checkpoint_restore"),
)
PLACE = r"\{\{ *([a-z][a-z0-9_]*) *(?:\| *host *)?\}\}"
BUILT_IN = {"app", "version", "state"}


def read_manifest(file: BinaryIO, said: Mapping[str, str]) -> dict[str, Any]:
    """Read the manifest that a statement vouches for, and check every rule."""
    frame = take(file, int(said["manifest-frame-size"]))
    need(hashlib.sha256(frame).hexdigest() == said["manifest-frame-sha256"], "the manifest frame")
    size = int(said["manifest-size"])
    plain = unpack_frame(frame, 512 + size + -size % 512)
    raw = plain[512 : 512 + size]
    need(hashlib.sha256(raw).hexdigest() == said["manifest-sha256"], "the manifest")
    manifest = read_canonical(raw)
    header = tar_header(".bundle/manifest.json", "0", 0o644, size, manifest["created"])
    need(plain == header + raw + bytes(-size % 512), "the tar member around the manifest")
    for key in ("name", "version", "release"):
        need(str(manifest[key]) == said[key], f"the manifest's {key} is not the statement's")
    return manifest


def read_canonical(raw: bytes) -> dict[str, Any]:
    """Read canonical JSON; gives the manifest with its defaults filled in."""
    try:
        document = json.loads(raw)
        check_kind(document, dict)
        manifest = complete(document, MANIFEST)
        check_kinds(manifest, MANIFEST)
        again = json.dumps(
            shorten(manifest, MANIFEST), ensure_ascii=False, separators=(",", ":")
        ).encode()
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise Refused("the manifest is malformed") from error
    need(again == raw, "the manifest is not in canonical form")
    check_rules(manifest)
    return manifest


def complete(found: Any, table: Mapping[str, Any]) -> dict[str, Any]:
    """Put an object's keys into the order of its table, defaults included; so with those in it."""
    check_kind(found, dict)
    need(found.keys() <= table.keys(), "an unknown key")
    whole = {key: found.get(key, default) for key, default in table.items()}
    need(... not in whole.values(), "a required key is missing")
    for key in filter(lambda key: has_objects(key, table), whole):
        if type(table[key]) is list:
            check_kind(whole[key], list)
            whole[key] = [complete(each, INNER[key]) for each in whole[key]]
        elif whole[key] is not None:
            whole[key] = complete(whole[key], INNER[key])
    return whole


def has_objects(key: str, table: Mapping[str, Any]) -> bool:
    """Whether an object, or a list of them, stands under a key; `tasks` of limits is a number."""
    return key in INNER and type(table[key]) is not int


def shorten(whole: Mapping[str, Any], table: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out whatever is the default."""
    short = {}
    for key, value in whole.items():
        if has_objects(key, table) and value is not None:
            many = [shorten(each, INNER[key]) for each in objects(value)]
            value = many if type(value) is list else many[0]
        if value != table[key]:
            short[key] = value
    return short


def objects(value: Any) -> list[dict[str, Any]]:
    """The objects under a key of INNER: in a list, alone, or none."""
    if type(value) is list:
        return value
    return [] if value is None else [value]


def check_kind(value: object, *kinds: type) -> None:
    """Refuse a value of another kind; true is no number."""
    need(type(value) in kinds, "a value of another kind")


def check_kinds(whole: Mapping[str, Any], table: Mapping[str, Any]) -> None:
    """Check the kind of every value."""
    for key, value in whole.items():
        default = table[key]
        if has_objects(key, table):
            for each in objects(value):
                check_kinds(each, INNER[key])
        elif key in ROWS:
            check_kind(value, list)
            for row in value:
                check_kind(row, list)
                for each, kind in zip(row, ROWS[key], strict=True):
                    check_kind(each, kind)
        elif key == "environment":
            check_kind(value, dict)
            check_texts(list(value.values()))
        elif key == "commands":
            check_kind(value, dict)
            for words in value.values():
                check_texts(words)
        elif key == "argv" or default == []:
            check_texts(value)
        elif default is ...:
            check_kind(value, int if key in NUMBERS else str)
        else:
            check_kind(value, type(default))


def check_texts(values: object) -> None:
    """Check a list of texts."""
    check_kind(values, list)
    assert isinstance(values, list)
    for value in values:
        check_kind(value, str)


def harmless(text: str) -> bool:
    """No control, separating or bidirectional characters."""
    kinds = ("Cc", "Zl", "Zp", "Cs")
    return not any(unicodedata.category(c) in kinds or ord(c) in BIDI for c in text)


def check_rules(manifest: dict[str, Any]) -> None:
    """Check the table and the list of rules."""
    need(manifest["format"] == 1, "the format")
    need(re.fullmatch(NAME, manifest["name"], re.ASCII), "the name")
    need(re.fullmatch(VERSION, manifest["version"], re.ASCII), "the version")
    need(0 <= manifest["release"] < 1 << 53, "the release")
    need(0 <= manifest["created"] <= MAX_CREATED, "the time")
    for key in ("summary", "licence", "homepage", "source"):
        need(len(manifest[key]) <= 1000 and harmless(manifest[key]), key)
    need(re.fullmatch(f"({DIGEST})?", manifest["previous"]), "previous")
    need(len(manifest["compression"]) <= 100 and harmless(manifest["compression"]), "compression")
    requires = manifest["requires"]
    need(re.fullmatch("[a-z0-9_]{1,32}", requires["architecture"]), "the architecture")
    need(re.fullmatch("([a-z0-9][a-z0-9.-]{0,62})?", requires["base"]), "the base")
    need(re.fullmatch(r"([0-9]{1,4}(\.[0-9]{1,4})(\.[0-9]{1,6})?)?", requires["kernel"]), "kernel")
    if manifest["run"] is not None:
        check_run(manifest["run"])
    check_services(manifest)
    check_settings(manifest)
    check_tasks(manifest)
    check_tree(manifest)
    check_commands(manifest)
    check_frames(manifest)


def check_run(run: dict[str, Any]) -> None:
    """What `appb run` starts."""
    need(run["argv"] and run["argv"][0].startswith("/"), "the program")
    need(run["directory"].startswith("/"), "the working directory")
    need(run["network"] in ("host", "none"), "the network")
    for text in (*run["argv"], run["directory"], *run["environment"].values()):
        need(len(text) <= 32_768 and harmless(text), "a text of run")
    for name in run["environment"]:
        need(re.fullmatch("[A-Za-z_][A-Za-z0-9_]{0,127}", name, re.ASCII), "a variable")


# Services -----------------------------------------------------------------------------------------


def check_services(manifest: dict[str, Any]) -> None:
    """All services, and what they have together."""
    app, services = manifest["name"], manifest["services"]
    by_name = {each["name"]: [socket["name"] for socket in each["sockets"]] for each in services}
    need(len(services) <= 64 and len(by_name) == len(services), "as many services, or their names")
    for name in by_name.get(app, []):
        need(name == app or name not in by_name.get(name, []), "two sockets of one unit")
    for service in services:
        check_service(app, service, named_settings(manifest))


def named_settings(manifest: dict[str, Any]) -> set[str]:
    """What may stand in a place."""
    return BUILT_IN | {each["name"] for each in manifest["settings"] if not each["secret"]}


def check_service(app: str, service: dict[str, Any], known: Collection[str]) -> None:
    """One service."""
    name = service["name"]
    need(re.fullmatch(NAME, name, re.ASCII), "a service's name")
    need(name == app or (name != "next" and not name.startswith("task-")), "a reserved name")
    check_command(service, known)
    need(service["kind"] in ("long", "once"), "kind")
    need(re.fullmatch("([A-Za-z0-9*:,./~ -]{1,100})?", service["every"], re.ASCII), "every")
    need(not service["every"] or service["kind"] == "once", "every of what runs for ever")
    need(service["directory"].startswith("/") and harmless(service["directory"]), "directory")
    names = {socket["name"] for socket in service["sockets"]}
    need(len(names) == len(service["sockets"]) <= 16, "sockets")
    for socket in service["sockets"]:
        need(re.fullmatch(NAME, socket["name"], re.ASCII), "a socket's name")
        need(socket["name"] != "next", "a reserved name of a socket")
        need(1 <= socket["backlog"] <= 65_535, "backlog")
        if not has_place(socket["listen"], known):
            check_listen(app, socket["listen"])
    need(service["ready"] in ("exec", "notify", "socket"), "ready")
    need(service["ready"] != "socket" or service["health"] is not None, "ready without health")
    need(1 <= service["ready_timeout_s"] <= 3600, "ready_timeout_s")
    if service["health"] is not None:
        check_health(service["health"], known)
    need(service["stop"]["signal"] in SIGNALS, "the signal to stop")
    need(1 <= service["stop"]["timeout_s"] <= 3600, "the time to stop")
    need(service["reload"] in ("", *SIGNALS), "the signal to reload")
    for each in service["after"]:
        need(all(re.fullmatch(NAME, p, re.ASCII) for p in each.split("/", 1)), "after")
    need(service["change"] in ("restart", "overlap", "reload", "keep"), "change")
    need(service["change"] != "overlap" or service["sockets"], "overlap without sockets")
    need(service["change"] != "reload" or service["reload"], "reload without a signal")
    limits = service["limits"]
    need(1 << 20 <= limits["memory_bytes"] <= 1 << 50, "memory")
    need(1 <= limits["tasks"] <= 1 << 22, "tasks")
    need(0 <= limits["cpu_percent"] <= 100_000, "processor")
    need(16 <= limits["open_files"] <= 1 << 20, "open files")


def check_command(described: dict[str, Any], known: Collection[str]) -> None:
    """What services and tasks have in common: a program, its variables, its entitlements."""
    argv, environment = described["argv"], described["environment"]
    need(argv and argv[0].startswith("/"), "the program")
    for text in (*argv, *environment.values()):
        need(len(text) <= 32_768, "a long text")
        has_place(text, known)
    for name in environment:
        need(re.fullmatch("[A-Za-z_][A-Za-z0-9_]{0,127}", name, re.ASCII), "a variable")
        need(not name.startswith(("LD_", "LISTEN_")), "a variable of others")
        need(name not in ("GCONV_PATH", "NOTIFY_SOCKET"), "a variable of others")
    need(described["entitlements"] == sorted(set(described["entitlements"])), "entitlements' order")
    for each in described["entitlements"]:
        check_entitlement(each)


def check_entitlement(text: str) -> None:
    """One entitlement."""
    kind, colon, argument = text.partition(":")
    if not colon:
        plain = "network-out listen bind-low netlink procfs jit nice namespaces"
        need(kind in plain.split(), "an entitlement")
    elif kind == "capability":
        need(argument in CAPABILITIES, "a capability")
    else:
        need(kind in ("read", "write", "device"), "an entitlement")
        need(re.fullmatch("/[A-Za-z0-9._+@/-]{1,255}", argument, re.ASCII), "a path")
        need(not {"", ".", ".."} & set(argument.split("/")[1:]), "a path's parts")
        need(kind != "device" or argument.startswith("/dev/"), "a device")


def has_place(text: str, known: Collection[str]) -> bool:
    """Check the places in a text, and say whether there are any."""
    need(harmless(text), "a text")
    names = re.findall(PLACE, text, re.ASCII)
    need("{{" not in re.sub(PLACE, "", text, flags=re.ASCII), "a malformed place")
    need(set(names) <= set(known), "a place for no setting")
    return bool(names)


def check_port(text: str) -> None:
    """A port's number."""
    need(re.fullmatch("[0-9]{1,5}", text, re.ASCII) and 1 <= int(text) <= 65_535, "a port")


def check_listen(app: str, listen: str) -> None:
    """Where a socket listens."""
    if listen.startswith("/"):
        need(re.fullmatch("[A-Za-z0-9._/-]+", listen, re.ASCII), "a socket's path")
        need(listen.startswith(f"/run/{app}/") and len(listen) <= 95, "a socket's path")
        need(not {"", ".", ".."} & set(listen.split("/")[1:]), "a socket's path")
    else:
        address, _, port = listen.rpartition(":")
        need(re.fullmatch(r"[0-9.]+|\*|\[[0-9A-Fa-f:.]+\]", address, re.ASCII), "an address")
        check_port(port)


def check_health(health: dict[str, Any], known: Collection[str]) -> None:
    """How a service is asked."""
    need(sum(bool(health[key]) for key in ("http", "tcp", "command")) == 1, "one way of health")
    need(0 <= health["grace_s"] <= 3600 and 1 <= health["attempts"] <= 1000, "patience")
    need(1 <= health["interval_s"] <= 600 and 1 <= health["timeout_s"] <= 600, "times of health")
    if health["command"]:
        need(health["command"][0].startswith("/"), "the program of health")
        need(all(len(each) <= 32_768 and harmless(each) for each in health["command"]), "its words")
    has_place(health["http"], known)
    has_place(health["tcp"], known)
    if health["http"]:
        need(re.match("https?://", health["http"]), "the scheme")
        host = re.split("[/?#]", health["http"].partition("//")[2], maxsplit=1)[0]
        check_host(host, known, needs_port=False)
    if health["tcp"]:
        check_host(health["tcp"], known, needs_port=True)


def check_host(text: str, known: Collection[str], *, needs_port: bool) -> None:
    """`HOST:PORT`, unless there is a place in it."""
    if has_place(text, known):
        return
    found = re.fullmatch(r"([0-9A-Za-z._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]+)?", text, re.ASCII)
    port = found[2] if found else None
    need(found and (port or not needs_port), "a host")
    if port:
        check_port(port[1:])


# Settings and templates, Tasks and going back -----------------------------------------------------


def check_settings(manifest: dict[str, Any]) -> None:
    """All settings and templates."""
    settings, templates = manifest["settings"], manifest["templates"]
    need(len({each["name"] for each in settings}) == len(settings) <= 256, "settings")
    need(len({each["target"] for each in templates}) == len(templates), "templates")
    files = {row[0] for row in manifest["files"]}
    need(all({each["source"], each["target"]} <= files for each in templates), "a template's file")
    for setting in settings:
        need(re.fullmatch("[a-z][a-z0-9_]{0,62}", setting["name"], re.ASCII), "a setting's name")
        need(setting["name"] not in BUILT_IN, "a setting's name")
        need(len(setting["help"]) <= 1000 and harmless(setting["help"]), "help")
        need(setting["type"] in ("text", "integer", "boolean", "port", "address"), "type")
        if setting["shared"]:
            need(setting["secret"] and not setting["of"], "sharing")
        if setting["of"]:
            need(re.fullmatch(f"{NAME}/[a-z][a-z0-9_]{{0,62}}", setting["of"], re.ASCII), "of")
        if setting["secret"]:
            plain = setting["type"] == "text" and not setting["choices"] and not setting["default"]
            need(plain, "a secret")
        else:
            for value in (*setting["choices"], setting["default"]):
                check_value(setting, value)


def check_value(setting: dict[str, Any], value: str) -> None:
    """A value of a setting."""
    need(len(value) <= 4096 and harmless(value), "a value")
    kind, choices = setting["type"], setting["choices"]
    if kind == "text" and not value:
        return
    need(not choices or value in choices, "another value than the choices")
    if kind == "integer":
        need(re.fullmatch("-?[0-9]{1,18}", value, re.ASCII), "an integer")
    elif kind == "boolean":
        need(value in ("true", "false"), "a boolean")
    elif kind == "port":
        need(re.fullmatch("[0-9]+", value, re.ASCII) and 1 <= int(value) <= 65_535, "a port")
    elif kind == "address":
        try:
            ipaddress.ip_address(value)
        except ValueError as error:
            raise Refused("an address") from error


def check_tasks(manifest: dict[str, Any]) -> None:
    """All tasks, and what going back means."""
    tasks = manifest["tasks"]
    need(len({each["when"] for each in tasks}) == len(tasks), "two tasks at once")
    for task in tasks:
        need(task["when"] in ("migrate", "snapshot", "restore"), "when")
        need(1 <= task["timeout_s"] <= 86_400, "the time of a task")
        check_command(task, named_settings(manifest))
    for rule in manifest["rollback"]:
        need(0 < rule["below"] < 1 << 53, "below")
        need(rule["kind"] in ("code", "with-state", "forbidden"), "kind")
        need(len(rule["reason"]) <= 1000 and harmless(rule["reason"]), "reason")
        need(rule["reason"] or rule["kind"] == "code", "no reason")


# The tree -----------------------------------------------------------------------------------------


def check_tree(manifest: dict[str, Any]) -> None:
    """Paths, links, files."""
    directories, outward = manifest["directories"], manifest["outward"]
    links = dict(manifest["links"])
    files = manifest["files"]
    paths = [*directories, *(row[0] for row in manifest["links"]), *(row[0] for row in files)]
    need(len(paths) <= MAX_ENTRIES, "too many entries")
    need(len(set(paths)) == len(paths), "a path stands twice")
    need(directories == sorted(directories), "the directories' order")
    need(manifest["links"] == sorted(manifest["links"]), "the links' order")
    need(files == sorted(files, key=lambda row: (row[4], row[0])), "the files' order")
    need(outward == sorted(set(outward)) and set(outward) <= links.keys(), "outward")
    known = {"", *directories}
    for path in paths:
        check_path(path, known)
    for path in directories:
        need(path.count("/") < 64, "too deep")
    for path, link_target in links.items():
        need(link_target and len(link_target.encode()) <= 4095 and harmless(link_target), "target")
        stays = follow(path.split("/")[:-1], link_target, links) is not None
        need(path in outward or stays, "a link leaves")
    for _, size, digest, _, since in files:
        need(0 <= size <= MAX_CONTENT and re.fullmatch(DIGEST, digest), "a file")
        need((size == 0) == (digest == hashlib.sha256().hexdigest()), "no bytes, or another digest")
        need(0 <= since <= manifest["release"], "since")
    need(sum(row[1] for row in files) <= MAX_CONTENT, "too much content")


def check_path(path: str, directories: Collection[str]) -> None:
    """One path."""
    parent, _, name = path.rpartition("/")
    need(not path.startswith("/") and name not in ("", ".", ".."), "a path's part")
    need(harmless(path), "a path's characters")
    need(len(name.encode()) <= 255 and len(path.encode()) <= 4095, "a path's length")
    need(parent in directories, "a path's parent")
    need(path.split("/")[0] != ".bundle", "a reserved path")


def follow(here: list[str], path: str, links: Mapping[str, str]) -> str | None:
    """Where a path leads from a directory; None if that leaves the bundle."""
    todo, met = path.split("/"), 0
    if path.startswith("/"):
        return None
    while todo:
        part = todo.pop(0)
        if part == ".." and not here:
            return None
        if part == "..":
            here.pop()
        elif part not in ("", "."):
            here.append(part)
            if "/".join(here) in links:
                link_target = links["/".join(here)]
                here.pop()
                met += 1
                if link_target.startswith("/") or met > 40:
                    return None
                todo = link_target.split("/") + todo
    return "/".join(here)


def check_commands(manifest: dict[str, Any]) -> None:
    """What people may call."""
    commands, services = manifest["commands"], [each["name"] for each in manifest["services"]]
    links = dict(manifest["links"])
    programs = {path for path, _, _, executable, _ in manifest["files"] if executable}
    need(len(commands) <= 64 and list(commands) == sorted(commands), "the commands")
    one = len(services) <= 1 or manifest["name"] in services
    need(one or not commands, "which of the services")
    for name, argv in commands.items():
        need(re.fullmatch("[a-z0-9][a-z0-9._-]{0,63}", name, re.ASCII), "a command's name")
        need(name != "appb" and 1 <= len(argv) <= 32, "a command")
        for text in argv:
            need(len(text) <= 1024 and harmless(text) and "{{" not in text, "a command's text")
        need(argv[0].startswith("/"), "a command's program")
        need(not {"", ".", ".."} & {*argv[0][1:].split("/")}, "the path of a command's program")
        need(follow([], argv[0][1:], links) in programs, "a command's program is a file")


def check_frames(manifest: dict[str, Any]) -> None:
    """The frames' sizes, one by one and all together."""
    for compressed, size, digest in manifest["frames"]:
        need(0 < compressed <= MAX_COMPRESSED_FRAME and 0 < size <= MAX_FRAME, "a frame's size")
        need(re.fullmatch(DIGEST, digest), "a frame's digest")
    total = sum(len(header) for _, header in headers(manifest))
    total += sum(size + -size % 512 for _, size, *_ in manifest["files"])
    need(total <= MAX_CONTENT, "the payload's size")
    need(total == sum(row[1] for row in manifest["frames"]), "frames that do not add up")


# Payload ------------------------------------------------------------------------------------------


def headers(manifest: dict[str, Any]) -> Iterator[tuple[list[Any], bytes]]:
    """The rows of the manifest in the stream's order, each with its tar header."""
    mtime = manifest["created"]
    for path in manifest["directories"]:
        yield [path], tar_header(path + "/", "5", 0o755, 0, mtime)
    for path, link_target in manifest["links"]:
        yield [path, link_target], tar_header(path, "2", 0o777, 0, mtime, link_target)
    for row in manifest["files"]:
        path, size, _, executable, _ = row
        yield row, tar_header(path, "0", 0o755 if executable else 0o644, size, mtime)


def tar_header(
    path: str, kind: str, mode: int, size: int, mtime: int, link_target: str = ""
) -> bytes:
    """A member's header, with a pax header before it where that is needed."""
    records = b""
    for key, text in (("path", path), ("linkpath", link_target)):
        if len(text.encode()) > 100 or not text.isascii():
            records += record(key, text)
    if size >= 8 << 30:
        records, size = records + record("size", str(size)), 0
    before = b""
    if records:
        before = ustar(b"././@PaxHeader", "x", 0o644, len(records), mtime, b"")
        before += records + bytes(-len(records) % 512)
    return before + ustar(path.encode(), kind, mode, size, mtime, link_target.encode())


def record(key: str, value: str) -> bytes:
    """`LENGTH KEY=VALUE` and a newline; LENGTH counts itself."""
    rest = f" {key}={value}\n".encode()
    length = next(n for n in range(len(rest), len(rest) + 9) if len(str(n)) + len(rest) == n)
    return str(length).encode() + rest


def ustar(name: bytes, kind: str, mode: int, size: int, mtime: int, link: bytes) -> bytes:
    """One block of 512 bytes, field by field."""
    block = bytearray(512)
    fields: dict[int, bytes] = {
        0: name[:100],
        100: b"%07o" % mode,
        108: b"0000000",
        116: b"0000000",
        124: b"%011o" % size,
        136: b"%011o" % mtime,
        148: b" " * 8,
        156: kind.encode(),
        157: link[:100],
        257: b"ustar\x0000",
        265: b"root",
        297: b"root",
        329: b"0000000",
        337: b"0000000",
    }
    for offset, value in fields.items():
        block[offset : offset + len(value)] = value
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def read_payload(file: BinaryIO, manifest: dict[str, Any], target: Path | None) -> None:
    """Read the payload, compare all of it, and write the files if that is wanted."""
    stream = Stream(file, manifest["frames"])
    if target:
        target.mkdir()
    for row, header in headers(manifest):
        need(stream.take(len(header)) == header, "a tar header")
        if len(row) == 1 and target:
            (target / row[0]).mkdir()
        elif len(row) == 2 and target:
            (target / row[0]).symlink_to(row[1])
        elif len(row) == 5:
            path, size, digest, executable, _ = row
            content = stream.take(size)
            need(hashlib.sha256(content).hexdigest() == digest, "a content")
            need(not stream.take(-size % 512).strip(b"\0"), "padding")
            if target:
                (target / path).write_bytes(content)
                (target / path).chmod(0o755 if executable else 0o644)
    need(not stream.rest and not stream.frames, "more payload")


class Stream:
    """The payload's tar stream; each frame is checked before it is unpacked."""

    def __init__(self, file: BinaryIO, frames: list[Any]) -> None:
        self.file = file
        self.frames = list(frames)
        self.rest = b""

    def take(self, size: int) -> bytes:
        """The stream's next bytes."""
        parts = []
        while size:
            if not self.rest:
                self.rest = self.next_frame()
            parts.append(self.rest[:size])
            self.rest = self.rest[size:]
            size -= len(parts[-1])
        return b"".join(parts)

    def next_frame(self) -> bytes:
        """Read, compare, and only then unpack."""
        compressed, size, digest = self.frames.pop(0)
        frame = take(self.file, compressed)
        need(hashlib.sha256(frame).hexdigest() == digest, "a frame")
        return unpack_frame(frame, size)
