"""The API by its own description, with inputs that nobody thought of: it never breaks, and answers as it says."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from testbed_api import Api, email, populated

from vini.store import tokens
from vini.store.database import Database

schemathesis = pytest.importorskip("schemathesis", reason="pip install schemathesis")
checks = pytest.importorskip("schemathesis.specs.openapi.checks")
CHECKS = (
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
)

EXAMPLES = 6  # of each operation
LEFT_OUT = {"log_out", "stream_events"}  # the one ends our own session, the other does not end

ALWAYS_RIGHT = {"begin_oidc_login"}  # it takes nothing that could be wrong


@pytest.fixture(scope="module")
def api(cluster) -> Api:
    """On PostgreSQL, which is the stricter of the two."""
    database = Database(cluster.create("fuzz"))
    database.migrate()
    return populated(database)


@pytest.mark.takes(1500)
def test_whatever_is_asked_is_answered_as_described(api):
    """Also with values that the description forbids: those are refused, in the one shape."""
    described = schemathesis.openapi.from_asgi("/v1/openapi.json", api.app)
    operations = [found.ok() for found in described.get_all_operations()]
    assert len(operations) > 40
    answered: Counter[int] = Counter()
    for operation in operations:
        name = operation.definition.raw["operationId"]
        for mode in schemathesis.GenerationMode if name not in LEFT_OUT else ():
            if mode != schemathesis.GenerationMode.NEGATIVE or name not in ALWAYS_RIGHT:
                _fuzz(api, operation.as_strategy(generation_mode=mode), answered)
    print(answered)
    assert answered[200] > 50 and answered[400] > 50, answered


def _fuzz(api: Api, cases, answered: Counter[int]) -> None:
    @given(case=cases)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def check(case):
        case.headers = {**(case.headers or {}), "Authorization": f"Bearer {_secret(api)}"}
        answer = case.call()
        answered[answer.status_code] += 1
        case.validate_response(answer, checks=CHECKS)

    check()


def _secret(api: Api) -> str:
    """A new one each time: among what is tried is to delete tokens."""
    with api.database.transaction() as tx:
        return tokens.issue_api(tx, email("admin"), ("read", "write", "admin"), 60.0, api.now[0])
