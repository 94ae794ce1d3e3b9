import pytest

from mpo.models.families import sampling_arguments
from tests.helpers.pipelines import build


@pytest.mark.parametrize(("ours", "theirs"), [(0.0, 0.0), (1.0, 0.0), (5.0, 4.0)])
def test_guidance_counts_as_in_other_families(ours, theirs):
    """With 5, neg + 5 (pos - neg) = pos + 4 (pos - neg), which the pipeline calls 4; its 0 is none."""
    arguments = sampling_arguments(build("z_image"), guidance_scale=ours, num_prompts=1, size=None)
    assert arguments == {"guidance_scale": theirs}
