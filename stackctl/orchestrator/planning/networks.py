"""What to do about each network."""

from stackctl.errors import NotFoundError
from stackctl.orchestrator.model.common import Strings
from stackctl.orchestrator.model.network import Network
from stackctl.orchestrator.planning import labels
from stackctl.orchestrator.planning.draft import Work
from stackctl.orchestrator.planning.fingerprint import changes, network_fingerprint
from stackctl.orchestrator.planning.plan import (
    Cause,
    ConnectNetwork,
    CreateNetwork,
    DisconnectNetwork,
    RemoveNetwork,
)


def plan_networks(work: Work) -> None:
    """Add what the networks of the selected services need; raises NotFoundError for an external one not there."""
    used = dict.fromkeys(key for service in work.services() for key in service.networks)
    for key in used:
        network = work.stack.networks.get(key)
        if network is not None:
            _plan_network(work, network)


def _plan_network(work: Work, network: Network) -> None:
    present = work.observed.networks.get(network.name)
    if network.external:
        if present is None and network.name not in ("host", "none", "bridge"):
            raise NotFoundError(
                f"network {network.name!r} is external and is not there",
                hint=f"Create it: docker network create {network.name}",
            )
        return
    action = CreateNetwork(name=network.name, key=network.key)
    if present is None:
        work.networks[network.key] = work.draft.add(action, "not there")
        return
    if not _is_ours(work, present.labels):
        work.draft.warnings.append(
            f"network {network.name!r} was not made for this stack; it is used as it is"
        )
        return
    before = present.labels.get(labels.FINGERPRINT, "")
    fingerprint = network_fingerprint(network)
    if not before or before == fingerprint.digest:
        return
    differences = changes(present.labels.get(labels.DEFINITION, ""), fingerprint.definition)
    cause = Cause(reason="definition changed", changes=differences)
    removal = RemoveNetwork(name=network.name, id=present.id)
    key = work.draft.add(removal, cause, _disconnected(work, network))
    work.rebuilt_networks[network.key] = key
    work.networks[network.key] = work.draft.add(action, cause, [key])
    _reconnect(work, network)


def _bystanders(work: Work, network: Network) -> list[tuple[str, str, str]]:
    """Return (ID, name, service) of containers in the network that this plan does not replace anyway."""
    return [
        (item.id, item.name, item.service)
        for item in work.observed.containers
        if network.name in item.networks and (item.service not in work.selected or item.oneoff)
    ]


def _disconnected(work: Work, network: Network) -> list[str]:
    reason = f"network {network.name} is made anew"
    return [
        work.draft.add(
            DisconnectNetwork(name=name, service=service, id=container, network=network.name),
            reason,
            detail=f"from {network.name}",
        )
        for container, name, service in _bystanders(work, network)
    ]


def _reconnect(work: Work, network: Network) -> None:
    for _, name, service in _bystanders(work, network):
        action = ConnectNetwork(name=name, service=service, key=network.key, network=network.name)
        work.draft.add(
            action,
            f"network {network.name} is made anew",
            [work.networks[network.key]],
            detail=f"to {network.name}",
        )


def _is_ours(work: Work, carried: Strings) -> bool:
    return carried.get(labels.PROJECT) == work.stack.name
