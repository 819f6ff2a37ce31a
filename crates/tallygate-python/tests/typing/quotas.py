"""What a type checker must see of the package: checked by mypy, never run."""

from typing_extensions import assert_type

from tallygate import PerModelConfig, Quota, SecondsIn, UsageQuotas

quota = Quota(metric="tokens", limit=90_000, per_seconds=SecondsIn.MINUTE)
assert_type(quota.metric, str)
quotas = UsageQuotas([quota])
assert_type(quotas.is_unlimited, bool)
config = PerModelConfig(quotas=quotas)
assert_type(config.get_model_family(), str)
