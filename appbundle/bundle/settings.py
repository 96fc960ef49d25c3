"""Settings: what an administrator may change of an app, and the files that follow from them."""

from typing import Literal

import msgspec


class Setting(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True
):
    """One value with a default, so that a bundle runs without any configuration.

    Args:
        name: As templates know it: a letter, then letters, digits and `_`.
        type: `text`, `integer`, `boolean` (`true` or `false`), `port`, `address` (an IP address).
        default: Its text; a secret has none, and is made at random when it is first needed.
        help: One line.
        secret: Shown nowhere, and given to services as a file of their own.
        choices: The only values, if any are named.
        shared: Of a secret: other apps may be told a value that is made of it, each its own.
        of: `APP/SETTING`, of another app. While the node has that app, and nobody sets another
            value, this is the value of that setting; a secret is what is made of that one, which
            is a shared secret, for this app.
    """

    name: str
    type: Literal["text", "integer", "boolean", "port", "address"] = "text"
    default: str = ""
    help: str = ""
    secret: bool = False
    choices: tuple[str, ...] = ()
    shared: bool = False
    of: str = ""


class Template(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True
):
    """A file that is rendered from settings into each generation, and shown over the tree's own.

    Args:
        source: The template (jinja2), a path in the bundle.
        target: The path of a file in the bundle in whose place the result is seen.
    """

    source: str
    target: str
