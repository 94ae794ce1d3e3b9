import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpo import MpoError
from mpo.sizes import Size, SizeRule, parse_size, size_fields

COUNT = st.integers(1, 4096)
SIZES = st.builds(Size, COUNT, COUNT) | st.builds(Size, COUNT, COUNT, COUNT, st.floats(0.5, 120))
RULES = st.builds(
    SizeRule, st.just("video"), st.sampled_from([8, 16, 32]), st.sampled_from([1, 4, 8]), st.sampled_from([0, 1]),
    st.none() | st.integers(16, 200), st.just(8.0),
)  # fmt: skip


@given(SIZES)
def test_a_size_is_read_as_it_was_written(size):
    assert parse_size(size_fields(size)) == size


@pytest.mark.parametrize(
    "value", [[64], [64, 64, 8], [64, 0], [64, -8], [64.5, 64], "64x64", 64, [64, 64, 8, 0], [True, 64], None]
)
def test_what_is_no_size_is_named(value):
    with pytest.raises(ValueError, match=r"is no size; give \[width, height\] in pixels, or for clips"):
        parse_size(value)


@given(RULES, st.builds(Size, COUNT, COUNT, COUNT, st.just(8.0)))
def test_the_nearest_size_can_be_made(rule, size):
    """And is its own nearest."""
    nearest = rule.nearest(size)
    assert nearest.width % rule.multiple == nearest.height % rule.multiple == 0
    assert nearest.frames is not None
    assert (nearest.frames - rule.first) % rule.step == 0
    assert 0 < nearest.frames <= (rule.max_frames or nearest.frames)
    assert rule.nearest(nearest) == nearest
    rule.check(nearest, field="model.sizes", maker="A")


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (Size(64, 64), r"holds \[64, 64\], but A makes clips; give \[width, height, frames, frames a second\]"),
        (Size(64, 64, 12, 8.0), r"takes multiples of 16 pixels and 8k\+1 frames .*; use \[64, 64, 9, 8\]"),
        (Size(60, 64, 9, 8.0), r"use \[64, 64, 9, 8\]"),
        (Size(64, 64, 99, 7.5), r"at most 49 frames; use \[64, 64, 49, 7.5\]"),
    ],
)
def test_the_nearest_size_is_offered(size, message):
    with pytest.raises(MpoError, match=message):
        SizeRule("video", 16, 8, 1, 49, 8.0).check(size, field="model.sizes", maker="A")


def test_a_picture_model_takes_no_clip():
    with pytest.raises(MpoError, match=r"A makes pictures; give \[width, height\]"):
        SizeRule("image", 8).check(Size(64, 64, 9, 8.0), field="model.sizes", maker="A")


def test_a_model_of_one_area_takes_the_sizes_that_its_pipeline_does_not_scale():
    # 1024^2 / (768 x 1360) = 1.0039, its root 1.0020: 769.5 and 1362.7 are cut to 768 and 1360. 512 x 512 is doubled.
    rule = SizeRule("image", 16, area=1024 * 1024)
    for size in (Size(1024, 1024), Size(768, 1360), Size(1248, 832)):
        rule.check(size, field="model.sizes", maker="A")
    with pytest.raises(MpoError, match=r"about 1048576 pixels in all; use \[1024, 1024\]"):
        rule.check(Size(512, 512), field="model.sizes", maker="A")
    assert rule.nearest(rule.nearest(Size(300, 500))) == rule.nearest(Size(300, 500))
