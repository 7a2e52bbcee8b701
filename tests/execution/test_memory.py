"""Count the pages that the system clears for a pass."""

import platform

import pytest

FAULTS = """
import resource, torch
from mmsmt import SMT

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

model, x = SMT('base', out_indices=(0,)).eval(), torch.rand(1, 3, 224, 224)
with torch.no_grad():
    model(x)
    before = faults()
    for _ in range(5):
        model(x)
print((faults() - before) // 5)
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != 'glibc', reason='of other C libraries'
)
def test_a_pass_takes_the_memory_of_the_last(new_python):
    """A map has 4.8 MB, 1176 pages; several were cleared in each pass."""
    assert int(new_python('-c', FAULTS).stdout) < 1000
