"""A failed run's log decides, over real HTTP: the policy file's rules against a live API's logs."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.settings import load_settings
from tests.support.simulation import start_simulator
from worker.domain.logs import Then
from worker.engine.context import Context
from worker.engine.log_rules import read_rules
from worker.kinetic import KineticClient
from worker.ledger import Ledger
from worker.runtime import endpoint, list_contract, log_reader, options

RULES = """
[[log]]
pattern = 'invalid credentials'
then = "hold"
name = "bad credentials"
"""


@pytest.mark.parametrize("mode", ["url", "path", "off"])
async def test_a_log_is_read_and_its_rule_found(mode: str, ledger: Ledger, tmp_path: Path) -> None:
    """The settings, the reader, the gate and the rules work together; `off` asks for nothing."""
    (tmp_path / "policies.toml").write_text(RULES)
    with start_simulator() as simulator:
        login = simulator.add_workflow("Claims", failure_log="login failed: invalid credentials")
        (bad,), (other,) = simulator.fail(login), simulator.fail(simulator.add_workflow("Referrals"))
        config = load_settings(
            {
                "KINETIC_BASE_URL": simulator.url,
                "KINETIC_API_KEY": simulator.api_key,
                "KINETIC_LOGS": mode,
                "RETRY_POLICY_FILE": str(tmp_path / "policies.toml"),
            },
            env_file=None,
        )
        api = KineticClient(endpoint(config), list_contract(config), now=ledger.clock.now)
        logs = log_reader(config, ledger.clock.now)
        ctx = Context(ledger, api, config.policies, options(config), random=lambda: 0.0, logs=logs)
        rules = config.policies.default.log_rules
        found = await read_rules(ctx, bad, rules)
        if mode == "off":
            assert found is None
            assert simulator.record()["requests"] == {}
        else:
            assert found
            assert (found.name, found.then) == ("bad credentials", Then.HOLD)
            assert await read_rules(ctx, other, rules) is None
        await api.aclose()
        if logs:
            await logs.aclose()
