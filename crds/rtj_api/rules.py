"""Rules over several fields, or over an old and a new value, that bounds cannot express.

The API server evaluates them (CEL) when a job is created or changed, so a mistake is refused by
`kubectl apply` and never reaches a pod. Each message names the field and what to do instead.
"""

from dataclasses import dataclass

from rtj_api.failure import MAX_COUNT_DIGITS, MAX_WINDOWED_RESTARTS
from rtj_api.names import MAX_JOB_NAME_LENGTH
from rtj_api.pattern import PATTERN_GRAMMAR

_CREATE_ANOTHER = (
    "the steps already trained depend on it. Create a new job, with another name, instead"
)


@dataclass(frozen=True)
class Rule:
    """One `x-kubernetes-validations` entry."""

    rule: str
    """CEL over `self`, the value at the rule's path, and `oldSelf`, the value before a change."""
    message: str
    """What the user reads."""


_FINISHED = (
    "has(oldSelf.status) && has(oldSelf.status.phase) && "
    "oldSelf.status.phase in ['Completed', 'Failed']"
)


def _same(field: str, nothing: str) -> str:
    """Return CEL that says that an optional field of spec did not change."""
    new, old = (
        f"(has({job}.spec.{field}) ? {job}.spec.{field} : {nothing})" for job in ("self", "oldSelf")
    )
    return f"{new} == {old}"


def _still_ahead(field: str, trained: str) -> str:
    """Return CEL that says that a lowered end of the training has not been passed already.

    An end in the other unit counts as lowered: nobody here knows the steps of an epoch.
    """
    new, old, position = f"self.spec.{field}", f"oldSelf.spec.{field}", "oldSelf.status.position"
    lowered = f"has({new}) && (!has({old}) || {new} < {old})"
    known = f"has(oldSelf.status) && has({position}) && has({position}.{trained})"
    return f"!({lowered} && {known}) || {new} > {position}.{trained}"


def _when_created(rule: str, message: str) -> Rule:
    """Return a rule that only a new job can break, which has no status yet.

    A job of an older schema may break it. It cannot be mended, but its status must be written, for
    which rules of the whole job are evaluated, too.
    """
    return Rule(f"has(self.status) || {rule}", message)


def _immutable(path: str) -> Rule:
    return Rule("self == oldSelf", f"{path} cannot change: {_CREATE_ANOTHER}")


RULES: dict[str, list[Rule]] = {
    "": [
        _when_created(
            f"self.metadata.name.size() <= {MAX_JOB_NAME_LENGTH}",
            f"metadata.name is too long: use at most {MAX_JOB_NAME_LENGTH} characters, since pods "
            "are named <job>-<attempt>-<index>",
        ),
        _when_created(
            "!self.metadata.name.contains('.')",
            "metadata.name has a dot, which the host name of a pod cannot have: use '-' instead",
        ),
        _when_created(
            "!has(self.spec.forkFrom) || !has(self.spec.forkFrom.jobName) || "
            "self.spec.forkFrom.jobName != self.metadata.name",
            "spec.forkFrom.jobName names this job itself: to go back in it, set "
            "spec.restore.fromCommit; to fork a job of the same name that is gone, set "
            "spec.forkFrom.jobUid",
        ),
        Rule(
            f"!({_FINISHED}) || !has(self.spec.restore) || has(oldSelf.spec.restore) && "
            "self.spec.restore.fromCommit == oldSelf.spec.restore.fromCommit",
            "spec.restore cannot change any more, since the job is finished: create a new job with "
            "spec.forkFrom, which starts from a commit of this one",
        ),
        Rule(
            f"!({_FINISHED}) || {_same('epochs', '0')} && {_same('totalSteps', '0')}",
            "spec.epochs and spec.totalSteps cannot change any more, since the job is finished: "
            "create a new job with spec.forkFrom, which goes on from a commit of this one",
        ),
        Rule(
            f"({_still_ahead('epochs', 'epoch')}) && ({_still_ahead('totalSteps', 'step')})",
            "spec.epochs and spec.totalSteps cannot be lowered to what is trained already, see "
            "status.position: to end the job where it is, suspend or delete it; its commits stay",
        ),
    ],
    "spec": [
        Rule(
            "has(self.epochs) != has(self.totalSteps)",
            "set exactly one of spec.epochs (passes over the dataset) and spec.totalSteps "
            "(optimizer steps)",
        ),
        Rule(
            "!has(self.failurePolicy.windowSeconds) || "
            f"self.runPolicy.backoffLimit <= {MAX_WINDOWED_RESTARTS} && "
            "(!has(self.failurePolicy.maxDisruptionRestarts) || "
            f"self.failurePolicy.maxDisruptionRestarts <= {MAX_WINDOWED_RESTARTS})",
            "with spec.failurePolicy.windowSeconds, spec.runPolicy.backoffLimit and "
            "spec.failurePolicy.maxDisruptionRestarts can be at most "
            f"{MAX_WINDOWED_RESTARTS}: lower them, or leave windowSeconds out",
        ),
        Rule(
            "has(self.forkFrom) == has(oldSelf.forkFrom)",
            "spec.forkFrom cannot be set or taken out later, since it says where the job began: "
            "create a new job, with another name, instead",
        ),
        Rule(
            "!has(self.checkpoint.keepBest) || has(self.builder.validationFunction) || "
            "has(self.builder.trainFunction) || "
            "!self.checkpoint.keepBest.metric.startsWith('val_')",
            "spec.checkpoint.keepBest.metric is a result of a validation, which the job does not "
            "have: set spec.builder.validationFunction, or name a metric of the training",
        ),
        Rule(
            "has(self.dataset.cache) == has(oldSelf.dataset.cache)",
            f"spec.dataset.cache cannot be set or taken out later: {_CREATE_ANOTHER}",
        ),
        Rule(
            "has(self.dataset.cache) || !has(self.builder.batchFunction)",
            "spec.builder.batchFunction is given batches of the cache: set spec.dataset.cache, or "
            "call the function in datasetFunction",
        ),
        Rule(
            "!has(self.dataset.cache) || !has(self.builder.trainFunction)",
            "spec.dataset.cache is not read by spec.builder.trainFunction: leave out one of them",
        ),
    ],
    "spec.builder": [
        _immutable("spec.builder"),
        Rule(
            "!(has(self.configMap) && has(self.claim))",
            "set spec.builder.configMap or spec.builder.claim, not both; with neither, the module "
            "must be in the trainer image",
        ),
        *(
            Rule(
                f"has(self.{name}Function) || !has(self.{name}Params)",
                f"spec.builder.{name}Params has no function to go to: set "
                f"spec.builder.{name}Function, or leave the parameters out",
            )
            for name in ("batch", "callbacks", "validation", "train")
        ),
        Rule(
            "!has(self.trainFunction) || "
            "!has(self.callbacksFunction) && !has(self.validationFunction)",
            "spec.builder.trainFunction trains by itself, so nothing would call callbacksFunction "
            "or validationFunction: leave them out, and give callbacks and validation to "
            "session.fit() there",
        ),
        Rule(
            "!has(self.trainFunction) || "
            "!has(self.modelParams) && self.modelFunction == 'build_model'",
            "spec.builder.trainFunction makes its own models, so nothing would call modelFunction: "
            "leave modelFunction and modelParams out, and give the parameters in trainParams",
        ),
        Rule(
            "!self.module.endsWith('.py')",
            "spec.builder.module is the name of a module, not of a file: leave out '.py'",
        ),
        Rule(
            "!has(self.configMap) || !self.module.contains('.') || self.module.endsWith('.py')",
            "spec.builder.module has a dot, and a ConfigMap has no folders for packages: use "
            "spec.builder.claim, or a module without dots",
        ),
    ],
    "spec.builder.claim": [
        Rule(
            "!self.path.split('/').exists(part, part == '..')",
            "spec.builder.claim.path must stay inside the claim: leave out '..'",
        ),
    ],
    **{
        f"spec.dataset.cache.{name}": [_immutable(f"spec.dataset.cache.{name}")]
        for name in ("batchSize", "shuffle", "dropRemainder")
    },
    "spec.seed": [_immutable("spec.seed")],
    "spec.checkpoint": [
        Rule(
            "!has(self.auto) || !has(self.everySteps) && !has(self.everySeconds)",
            "spec.checkpoint.auto finds the interval itself: leave out everySteps and "
            "everySeconds, or leave out auto",
        ),
    ],
    "spec.checkpoint.claimName": [_immutable("spec.checkpoint.claimName")],
    "spec.forkFrom": [
        Rule(
            "self == oldSelf",
            "spec.forkFrom cannot change, since it says where the job began: create a new job, "
            "with another name, instead",
        ),
        Rule(
            "has(self.jobName) != has(self.jobUid)",
            "set exactly one of spec.forkFrom.jobName and spec.forkFrom.jobUid (for a job that is "
            "gone)",
        ),
    ],
    "spec.failurePolicy.rules": [
        Rule(
            "self.all(r, !has(r.name) || self.exists_one(s, has(s.name) && s.name == r.name))",
            "spec.failurePolicy.rules: two rules have the same name; give each its own",
        ),
    ],
    "spec.failurePolicy.rules[]": [
        Rule(
            "[has(self.onExitCodes), has(self.onPodConditions), has(self.onTerminationMessage)]"
            ".filter(m, m).size() == 1",
            "a rule of spec.failurePolicy.rules needs exactly one of onExitCodes, onPodConditions "
            "and onTerminationMessage: write two rules instead of one",
        ),
    ],
    "spec.failurePolicy.rules[].onExitCodes": [
        Rule(
            "self.values.isSorted()",
            "spec.failurePolicy.rules[].onExitCodes.values must be in ascending order",
        ),
        Rule(
            "self.operator != 'In' || !(0 in self.values)",
            "spec.failurePolicy.rules[].onExitCodes.values cannot hold 0 with operator In: 0 is "
            "success",
        ),
    ],
    "spec.failurePolicy.rules[].onTerminationMessage": [
        Rule(
            "''.matches(self.pattern) in [true, false]",
            "spec.failurePolicy.rules[].onTerminationMessage.pattern is no regular expression in "
            "RE2 syntax",
        ),
        Rule(
            "self.pattern.findAll('[0-9]+,?[}]').map(count, "
            f"count.replace(',', '').size() - 1).sum() <= {MAX_COUNT_DIGITS}",
            "spec.failurePolicy.rules[].onTerminationMessage.pattern: its upper counts in braces "
            f"have more than {MAX_COUNT_DIGITS} digits together; use * or + instead",
        ),
        Rule(
            f"self.pattern.matches(r'{PATTERN_GRAMMAR}')",
            "spec.failurePolicy.rules[].onTerminationMessage.pattern has something that not all "
            "engines for RE2 syntax read alike: escape a { that begins no count and, in brackets, "
            r"each of [ ] & ~ - that stands for itself; leave out \Q, \E, \<, \>, \x{…}, octal "
            "numbers and names of groups; put flags, in the order imsU, at the very start or into "
            "(?i:…)",
        ),
    ],
}
"""Rules by the dotted path of the value that they look at; the empty path is the whole job."""
