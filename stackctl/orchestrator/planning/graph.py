"""Dependency order of services and operations; the one user of networkx.

Ordering is a plain walk, since every command needs it and the import of networkx costs more than a whole no-op
``up``; networkx is loaded where its algorithms earn that: naming cycles, and the graphs people look at.
"""

from collections.abc import Iterable, Mapping

from stackctl.errors import InvalidInputError
from stackctl.orchestrator.model.service import Dependency, Service
from stackctl.orchestrator.planning.plan import Operation

STARTED = "service_started"
HEALTHY = "service_healthy"
COMPLETED = "service_completed_successfully"
READY = "ready"


def namespace_parents(service: Service) -> dict[str, str]:
    """Return the services whose namespaces or volumes this one shares: name to what is shared."""
    parents: dict[str, str] = {}
    modes = (("network", service.network_mode), ("ipc", service.ipc), ("pid", service.pid))
    for what, mode in modes:
        if mode.startswith("service:"):
            parents.setdefault(mode.removeprefix("service:"), f"{what} namespace")
    for source in service.volumes_from:
        if not source.startswith("container:"):
            parents.setdefault(source.partition(":")[0], "volumes")
    return parents


def dependencies(service: Service) -> dict[str, Dependency]:
    """Return what a service depends on: ``depends_on``, and what links and shared namespaces imply."""
    found = dict(service.depends_on)
    implied = [*namespace_parents(service), *(link.partition(":")[0] for link in service.links)]
    for name in implied:
        found.setdefault(name, Dependency())
    return found


def in_order(edges: Mapping[str, Iterable[str]]) -> list[str]:
    """Return the nodes so that each stands after those it points at; otherwise in the order given.

    Targets that are no nodes are ignored. Raises InvalidInputError naming the cycle.
    """
    done: dict[str, None] = {}
    for root in edges:
        if root in done:
            continue
        open_nodes: dict[str, None] = {root: None}
        stack = [(root, iter(edges[root]))]
        while stack:
            node, rest = stack[-1]
            for target in rest:
                if target in done or target not in edges:
                    continue
                if target in open_nodes:
                    raise InvalidInputError(f"dependency cycle: {' -> '.join(find_cycle(edges))}")
                open_nodes[target] = None
                stack.append((target, iter(edges[target])))
                break
            else:
                stack.pop()
                open_nodes.pop(node)
                done[node] = None
    return list(done)


def find_cycle(edges: Mapping[str, Iterable[str]]) -> list[str]:
    """Return the nodes of one cycle, the first repeated at the end; empty when there is none."""
    import networkx

    graph = _digraph(edges)
    try:
        cycle = networkx.find_cycle(graph)
    except networkx.NetworkXNoCycle:
        return []
    return [*(edge[0] for edge in cycle), cycle[0][0]]


def reduced(edges: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """Return the same order with the edges left out that follow from others (for showing a graph)."""
    import networkx

    smaller = networkx.transitive_reduction(_digraph(edges))
    return {node: list(smaller.successors(node)) for node in edges}


def critical_path(operations: Iterable[Operation], seconds: Mapping[str, float]) -> list[str]:
    """Return the IDs of the chain of operations that took longest, given each one's seconds."""
    import networkx

    graph: networkx.DiGraph[str] = networkx.DiGraph()
    for operation in operations:
        graph.add_node(operation.id)
        for earlier in operation.after:
            graph.add_edge(earlier, operation.id, weight=seconds.get(earlier, 0.0))
    # The last operation's own time counts too: one edge from it to an end that takes none.
    for node in list(graph.nodes):
        graph.add_edge(node, "", weight=seconds.get(node, 0.0))
    path = networkx.dag_longest_path(graph) if len(graph) > 1 else []
    return [node for node in path if node]


def _digraph(edges: Mapping[str, Iterable[str]]) -> "networkx.DiGraph[str]":  # type: ignore[name-defined]  # noqa: F821
    import networkx

    graph: networkx.DiGraph[str] = networkx.DiGraph()
    for node, targets in edges.items():
        graph.add_node(node)
        graph.add_edges_from((node, target) for target in targets if target in edges)
    return graph
