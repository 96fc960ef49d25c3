"""What a repository offers, before anything of it is installed."""

from dataclasses import dataclass

from appbundle.flows import authenticity, cost, fetch, permissions
from appbundle.flows.context import Context
from appbundle.flows.cost import Cost
from appbundle.flows.origin import read
from appbundle.names import BundleRef
from appbundle.store import generations, versions
from appbundle.store.source import Source
from appbundle.trust.verify import AuthenticStatement, VerifiedBundle


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A release that is not installed.

    Args:
        bundle: Its manifest, verified.
        repository: Whose it is.
        channels: In which it is.
        cost: What installing it would take, what was fetched to say so included.
        widenings: What its services may do that those of the current version may not.
    """

    bundle: VerifiedBundle
    repository: str
    channels: tuple[str, ...]
    cost: Cost
    widenings: tuple[str, ...]


def look(context: Context, ref: BundleRef) -> Offer:
    """Fetch a release's manifest, and compare it with what this node has.

    Raises:
        AppbError: As `fetch.find`, and as reading the bundle.
    """
    with fetch.known(context) as repositories:
        described = fetch.look_up(repositories, ref.name)
        release = fetch.choose(described, ref.version)
        origin = fetch.origin(context, described, release)

    def weigh(source: Source, authentic: AuthenticStatement) -> tuple[VerifiedBundle, Cost]:
        bundle = authenticity.open_bundle(source, authentic)
        return bundle, cost.find_cost(context.layout, source, bundle.manifest, set())

    bundle, found = read(context, origin, weigh)
    version = generations.current_version(context.layout, ref.name)
    about = version and versions.read_about(context.layout, ref.name, version)
    before = about.manifest if about else None
    return Offer(
        bundle=bundle,
        repository=described.repository,
        channels=release.channels,
        cost=found,
        widenings=tuple(sorted(permissions.compare(before, bundle.manifest))),
    )
