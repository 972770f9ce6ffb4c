"""Tests of file descriptor limits: the soft limit is raised up to the hard one."""

import json
import sys
from collections.abc import Sequence

import pytest

from tests.sidecar_process import SIDECAR, printed, run, serving

pytestmark = pytest.mark.usefixtures("measured")

URL = "http://127.0.0.1:9/v1/oauth/token"
SCRIPT = """
import json, resource, sys
from sidecar.process import file_limits
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
soft, limit, connections = json.loads(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, limit))
limits = file_limits.raise_soft_limit(connections=connections, calls=10)
print(json.dumps([limits, resource.getrlimit(resource.RLIMIT_NOFILE)]))
"""


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([64, 8192, 1024], [[4618, 4618], [4618, 8192]]),
        ([5000, 8192, 1024], [[4618, 5000], [5000, 8192]]),
        ([64, 512, 1024], [[4618, 512], [512, 512]]),
    ],
    ids=["too few", "enough", "too few allowed"],
)
async def test_provide(arguments: Sequence[int], expected: object) -> None:
    """The soft limit is the number needed or the hard limit, and is never lowered."""
    end = await run(sys.executable, "-c", SCRIPT, json.dumps(arguments))
    assert json.loads(printed(end)) == expected


async def test_the_log_tells_of_too_few() -> None:
    """With fewer descriptors than it may need, the process warns and serves."""
    limited = ("prlimit", "--nofile=128:128")
    async with serving("serve", program=(*limited, *SIDECAR), auth_api_token_url=URL) as sidecar:
        line = json.loads(await sidecar.log.find('"message": "few descriptors"'))
        assert (line["needed"], line["found"]) == (2 * (2 * 1024 + 2 * 64) + 32 + 256, 128)
