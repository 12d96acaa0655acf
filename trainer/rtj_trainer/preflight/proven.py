"""The dataset operations that docs/pipelines.md proves; a test compares the two."""

PROVEN = frozenset(
    {
        "AssertCardinalityDataset",
        "BatchDatasetV2",
        "CSVDatasetV2",
        "CacheDatasetV2",
        "ConcatenateDataset",
        "DenseToSparseBatchDataset",
        "FilterDataset",
        "FixedLengthRecordDatasetV2",
        "FlatMapDataset",
        "GroupByWindowDataset",
        "IgnoreErrorsDataset",
        "InterleaveDataset",
        "LegacyParallelInterleaveDatasetV2",
        "LoadDataset",
        "MapAndBatchDataset",
        "MapDataset",
        "OptionsDataset",
        "PaddedBatchDatasetV2",
        "ParallelBatchDataset",
        "ParallelInterleaveDatasetV4",
        "ParallelMapDatasetV2",
        "PrefetchDataset",
        "RandomDataset",
        "RandomDatasetV2",
        "RangeDataset",
        "RebatchDatasetV2",
        "RepeatDataset",
        "ScanDataset",
        "ShardDataset",
        "ShuffleDatasetV3",
        "SkipDataset",
        "SqlDataset",
        "TFRecordDataset",
        "TakeDataset",
        "TakeWhileDataset",
        "TensorDataset",
        "TensorSliceDataset",
        "TextLineDataset",
        "UnbatchDataset",
        "UniqueDataset",
        "WindowDataset",
        "ZipDataset",
    }
)
"""In pipelines whose iterator is saved, or that start from an index."""

PROVEN_BY_REPLAY = frozenset(
    {
        "DirectedInterleaveDataset",
        "ExperimentalGroupByReducerDataset",
        "ParseExampleDatasetV2",
    }
)
"""Only in pipelines that are read again from the beginning."""


USE_PROVEN = (
    "use operations that tests have proven, such as map, filter, batch, shuffle, interleave, "
    "cache, take, repeat and prefetch"
)


def unproven(operations: set[str], strategy: str) -> list[str]:
    """Return the dataset operations that no test has proven for a strategy."""
    proven = PROVEN | PROVEN_BY_REPLAY if strategy == "replay" else PROVEN
    return sorted({name for name in operations if "Dataset" in name} - proven)
