"""What applications write against the package, as a type checker must take it: checked by mypy, never run."""

from typing_extensions import assert_type

from tallygate import (
    LifecycleEvent,
    OpenAIUsageCounter,
    PerModelConfig,
    Quota,
    RateLimiter,
    RateLimiterBackend,
    RateLimiterBackendBuilderInterface,
    RateLimiterCallbacks,
    SyncRateLimiter,
    SyncRateLimiterCallbacks,
    UsageQuotas,
    create_logging_callbacks,
    create_openai_memory_rate_limiter,
    create_openai_memory_sync_rate_limiter,
    frozen_usage,
    openai_model_family_getter,
    run_conformance_test_for,
)
from tallygate.conformance import ConformanceTiming
from tallygate.quotas import BucketId, Capacities, FrozenUsage


async def on_wait_start(*, model_family: str, usage: FrozenUsage, preconsumption_capacities: Capacities) -> None:
    assert_type(preconsumption_capacities[("tokens", 60)], float)


async def on_lifecycle_event(*, event: LifecycleEvent) -> None:
    assert_type(event.bucket_ids, frozenset[BucketId] | None)


def on_missing(*, model_family: str, usage_metric: str, per_seconds: int) -> None: ...


RateLimiterCallbacks(on_wait_start=on_wait_start, on_lifecycle_event=on_lifecycle_event)
SyncRateLimiterCallbacks(on_missing_consumption_data=on_missing)
assert_type(create_logging_callbacks(wait_start=None), RateLimiterCallbacks)


def config(model_name: str) -> PerModelConfig:
    return PerModelConfig(
        quotas=UsageQuotas([Quota("requests", 1), Quota("tokens", 1)]),
        usage_counter=OpenAIUsageCounter(),
        model_family=openai_model_family_getter(model_name),
    )


assert_type(frozen_usage({"tokens": 1.5}), FrozenUsage)
assert_type(create_openai_memory_rate_limiter(rpm=1, tpm=1), RateLimiter)
assert_type(create_openai_memory_sync_rate_limiter(rpm=1, tpm=1), SyncRateLimiter)


class Backend(RateLimiterBackend):
    async def await_for_capacity(
        self,
        usage: FrozenUsage,
        *,
        timeout: float | None = None,
        reservation_id: str | None = None,
        reservation_lifetime_seconds: float | None = None,
    ) -> float | None:
        return None

    async def consume_capacity(
        self,
        usage: FrozenUsage,
        *,
        reservation_id: str | None = None,
        reservation_lifetime_seconds: float | None = None,
    ) -> float | None:
        return None

    async def refund_capacity(self, reserved_usage: FrozenUsage, actual_usage: FrozenUsage) -> None: ...

    async def set_max_capacity(self, metric: str, per_seconds: int, value: float) -> None: ...


class Builder(RateLimiterBackendBuilderInterface):
    def build(self, cfg: PerModelConfig, *, callbacks: RateLimiterCallbacks | None = None) -> Backend:
        return Backend()


RateLimiter(config, backend=Builder())
run_conformance_test_for(Builder(), timing=ConformanceTiming(operation_deadline_seconds=1))
