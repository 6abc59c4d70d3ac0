"""A data set as an input of an MLflow run."""

import json
from collections.abc import Sequence

from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from reglab.tracking.dataset import DataSetLike

_DIGEST_LENGTH = 36  # MLflow's limit


def dataset_inputs(dataset: DataSetLike, parts: Sequence[str] = ("train", "val", "test")) -> list[DatasetInput]:
    """Return one input for each part, under the name ``<data set>.<part>``, with the part as its context.

    MLflow keeps one input for each name and digest, so the parts need different names; the digest (the first 36
    characters of the data set's) is the same, since it covers all of them. The summary becomes the profile.
    """
    source = CodeDatasetSource(tags={"reglab.data": dataset.name, "reglab.data_digest": dataset.digest})
    return [
        DatasetInput(
            Dataset(
                name=f"{dataset.name}.{part}",
                digest=dataset.digest[:_DIGEST_LENGTH],
                source_type="code",
                source=source.to_json(),
                profile=json.dumps(dict(dataset.summary)),
            ),
            [InputTag(MLFLOW_DATASET_CONTEXT, part)],
        )
        for part in parts
    ]
