"""Whether the trainer is still there.

A dead node and a hung trainer both stop the steps, but have different answers: a dead node is
nobody's fault and is replaced within seconds; a hang (`rtj_operator.core.hang`) is the program's
and counts as a failure.
"""

from rtj_operator.core.observed import Observed, Pod

GRACE_MARGIN_SECONDS = 5.0
"""After its grace period the kubelet kills; it needs a moment more to say so."""

SHORTEST_RECHECK_SECONDS = 0.5


def node_is_dead(observed: Observed, pod: Pod) -> bool:
    """Whether both the trainer and its node have fallen silent."""
    limit, silence = observed.settings.node_silence, observed.silence
    if pod.node is None or silence.heartbeat < limit:
        return False
    return silence.node_gone or silence.node_lease >= limit


def until_node_is_dead(observed: Observed) -> float:
    """Seconds until `node_is_dead` can become true, if nothing is heard until then."""
    limit, silence = observed.settings.node_silence, observed.silence
    of_node = limit if silence.node_gone else silence.node_lease
    return max(limit - silence.heartbeat, limit - of_node, SHORTEST_RECHECK_SECONDS)


def until_grace_is_over(observed: Observed, pod: Pod) -> float:
    """Seconds until a terminating pod need not be waited for any longer; 0 or less when over."""
    return pod.grace_seconds + GRACE_MARGIN_SECONDS - observed.silence.terminating
