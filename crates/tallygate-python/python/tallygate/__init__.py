"""Token-aware rate limits and quotas for LLM calls: reserve before, settle after.

>>> from tallygate import PerModelConfig, Quota, SyncRateLimiter, UsageQuotas
>>> quotas = UsageQuotas([Quota("requests", 60), Quota("tokens", 90_000)])
>>> limiter = SyncRateLimiter(PerModelConfig(quotas))
>>> with limiter.reserve({"requests": 1, "tokens": 1_000}, model="demo") as call:
...     call.set_actual_usage({"requests": 1, "tokens": 425})
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._native import CapacityReservation as CapacityReservation
from ._native import __version__ as __version__
from .backends import FolderBackendBuilder as FolderBackendBuilder
from .backends import MemoryBackendBuilder as MemoryBackendBuilder
from .backends import RedisBackendBuilder as RedisBackendBuilder
from .backends import SyncFolderBackendBuilder as SyncFolderBackendBuilder
from .backends import SyncMemoryBackendBuilder as SyncMemoryBackendBuilder
from .backends import SyncRedisBackendBuilder as SyncRedisBackendBuilder
from .errors import AcquireRefundFailedError as AcquireRefundFailedError
from .errors import BackendConformanceError as BackendConformanceError
from .errors import BackendLockContentionError as BackendLockContentionError
from .errors import CardinalityLimitExceededError as CardinalityLimitExceededError
from .errors import ClosedError as ClosedError
from .errors import DuplicateRefundError as DuplicateRefundError
from .errors import UnknownReservationError as UnknownReservationError
from .limiter import RateLimiter as RateLimiter
from .quotas import PerModelConfig as PerModelConfig
from .quotas import Quota as Quota
from .quotas import SecondsIn as SecondsIn
from .quotas import UsageQuotas as UsageQuotas
from .sync_limiter import SyncRateLimiter as SyncRateLimiter

if TYPE_CHECKING:
    from .callbacks import LifecycleEvent as LifecycleEvent
    from .callbacks import OnCapacityConsumedCallback as OnCapacityConsumedCallback
    from .callbacks import OnCapacityRefundedCallback as OnCapacityRefundedCallback
    from .callbacks import OnLifecycleEventCallback as OnLifecycleEventCallback
    from .callbacks import OnMissingConsumptionDataCallback as OnMissingConsumptionDataCallback
    from .callbacks import OnWaitEndCallback as OnWaitEndCallback
    from .callbacks import OnWaitStartCallback as OnWaitStartCallback
    from .callbacks import RateLimiterCallbacks as RateLimiterCallbacks
    from .callbacks import SyncOnCapacityConsumedCallback as SyncOnCapacityConsumedCallback
    from .callbacks import SyncOnCapacityRefundedCallback as SyncOnCapacityRefundedCallback
    from .callbacks import SyncOnLifecycleEventCallback as SyncOnLifecycleEventCallback
    from .callbacks import SyncOnMissingConsumptionDataCallback as SyncOnMissingConsumptionDataCallback
    from .callbacks import SyncOnWaitEndCallback as SyncOnWaitEndCallback
    from .callbacks import SyncOnWaitStartCallback as SyncOnWaitStartCallback
    from .callbacks import SyncRateLimiterCallbacks as SyncRateLimiterCallbacks
    from .callbacks import create_logging_callbacks as create_logging_callbacks
    from .callbacks import create_loguru_callbacks as create_loguru_callbacks
    from .callbacks import create_sync_logging_callbacks as create_sync_logging_callbacks
    from .callbacks import create_sync_loguru_callbacks as create_sync_loguru_callbacks
    from .clients import wrap_anthropic as wrap_anthropic
    from .clients import wrap_openai as wrap_openai
    from .conformance import conformance_test_for as conformance_test_for
    from .conformance import run_conformance_test_for as run_conformance_test_for
    from .conformance import sync_conformance_test_for as sync_conformance_test_for
    from .custom import RateLimiterBackend as RateLimiterBackend
    from .custom import RateLimiterBackendBuilderInterface as RateLimiterBackendBuilderInterface
    from .custom import SyncRateLimiterBackend as SyncRateLimiterBackend
    from .custom import SyncRateLimiterBackendBuilderInterface as SyncRateLimiterBackendBuilderInterface
    from .decorators import limited as limited
    from .diagnostics import BackendHealthDiagnostic as BackendHealthDiagnostic
    from .diagnostics import BackendIntrospectable as BackendIntrospectable
    from .diagnostics import BackendIntrospectionDiagnostic as BackendIntrospectionDiagnostic
    from .diagnostics import BucketDiagnostic as BucketDiagnostic
    from .diagnostics import CurrentWaitsDiagnostic as CurrentWaitsDiagnostic
    from .diagnostics import CustomBackendHealthDiagnostic as CustomBackendHealthDiagnostic
    from .diagnostics import DiagnosticBucketKey as DiagnosticBucketKey
    from .diagnostics import DiagnosticIssue as DiagnosticIssue
    from .diagnostics import InFlightReservationsDiagnostic as InFlightReservationsDiagnostic
    from .diagnostics import MemoryBackendHealthDiagnostic as MemoryBackendHealthDiagnostic
    from .diagnostics import RateLimiterDiagnostic as RateLimiterDiagnostic
    from .diagnostics import RedisBackendHealthDiagnostic as RedisBackendHealthDiagnostic
    from .diagnostics import ReservationGroupDiagnostic as ReservationGroupDiagnostic
    from .diagnostics import RuntimeOverrideDiagnostic as RuntimeOverrideDiagnostic
    from .diagnostics import SyncBackendIntrospectable as SyncBackendIntrospectable
    from .diagnostics import WaitBucketDiagnostic as WaitBucketDiagnostic
    from .diagnostics import WaiterDiagnostic as WaiterDiagnostic
    from .openai_compat import EncodingGetter as EncodingGetter
    from .openai_compat import OpenAIUsageCounter as OpenAIUsageCounter
    from .openai_compat import count_chat_input_tokens as count_chat_input_tokens
    from .openai_compat import create_openai_memory_rate_limiter as create_openai_memory_rate_limiter
    from .openai_compat import create_openai_memory_sync_rate_limiter as create_openai_memory_sync_rate_limiter
    from .openai_compat import create_openai_redis_rate_limiter as create_openai_redis_rate_limiter
    from .openai_compat import create_openai_redis_sync_rate_limiter as create_openai_redis_sync_rate_limiter
    from .openai_compat import openai_model_family_getter as openai_model_family_getter
    from .quotas import MAX_ALIAS_LENGTH as MAX_ALIAS_LENGTH
    from .quotas import MAX_KEY_PREFIX_LENGTH as MAX_KEY_PREFIX_LENGTH
    from .quotas import MAX_METRIC_LENGTH as MAX_METRIC_LENGTH
    from .quotas import MAX_MODEL_FAMILY_LENGTH as MAX_MODEL_FAMILY_LENGTH
    from .quotas import MAX_RESERVATION_ID_LENGTH as MAX_RESERVATION_ID_LENGTH
    from .quotas import BucketId as BucketId
    from .quotas import Capacities as Capacities
    from .quotas import FrozenUsage as FrozenUsage
    from .quotas import MetricName as MetricName
    from .quotas import PerModelConfigGetter as PerModelConfigGetter
    from .quotas import PerSeconds as PerSeconds
    from .quotas import Usage as Usage
    from .quotas import UsageCounter as UsageCounter
    from .quotas import frozen_usage as frozen_usage
    from .simple import DualLimiter as DualLimiter
    from .simple import TokenBucket as TokenBucket
    from .simple import TokenLimiter as TokenLimiter
    from .tokens import count_tokens as count_tokens
    from .tokens import estimate_total_tokens as estimate_total_tokens

__all__ = [
    "AcquireRefundFailedError",
    "BackendConformanceError",
    "BackendHealthDiagnostic",
    "BackendIntrospectable",
    "BackendIntrospectionDiagnostic",
    "BackendLockContentionError",
    "BucketDiagnostic",
    "BucketId",
    "Capacities",
    "CapacityReservation",
    "CardinalityLimitExceededError",
    "ClosedError",
    "CurrentWaitsDiagnostic",
    "CustomBackendHealthDiagnostic",
    "DiagnosticBucketKey",
    "DiagnosticIssue",
    "DualLimiter",
    "DuplicateRefundError",
    "EncodingGetter",
    "FolderBackendBuilder",
    "FrozenUsage",
    "InFlightReservationsDiagnostic",
    "LifecycleEvent",
    "MAX_ALIAS_LENGTH",
    "MAX_KEY_PREFIX_LENGTH",
    "MAX_METRIC_LENGTH",
    "MAX_MODEL_FAMILY_LENGTH",
    "MAX_RESERVATION_ID_LENGTH",
    "MemoryBackendBuilder",
    "MemoryBackendHealthDiagnostic",
    "MetricName",
    "OnCapacityConsumedCallback",
    "OnCapacityRefundedCallback",
    "OnLifecycleEventCallback",
    "OnMissingConsumptionDataCallback",
    "OnWaitEndCallback",
    "OnWaitStartCallback",
    "OpenAIUsageCounter",
    "PerModelConfig",
    "PerModelConfigGetter",
    "PerSeconds",
    "Quota",
    "RateLimiter",
    "RateLimiterBackend",
    "RateLimiterBackendBuilderInterface",
    "RateLimiterCallbacks",
    "RateLimiterDiagnostic",
    "RedisBackendBuilder",
    "RedisBackendHealthDiagnostic",
    "ReservationGroupDiagnostic",
    "RuntimeOverrideDiagnostic",
    "SecondsIn",
    "SyncBackendIntrospectable",
    "SyncFolderBackendBuilder",
    "SyncMemoryBackendBuilder",
    "SyncOnCapacityConsumedCallback",
    "SyncOnCapacityRefundedCallback",
    "SyncOnLifecycleEventCallback",
    "SyncOnMissingConsumptionDataCallback",
    "SyncOnWaitEndCallback",
    "SyncOnWaitStartCallback",
    "SyncRateLimiter",
    "SyncRateLimiterBackend",
    "SyncRateLimiterBackendBuilderInterface",
    "SyncRateLimiterCallbacks",
    "SyncRedisBackendBuilder",
    "TokenBucket",
    "TokenLimiter",
    "UnknownReservationError",
    "Usage",
    "UsageCounter",
    "UsageQuotas",
    "WaitBucketDiagnostic",
    "WaiterDiagnostic",
    "__version__",
    "conformance_test_for",
    "count_chat_input_tokens",
    "count_tokens",
    "create_logging_callbacks",
    "create_loguru_callbacks",
    "create_openai_memory_rate_limiter",
    "create_openai_memory_sync_rate_limiter",
    "create_openai_redis_rate_limiter",
    "create_openai_redis_sync_rate_limiter",
    "create_sync_logging_callbacks",
    "create_sync_loguru_callbacks",
    "estimate_total_tokens",
    "frozen_usage",
    "limited",
    "openai_model_family_getter",
    "run_conformance_test_for",
    "sync_conformance_test_for",
    "wrap_anthropic",
    "wrap_openai",
]

_QUOTAS = """
    MAX_ALIAS_LENGTH MAX_KEY_PREFIX_LENGTH MAX_METRIC_LENGTH MAX_MODEL_FAMILY_LENGTH MAX_RESERVATION_ID_LENGTH
    BucketId Capacities FrozenUsage MetricName PerModelConfigGetter PerSeconds Usage UsageCounter frozen_usage
"""
_CALLBACKS = """
    LifecycleEvent RateLimiterCallbacks SyncRateLimiterCallbacks
    OnCapacityConsumedCallback OnCapacityRefundedCallback OnLifecycleEventCallback OnMissingConsumptionDataCallback
    OnWaitEndCallback OnWaitStartCallback
    SyncOnCapacityConsumedCallback SyncOnCapacityRefundedCallback SyncOnLifecycleEventCallback
    SyncOnMissingConsumptionDataCallback SyncOnWaitEndCallback SyncOnWaitStartCallback
    create_logging_callbacks create_loguru_callbacks create_sync_logging_callbacks create_sync_loguru_callbacks
"""
_CUSTOM = """
    RateLimiterBackend RateLimiterBackendBuilderInterface SyncRateLimiterBackend SyncRateLimiterBackendBuilderInterface
"""
_CONFORMANCE = "conformance_test_for run_conformance_test_for sync_conformance_test_for"
_DIAGNOSTICS = """
    BackendHealthDiagnostic BackendIntrospectable BackendIntrospectionDiagnostic BucketDiagnostic CurrentWaitsDiagnostic
    CustomBackendHealthDiagnostic DiagnosticBucketKey DiagnosticIssue InFlightReservationsDiagnostic
    MemoryBackendHealthDiagnostic RateLimiterDiagnostic RedisBackendHealthDiagnostic ReservationGroupDiagnostic
    RuntimeOverrideDiagnostic SyncBackendIntrospectable WaitBucketDiagnostic WaiterDiagnostic
"""
_OPENAI = """
    EncodingGetter OpenAIUsageCounter count_chat_input_tokens openai_model_family_getter
    create_openai_memory_rate_limiter create_openai_memory_sync_rate_limiter
    create_openai_redis_rate_limiter create_openai_redis_sync_rate_limiter
"""
_TOKENS = "count_tokens estimate_total_tokens"
_SIMPLE = "DualLimiter TokenBucket TokenLimiter"
_CLIENTS = "wrap_anthropic wrap_openai"
_DECORATORS = "limited"

# What needs more than the limiters do is imported when it is first asked for.
_LAZY: dict[str, str] = {
    name: module
    for module, names in {
        "quotas": _QUOTAS,
        "callbacks": _CALLBACKS,
        "custom": _CUSTOM,
        "conformance": _CONFORMANCE,
        "diagnostics": _DIAGNOSTICS,
        "openai_compat": _OPENAI,
        "tokens": _TOKENS,
        "simple": _SIMPLE,
        "clients": _CLIENTS,
        "decorators": _DECORATORS,
    }.items()
    for name in names.split()
}

_LASTING = (
    "FolderBackendBuilder(path) keeps the counters of one process over restarts, "
    "RedisBackendBuilder(url, key_prefix=...) those of many"
)
_INSIDE = "the engine behind the builders is not Python: give a builder, and look at it by diagnose()"
_COUNTING = "count_tokens(text, model) counts, and OpenAIUsageCounter(get_encoding_func=...) takes an encoding of tiktoken"

# Names that token-throttle has, and what is here in their place.
_ELSEWHERE: dict[str, str] = {
    **dict.fromkeys(("SqliteBackendBuilder", "SyncSqliteBackendBuilder", "SqliteBackend", "SyncSqliteBackend"), _LASTING),
    "SqliteBackendHealthDiagnostic": _LASTING,
    **dict.fromkeys(("MemoryBackend", "SyncMemoryBackend", "RedisBackend", "SyncRedisBackend"), _INSIDE),
    **dict.fromkeys(("MemoryBucket", "RedisBucket", "SyncRedisBucket", "CalculatedCapacity", "CapacitiesGetterResult"), _INSIDE),
    "LOCK_TIMEOUT_SECONDS": "nothing here holds a lock on a server",
    "MAX_TOTAL_KEY_LENGTH": "MAX_KEY_PREFIX_LENGTH, MAX_MODEL_FAMILY_LENGTH and MAX_METRIC_LENGTH bound the parts of a key",
    "get_encoding": _COUNTING,
}


if not TYPE_CHECKING:
    # To a type checker there is what is imported above, and nothing else.
    def __getattr__(name: str) -> Any:
        module = _LAZY.get(name)
        if name in _ELSEWHERE:
            # Of an AttributeError `from tallygate import …` would not show the words.
            raise ImportError(f"there is no {name} in {__name__}: {_ELSEWHERE[name]}", name=__name__)
        if module is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = getattr(import_module(f".{module}", __name__), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
