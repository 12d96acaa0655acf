"""Writes the examples of a deterministic pipeline to the volume once, and reads them at any place.

What `cache(file)` of tf.data promises and a kill breaks (`spec.dataset.cache`). A cache is a folder
`<volume>/cache/<key>/`; the key is a digest of the pipeline as TensorFlow sees it and of its data,
so all jobs that would write the same examples share one.

    shards/<sha256>.tfrecord   examples, one record each, about 64 MiB; named by their content
    entries/<number>.json      which shard is number 0, 1, 2 …; the first writer decides
    positions/<number>/        where the pipeline stood before that shard; the newest are kept
    manifest.json              all entries: the cache is complete, and never changes
    uses/<job uid>             who uses it, by the time of the file
    indices/                   where each record is, as `rtj_trainer.data` keeps it for any file

A shard is written under a private name, fsynced, hashed and renamed, then the position after it is
made durable in the same way, then its entry is created. A kill in between loses that shard only:
the next writer counts the entries, restores the position, and goes on. Two writers of one key make
the same bytes under the same names, so neither can harm the other; one that makes other bytes than
an entry says has a pipeline that is not deterministic, and is refused.

A reader takes nothing on trust: each attempt hashes each shard before it trains. One that is
damaged or gone is fetched from where shards are shared (`sharing`), else made again. `eviction`
deletes caches that nobody uses, the one that was used longest ago first.
"""
