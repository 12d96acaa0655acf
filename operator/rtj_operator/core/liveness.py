"""Whether the trainer is still there.

A dead node and a hung trainer both stop the steps, but have different answers: a dead node is
nobody's fault and is replaced within seconds; a hang (`rtj_operator.core.hang`) is the program's
and counts as a failure.
"""

from rtj_operator.core.observed import Observed, Pod

GRACE_MARGIN_SECONDS = 5.0
"""After its grace period the kubelet kills; it needs a moment more to say so."""

SHORTEST_RECHECK_SECONDS = 0.5

UNHEARD_MARGIN_SECONDS = 2.0
"""How much longer a node must be silent before a trainer on it was ever heard. Then its Lease alone
decides, and a kubelet may renew that some seconds late: it unpacks an image, or the API server is
slow. More would be too much for a replacement within 15 s of the node's death."""


def node_is_dead(observed: Observed, pod: Pod) -> bool:
    """Whether both the trainer and its node have fallen silent."""
    silence = observed.silence
    if pod.node is None or silence.heartbeat < observed.settings.node_silence:
        return False
    return silence.node_gone or silence.node_lease >= _longest_of_node(observed)


def until_node_is_dead(observed: Observed) -> float:
    """Seconds until `node_is_dead` can become true, if nothing is heard until then."""
    silence = observed.silence
    of_trainer = observed.settings.node_silence - silence.heartbeat
    of_node = 0.0 if silence.node_gone else _longest_of_node(observed) - silence.node_lease
    return max(of_trainer, of_node, SHORTEST_RECHECK_SECONDS)


def _longest_of_node(observed: Observed) -> float:
    """Seconds for which the Lease of a live node may stay as it is."""
    return observed.settings.node_silence + (0.0 if observed.beat else UNHEARD_MARGIN_SECONDS)


def until_grace_is_over(observed: Observed, pod: Pod) -> float:
    """Seconds until a terminating pod need not be waited for any longer; 0 or less when over."""
    return pod.grace_seconds + GRACE_MARGIN_SECONDS - observed.silence.terminating
