"""How training state becomes durable, and which of it counts.

The problem. A trainer may be killed between any two instructions; its node may lose power; and a
trainer that everybody believes dead may wake up on the far side of a healed network and go on
writing. There is no lock server, and the shared volume may be NFS. A restart must still find a
complete state, and exactly one history may exist.

The layout, below `<volume>/<job uid>/`:

    attempts/000003.json         the fence: attempt 3 exists
    attempts/000003.start.json   the start record: the commit that attempt 3 goes on from, and what
                                 became of a request to go back that it was given
    commits/000000000120-000003/ a commit: state after step 120, of attempt 3
    commits/…-final/             the commit at the end of the job
    commits/…-epoch/             a commit that is made for the results of an epoch
    commits/tmp-…/               a commit or a position being written, or one being deleted; never
                                 read
    ledger/000003.jsonl          one line per step that attempt 3 took
    stacks/000003-….txt          where its threads stood when it hung; no restart reads it

Writing a commit (`writer`), beside training (`rtj_trainer.committer` takes what it holds between
two steps):
  1. Files go into `tmp-…`; each is fsynced, then the directory.
  2. The manifest, with size and sha256 of each file and of itself, is written and fsynced last.
  3. The fence is checked; the directory is renamed to its final name; the parent is fsynced.
A kill before the rename leaves only a `tmp-…` folder, which the next attempt removes. A power loss
after the rename cannot expose a partial file, because everything was durable before. If a disk lies
about that, the manifest shows it and the reader falls back.

Fencing (`attempts`). An attempt starts by creating its fence file with `link`, which exactly one
process can do. A writer looks for a newer fence before each rename and before each deletion, and
stops when it sees one. A writer that was paused between the look and the rename can still add one
commit, under its own attempt number; that is harmless, because:

Lineage (`lineage`). What counts is not what is newest but what is reachable: the newest attempt
with a start record, its own commits, then the commit it started from, and so on back. A stale
writer's commit is outside of that, unless the stale writer's attempt is itself the newest with a
start record, and then it was not stale. The next attempt takes the first commit of its lineage
whose manifest verifies, restores it, records that choice, and only then trains.

Taking (`adoption`). A writer behind a cut network may not see the fence for as long as its NFS
client trusts its cache, and goes on to delete old commits. So an attempt takes a commit by linking
its files into one of its own, under its own number, which no other deletes. The commit is verified
there. If it went away meanwhile, a newer one has come, and it is looked again. An attempt that ends
before its start record leaves what it took; that counts for nobody and is told to nobody, and the
first commit of an attempt that trains deletes it. Not sooner: its writer, if it is alive and blind
to the fence, may write the record until a newer one has one.

Going back. A request to restore an older commit has a number, and is answered in a start record:
the attempt starts from the chosen commit, which makes that the lineage, or says why it cannot.
Whoever finds the answer there does not go back again. Nothing else is needed: what was trained
after the chosen commit is no longer reachable.

Forking. The first attempt of a fork copies the other job's commit, under its own number, and the
ledger up to it to the head of its own segment. From then on the fork needs the other job no more.
Killed before its start record, it is as if it had not been, and the next attempt copies again.

Deleting (`retention`). A commit is deleted only once `keep` newer steps are in the lineage and the
newest of them verifies. If this process wrote that just now, and another commit stays to fall back
on, it is not read for that: its bytes were hashed while they were written, and are fsynced. The
first commit at or after a multiple of `keepEverySteps` stays. That of a trainer that is asked to
stop deletes none, nor does the one that was being written then: a user may want to go back to the
oldest of which status tells. A commit is renamed to `tmp-…` first, so that a half-deleted commit is
never mistaken for a whole one.
"""
