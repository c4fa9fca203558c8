"""Batch scoring: a registered release over a Parquet dataset, with bounded memory, resumed after a kill.

`dataset` names rows and reads them in batches, `columns` makes a batch into what the model takes, `answering` asks the
predictor or the service, `rows` finds the rows that cannot be scored, `results` is what is written, `work` the folder
that a run is resumed from, `batch` the run itself.
"""
