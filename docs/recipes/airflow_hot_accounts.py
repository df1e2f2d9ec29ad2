"""A DAG that runs when an account turns hot. This file goes into Airflow's `dags/`, `airflow_isotherm.py` into its
`plugins/`. They need Airflow 3 and `apache-airflow-providers-apache-kafka`, and nothing of Isotherm's.

The connection `isotherm_changes` is of type Kafka; its extra:

    {"bootstrap.servers": "kafka:9092", "group.id": "airflow.hot_accounts", "enable.auto.commit": false,
     "auto.offset.reset": "earliest"}

`earliest`, because the trigger makes a consumer anew after each message that it fires on: with `latest`, a
partition of which it has committed nothing would begin behind what came meanwhile. And it commits a message before
Airflow has stored that there was one: a triggerer that dies in between loses it. Where every account counts, use
`airflow_bridge.py` instead.
"""

from __future__ import annotations

from typing import Any

from airflow.providers.apache.kafka.triggers.msg_queue import KafkaMessageQueueTrigger
from airflow.sdk import DAG, Asset, AssetWatcher, task

trigger = KafkaMessageQueueTrigger(
    topics=["segment.changes"],
    kafka_config_id="isotherm_changes",
    apply_function="airflow_isotherm.turned_hot",
    poll_interval=0,  # it is slept after every message that is not wanted, 5 s unless one says otherwise
)
hot_accounts = Asset("isotherm_hot_accounts", watchers=[AssetWatcher(name="segment_changes", trigger=trigger)])


def of_run(events: Any) -> list[dict[str, Any]]:
    """The accounts that a run is about, each change once: a run may stand for several messages."""
    told = [event.extra["payload"] for event in events]
    return list({each["id"]: each for each in told}.values())


with DAG("isotherm_hot_accounts", schedule=[hot_accounts], catchup=False) as dag:

    @task
    def accounts(triggering_asset_events: Any = None) -> list[dict[str, Any]]:
        return of_run(triggering_asset_events[hot_accounts])

    @task(map_index_template="{{ task.op_kwargs['change']['account'] }}")
    def begin_journey(change: dict[str, Any]) -> None:
        """Yours to write. It may run twice for a change: give `change["id"]` along as the key of idempotency."""
        print(change["account"], change["reason"])

    begin_journey.expand(change=accounts())
