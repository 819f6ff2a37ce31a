"""What there is and what not, as a type checker must know it: read by mypy, never run."""

from __future__ import annotations

from typing_extensions import assert_type

import tallygate
from tallygate import NoSuchThing  # type: ignore[attr-defined]

tallygate.no_such_thing  # type: ignore[attr-defined]
tallygate.TokenLimiter(5).chek("alice", 1)  # type: ignore[attr-defined]
tallygate.wrap_openai()  # type: ignore[call-arg]
tallygate.create_openai_memory_rate_limiter(rpm="1", tpm=1)  # type: ignore[arg-type]
assert_type(tallygate.count_tokens("x"), int)
