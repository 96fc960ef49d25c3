"""Where paths of a bundle lead, by way of its links, as a kernel follows them."""

from collections.abc import Mapping

_MAX_LINK_HOPS = 40


def leads_to(path: str, links: Mapping[str, str], *, base: str = "") -> str | None:
    """Follow a path through the links of a bundle.

    Args:
        path: As it stands in a link, or below the bundle's top.
        links: Every link of the bundle, path to target.
        base: The directory that it begins in.

    Returns:
        A path that is no link; None if it leaves the bundle, or if it takes more hops than a kernel
        follows.
    """
    if path.startswith("/"):
        return None
    here = base.split("/") if base else []
    todo = path.split("/")[::-1]
    hops = 0
    while todo:
        part = todo.pop()
        if part in ("", "."):
            continue
        if part == "..":
            if not here:
                return None
            here.pop()
            continue
        here.append(part)
        target = links.get("/".join(here))
        if target is not None:
            hops += 1
            if target.startswith("/") or hops > _MAX_LINK_HOPS:
                return None
            here.pop()
            todo += target.split("/")[::-1]
    return "/".join(here)
