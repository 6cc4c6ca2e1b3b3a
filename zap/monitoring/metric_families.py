"""The metrics that zap shows, by name: what each counts or measures, in which unit, and its kind."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

Labels = Mapping[str, str]


class Sample(NamedTuple):
    """One value of a metric.

    Attributes:
        labels: its labels.
        value: the value.
        suffix: what is added to the name of the metric, such as `_bucket`.
    """

    labels: Labels
    value: float
    suffix: str = ""


# The samples of metrics by the names of the metrics.
Samples = dict[str, list[Sample]]


class Family(NamedTuple):
    """A metric with all its labels.

    Attributes:
        kind: what its values are. The samples of a counter have the suffix `_total`.
        says: what it counts or measures.
        unit: the unit, with which the name ends; an empty text if the values are numbers.
    """

    kind: Literal["counter", "gauge", "histogram", "info"]
    says: str
    unit: str = ""


FAMILIES: dict[str, Family] = {
    "zap_build": Family("info", "The versions of zap, Python and LightGBM"),
    "zap_workers": Family("gauge", "Server processes of this machine that are running"),
    # The requests.
    "zap_http_request_duration_seconds": Family(
        "histogram", "Time from the last byte of a request until its reply begins", "seconds"
    ),
    "zap_http_requests_in_progress": Family("gauge", "Requests that have begun and not ended"),
    "zap_predictions": Family("counter", "Answers that were committed, with the rows of batches"),
    "zap_log_commit_seconds": Family(
        "histogram", "Time that a request or batch waited for the commit of its predictions", "seconds"
    ),
    "zap_log_failures": Family("counter", "Requests and batches that could not be committed, so nobody got an answer"),
    "zap_log_waiting": Family("gauge", "Requests and batches that wait for their commit, looked at each second"),
    "zap_serving_model_version": Family("gauge", "The model version with which a server process answers"),
    "zap_event_loop_delay_seconds": Family(
        "gauge", "How late a server process came to its last look, which is due each second", "seconds"
    ),
    # The model, from the database.
    "zap_model": Family("info", "The model version in production, and its verdict against the best baseline"),
    "zap_model_quality": Family(
        "gauge", "Live score of the version in production or of guessing, 0 to 1, on sessions that followed its answers"
    ),
    "zap_model_sessions": Family("gauge", "Sessions on which the live scores are computed"),
    "zap_model_label_coverage_ratio": Family(
        "gauge", "Share of the answers of the version in production whose session is known", "ratio"
    ),
    "zap_training_runs": Family("gauge", "Training runs in the database by their status"),
    "zap_last_training_timestamp_seconds": Family("gauge", "When the newest training finished, since 1970", "seconds"),
    "zap_trials": Family("gauge", "Trials in the database by their status or verdict"),
    "zap_outcomes": Family("gauge", "Live answers of the last 30 days by what is known about their session"),
    "zap_alarm_firing": Family("gauge", "1 if an alarm of this kind stands, otherwise 0"),
    "zap_follower_lag_seconds": Family(
        "gauge", "How long the first answer that was not followed yet has been waiting", "seconds"
    ),
    "zap_follower_lag_rows": Family("gauge", "Rows of predictions after the last one that was followed"),
    # The database itself.
    "zap_database_up": Family("gauge", "1 if the database has answered in time, otherwise 0"),
    "zap_database_read_seconds": Family("gauge", "How long these figures took to read from the database", "seconds"),
    "zap_database_size_bytes": Family("gauge", "Size of the database, and on SQLite of its WAL", "bytes"),
    "zap_database_free_bytes": Family("gauge", "Unused pages in the SQLite file, which zap will use again", "bytes"),
    "zap_database_pool_connections": Family("gauge", "Connections of a server process, looked at each second"),
    "zap_database_connections": Family("gauge", "Connections of all programs to the PostgreSQL database"),
    "zap_database_transactions": Family("counter", "Transactions of all programs in the PostgreSQL database"),
    "zap_database_blocks": Family("counter", "Blocks that PostgreSQL has read from its cache or from the disk"),
    "zap_database_deadlocks": Family("counter", "Deadlocks in the PostgreSQL database"),
    "zap_database_replicas": Family("gauge", "Replicas that receive the changes of PostgreSQL"),
    "zap_database_replica_lag_seconds": Family(
        "gauge", "How far the slowest replica is behind; only if zap's role may read it", "seconds"
    ),
    # The processes.
    "process_cpu_seconds": Family("counter", "Processor time of a server process", "seconds"),
    "process_resident_memory_bytes": Family("gauge", "Memory of a server process in RAM", "bytes"),
    "process_virtual_memory_bytes": Family("gauge", "Address space of a server process", "bytes"),
    "process_start_time_seconds": Family("gauge", "When a server process started, since 1970", "seconds"),
    "process_open_fds": Family("gauge", "Open file descriptors of a server process"),
    "process_max_fds": Family("gauge", "The most file descriptors that a server process may open"),
    "process_threads": Family("gauge", "Threads of a server process"),
    "python_gc_collections": Family("counter", "Garbage collections of a server process"),
    "python_gc_objects_collected": Family("counter", "Objects that garbage collections have removed"),
    "python_gc_objects_uncollectable": Family("counter", "Objects that garbage collections could not remove"),
}
