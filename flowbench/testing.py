"""Contract tests for people who write a suite or an agent: what is wrong with yours, in one sentence.

`check_suite` and `check_agent` raise `ContractViolation` at the first promise of the contract that does not hold. They
need no test framework; FlowBench's own suites and agents pass the same checks.
"""

from flowbench.agent_contract import check_agent
from flowbench.contracts import ContractViolation
from flowbench.suite_contract import check_suite
from flowbench.view_agreement import Agreement, two_view_agreement

__all__ = ["Agreement", "ContractViolation", "check_agent", "check_suite", "two_view_agreement"]
