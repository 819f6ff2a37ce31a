"""What users of token-throttle know from its README, written anew: everything comes from ``tallygate`` under the same names."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
import servers
import tallygate
from places import Place, shared
from tallygate import (
    MemoryBackendBuilder,
    OpenAIUsageCounter,
    PerModelConfig,
    Quota,
    RateLimiter,
    RateLimiterCallbacks,
    RedisBackendBuilder,
    SecondsIn,
    SyncMemoryBackendBuilder,
    SyncRateLimiter,
    SyncRedisBackendBuilder,
    UsageQuotas,
    create_logging_callbacks,
    create_openai_redis_rate_limiter,
    openai_model_family_getter,
)

__all__ = ["shared"]

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")


def minute_quotas() -> UsageQuotas:
    return UsageQuotas(
        [
            Quota(metric="requests", limit=60, per_seconds=60),
            Quota(metric="tokens", limit=90_000, per_seconds=60),
        ]
    )


def test_a_block_that_reserves_and_says_what_it_used():
    async def main() -> None:
        limiter = RateLimiter(PerModelConfig(quotas=minute_quotas()), backend=MemoryBackendBuilder())
        async with limiter.reserve({"requests": 1, "tokens": 1_000}, model="some-model") as handle:
            assert handle.reservation.usage == {"requests": 1, "tokens": 1_000}
            assert limiter.snapshot_state()["in_flight_reservations"] == 1
            handle.set_actual_usage({"requests": 1, "tokens": 400})
        state = limiter.snapshot_state()
        assert (state["in_flight_reservations"], state["model_families"]) == (0, 1)
        assert state["backend_type"] == "memory"
        await limiter.acquire_capacity({"requests": 1, "tokens": 89_600}, model="some-model", timeout=0)
        await limiter.aclose()

    asyncio.run(main())


def test_a_block_that_fails_is_charged_what_it_said_for_that():
    async def main() -> None:
        limiter = RateLimiter(PerModelConfig(quotas=minute_quotas()), backend=MemoryBackendBuilder())
        with pytest.raises(ConnectionError):
            async with limiter.reserve(
                {"requests": 1, "tokens": 90_000}, model="some-model", usage_on_error={"requests": 1, "tokens": 0}
            ):
                raise ConnectionError("the provider hung up")
        await limiter.acquire_capacity({"requests": 1, "tokens": 90_000}, model="some-model", timeout=0)
        await limiter.aclose()

    asyncio.run(main())


def test_a_block_that_says_nothing_warns_and_is_charged_all():
    async def main() -> None:
        limiter = RateLimiter(PerModelConfig(quotas=minute_quotas()), backend=MemoryBackendBuilder())
        with pytest.warns(RuntimeWarning, match="set_actual_usage"):
            async with limiter.reserve({"requests": 1, "tokens": 90_000}, model="some-model"):
                pass
        with pytest.raises(TimeoutError):
            await limiter.acquire_capacity({"requests": 1, "tokens": 1_000}, model="some-model", timeout=0)
        await limiter.aclose()

    asyncio.run(main())


def test_openais_client_behind_its_helper(shared: Place):
    redis = pytest.importorskip("redis.asyncio")
    openai = pytest.importorskip("openai")

    async def main(provider: str) -> None:
        redis_client = redis.from_url(shared.at)
        client = openai.AsyncOpenAI(base_url=f"{provider}/v1", api_key="sk-anything")
        limiter = create_openai_redis_rate_limiter(redis_client, key_prefix=shared.prefix, rpm=10_000, tpm=2_000_000)
        request: dict[str, Any] = {
            "model": "gpt-4o",
            "messages": [{"role": "user", "content": "Hi"}],
            "max_tokens": 512,
        }
        reservation = await limiter.acquire_capacity_for_request(**request)
        assert reservation.usage["tokens"] == 8 + 512
        try:
            response = await client.chat.completions.create(**request)
        except Exception:
            await limiter.refund_capacity(reservation=reservation, actual_usage={"requests": 1, "tokens": 0})
            raise
        else:
            await limiter.refund_capacity_from_response(reservation, response)
        finally:
            await limiter.aclose()
            await redis_client.aclose()

    with servers.mock() as provider:
        asyncio.run(main(provider))


@pytest.mark.parametrize("fails", [False, True])
def test_any_provider_by_hand(fails: bool):
    async def call_the_provider() -> dict[str, int]:
        if fails:
            raise ConnectionError("the provider hung up")
        return {"requests": 1, "input_tokens": 480, "output_tokens": 1_200}

    async def main() -> None:
        quotas = UsageQuotas(
            [
                Quota(metric="requests", limit=1_000, per_seconds=60),
                Quota(metric="input_tokens", limit=80_000, per_seconds=60),
                Quota(metric="output_tokens", limit=20_000, per_seconds=60),
            ]
        )
        limiter = RateLimiter(PerModelConfig(quotas=quotas), backend=MemoryBackendBuilder())
        reservation = await limiter.acquire_capacity(
            model="claude-sonnet-4-20250514", usage={"requests": 1, "input_tokens": 500, "output_tokens": 20_000}
        )
        try:
            actual_usage = await call_the_provider()
        except ConnectionError:
            nothing = {"requests": 1, "input_tokens": 0, "output_tokens": 0}
            await limiter.refund_capacity(actual_usage=nothing, reservation=reservation)
            left = 20_000
        else:
            await limiter.refund_capacity(actual_usage=actual_usage, reservation=reservation)
            left = 18_800
        await limiter.acquire_capacity(
            {"requests": 1, "input_tokens": 1, "output_tokens": left}, "claude-sonnet-4-20250514", timeout=0
        )
        await limiter.aclose()

    asyncio.run(main())


def test_quotas_of_one_metric_over_two_windows():
    quotas = UsageQuotas(
        [
            Quota(metric="requests", limit=2, per_seconds=SecondsIn.MINUTE),
            Quota(metric="tokens", limit=3_000_000, per_seconds=SecondsIn.MINUTE),
            Quota(metric="requests", limit=3, per_seconds=SecondsIn.DAY),
        ]
    )
    limiter = SyncRateLimiter(PerModelConfig(quotas=quotas), backend=SyncMemoryBackendBuilder())
    usage = {"requests": 1, "tokens": 10}
    for _ in range(2):
        limiter.acquire_capacity(usage, model="some-model", timeout=0)
    with pytest.raises(TimeoutError, match="requests per 60s"):
        limiter.acquire_capacity(usage, model="some-model", timeout=0)
    limiter.close()


def test_a_limit_of_one_spaces_calls():
    quotas = UsageQuotas([Quota(metric="requests", limit=1, per_seconds=1), Quota(metric="requests", limit=20)])
    limiter = SyncRateLimiter(PerModelConfig(quotas=quotas), backend=SyncMemoryBackendBuilder())
    began = time.monotonic()
    for _ in range(2):
        limiter.acquire_capacity({"requests": 1}, model="some-model")
    assert 0.99 <= time.monotonic() - began < 20
    limiter.close()


def test_a_configuration_for_each_model():
    def get_config(model_name: str) -> PerModelConfig:
        if model_name.startswith("gpt"):
            return PerModelConfig(
                quotas=UsageQuotas(
                    [
                        Quota(metric="requests", limit=10_000, per_seconds=60),
                        Quota(metric="tokens", limit=1_000, per_seconds=60),
                    ]
                ),
                usage_counter=OpenAIUsageCounter(),
                model_family=openai_model_family_getter(model_name),
            )
        return PerModelConfig(quotas=UsageQuotas.unlimited())

    async def main() -> None:
        async with RateLimiter(get_config, backend=MemoryBackendBuilder()) as limiter:
            request = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 900}
            await limiter.acquire_capacity_for_request(model="gpt-4o-2024-08-06", **request)
            with pytest.raises(TimeoutError):
                await limiter.acquire_capacity_for_request(model="gpt-4o", **request, timeout=0)
            await limiter.acquire_capacity_for_request(model="gpt-4.1", **request, timeout=0)
            free = await limiter.acquire_capacity({"tokens": 10**9}, model="house-model")
            assert free.is_unlimited
            await limiter.refund_capacity({"tokens": 1}, free)

    asyncio.run(main())


def test_backends_by_their_builders(shared: Place):
    redis = pytest.importorskip("redis")
    client = redis.Redis.from_url(shared.at)
    backends = [
        SyncMemoryBackendBuilder(),
        SyncRedisBackendBuilder(client, key_prefix=shared.prefix),
        SyncRedisBackendBuilder(shared.at, key_prefix=shared.prefix),
    ]
    for backend in backends:
        with SyncRateLimiter(PerModelConfig(quotas=minute_quotas()), backend=backend) as limiter:
            limiter.acquire_capacity({"requests": 1, "tokens": 500}, model="some-model")
    assert RedisBackendBuilder(redis.asyncio.from_url(shared.at), key_prefix=shared.prefix)


def test_a_limit_that_changes_at_run_time():
    async def main() -> None:
        async with RateLimiter(PerModelConfig(quotas=minute_quotas()), backend=MemoryBackendBuilder()) as limiter:
            await limiter.acquire_capacity({"requests": 1, "tokens": 500}, model="gpt-4o")
            await limiter.set_max_capacity(model="gpt-4o", metric="tokens", per_seconds=60, value=5_000)
            with pytest.raises(ValueError, match="tokens"):
                await limiter.acquire_capacity({"requests": 1, "tokens": 5_001}, model="gpt-4o")

    asyncio.run(main())


def test_a_try_and_a_bounded_wait():
    async def main() -> None:
        async with RateLimiter(PerModelConfig(quotas=minute_quotas()), backend=MemoryBackendBuilder()) as limiter:
            full = {"requests": 1, "tokens": 90_000}
            await limiter.acquire_capacity(full, model="gpt-4o")
            for timeout in (0, 0.05):
                with pytest.raises(TimeoutError):
                    await limiter.acquire_capacity(full, model="gpt-4o", timeout=timeout)

    asyncio.run(main())


def test_callbacks_and_lifecycle_events(caplog: pytest.LogCaptureFixture):
    events: list[tuple[str, str | None, str | None]] = []
    reserved: list[object] = []

    async def on_lifecycle_event(*, event: tallygate.LifecycleEvent) -> None:
        events.append((event.event_type, event.model_alias, event.request_id))
        reserved.append(event.usage)

    def sized(**_request: object) -> dict[str, int]:
        return {"requests": 1, "tokens": 10}

    async def main() -> None:
        config = PerModelConfig(quotas=minute_quotas(), usage_counter=sized, model_family="gpt")
        callbacks = RateLimiterCallbacks(on_lifecycle_event=on_lifecycle_event)
        async with RateLimiter(config, backend=MemoryBackendBuilder(), callbacks=callbacks) as limiter:
            reservation = await limiter.acquire_capacity_for_request(model="gpt-4o", request_id="r1")
            await limiter.refund_capacity({"requests": 1, "tokens": 3}, reservation)
        logging = create_logging_callbacks(capacity_consumed="INFO", capacity_refunded="INFO")
        async with RateLimiter(config, backend=MemoryBackendBuilder(), callbacks=logging) as limiter:
            reservation = await limiter.acquire_capacity({"requests": 1, "tokens": 10}, model="gpt-4o")
            await limiter.refund_capacity({"requests": 1, "tokens": 3}, reservation)

    with caplog.at_level("INFO", "tallygate"):
        asyncio.run(main())
    assert events == [("capacity_consumed", "gpt-4o", "r1"), ("capacity_refunded", "gpt-4o", None)]
    assert reserved == [{"requests": 1, "tokens": 10}] * 2
    assert [record.getMessage().split(" | ")[0] for record in caplog.records] == [
        "capacity consumed",
        "capacity refunded",
    ]
    assert caplog.records[1].refunded_usage == {"requests": 0, "tokens": 7}


def test_all_of_it_without_an_event_loop():
    limiter = SyncRateLimiter(PerModelConfig(quotas=minute_quotas()), backend=SyncMemoryBackendBuilder())
    try:
        reservation = limiter.acquire_capacity(model="some-model", usage={"requests": 1, "tokens": 500})
        limiter.refund_capacity(actual_usage={"requests": 1, "tokens": 320}, reservation=reservation)
        with limiter.reserve({"requests": 1, "tokens": 500}, model="some-model") as handle:
            handle.set_actual_usage({"requests": 1, "tokens": 320})
        assert limiter.snapshot_state()["in_flight_reservations"] == 0
    finally:
        limiter.close()


def test_every_documented_name_is_there():
    names = """
        AcquireRefundFailedError BackendConformanceError BackendLockContentionError BucketId Capacities CapacityReservation
        CardinalityLimitExceededError DuplicateRefundError EncodingGetter FrozenUsage LifecycleEvent MAX_ALIAS_LENGTH
        MAX_KEY_PREFIX_LENGTH MAX_METRIC_LENGTH MAX_MODEL_FAMILY_LENGTH MAX_RESERVATION_ID_LENGTH MemoryBackendBuilder
        MetricName OnCapacityConsumedCallback OnCapacityRefundedCallback OnLifecycleEventCallback
        OnMissingConsumptionDataCallback OnWaitEndCallback OnWaitStartCallback OpenAIUsageCounter PerModelConfig
        PerModelConfigGetter PerSeconds Quota RateLimiter RateLimiterBackend RateLimiterBackendBuilderInterface
        RateLimiterCallbacks RedisBackendBuilder SecondsIn SyncMemoryBackendBuilder SyncOnCapacityConsumedCallback
        SyncOnCapacityRefundedCallback SyncOnLifecycleEventCallback SyncOnMissingConsumptionDataCallback
        SyncOnWaitEndCallback SyncOnWaitStartCallback SyncRateLimiter SyncRateLimiterBackend
        SyncRateLimiterBackendBuilderInterface SyncRateLimiterCallbacks SyncRedisBackendBuilder UnknownReservationError
        Usage UsageCounter UsageQuotas conformance_test_for count_chat_input_tokens create_logging_callbacks
        create_openai_redis_rate_limiter create_openai_redis_sync_rate_limiter create_sync_logging_callbacks frozen_usage
        openai_model_family_getter run_conformance_test_for sync_conformance_test_for
    """
    missing = [name for name in names.split() if not hasattr(tallygate, name)]
    assert not missing
