"""The one family of errors that the command line and Dagster's edges catch."""


class BatchAssetsError(Exception):
    """Something a person can put right; the message says what, where and how."""
