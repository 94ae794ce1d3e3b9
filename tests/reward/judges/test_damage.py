import numpy as np
import pytest
from PIL import Image

from benchmarks import calibration_smears
from benchmarks.blind_pictures import smear
from benchmarks.calibration_defects import spoil
from benchmarks.calibration_set import photograph, to_image, to_pixels
from reward.judges import damage
from reward.judges.measured import UNSMEARED
from reward.judges.picture import Picture

SMEARED = UNSMEARED.threshold


def along(name: str, measure, side: int, source: str = "coffee.png") -> list[float]:
    """The measure at strengths 0 to 5 of a defect on a photograph."""
    picture = photograph(source, side)
    return [measure(Picture(spoil(picture, name, k, np.random.default_rng(2)))) for k in range(6)]


def edge(sigma: float) -> np.ndarray:
    """A step blurred by a Gaussian, slanted, so that every direction has some of it."""
    from scipy.special import ndtr

    y, x = np.mgrid[:64, :64]
    return 0.2 + 0.6 * ndtr((np.hypot(x - 20, y - 30) - 20) / sigma)[..., None] * np.ones(3)


def test_sharpness_falls_with_the_sigma_of_a_blurred_edge():
    values = [damage.sharpness(Picture(edge(sigma))) for sigma in (0.5, 1, 1.5, 2, 3, 5)]
    assert np.all(np.diff(values) < -0.05)
    assert values[0] > 0.5
    assert values[3] < 0.3


@pytest.mark.parametrize("side", [64, 150, 384])
@pytest.mark.parametrize("name", ["gaussian blur", "shake", "enlarged"])
def test_blur_in_any_direction_and_at_any_size_is_seen(name, side):
    sharp, *_, strong, strongest = along(name, damage.sharpness, side)
    assert sharp > 0.5
    assert strong < 0.35
    assert strongest < strong


@pytest.mark.parametrize("degrees", [0, 30, 90, 135])
def test_motion_of_a_sixteenth_of_the_side_is_blur(degrees):
    """The edges along the motion stay sharp."""
    import cv2

    y, x = np.mgrid[:256, :256]
    pixels = np.where(np.hypot(x - 120, y - 130) < 60, 0.8, 0.2)[..., None].repeat(3, axis=2)
    turn, length = np.deg2rad(degrees), 16
    way = np.array([np.cos(turn), np.sin(turn)])
    moved = np.mean([cv2.warpAffine(pixels, np.array([[1, 0, x], [0, 1, y]]), (256, 256), borderMode=cv2.BORDER_REPLICATE)
                     for x, y in np.linspace(-length / 2, length / 2, 17)[:, None] * way], axis=0)  # fmt: skip
    assert damage.sharpness(Picture(pixels)) > 0.7
    assert damage.sharpness(Picture(moved)) < 0.4  # from which on the judge says `clarity_2`


@pytest.mark.parametrize("side", [64, 150, 384])
@pytest.mark.parametrize("degrees", [0, 25, 50, 90, 115, 160])
def test_a_straight_smear_in_any_direction_is_seen(degrees, side):
    """Of 6 % of the side; `sharpness` alone takes most of these for sharp."""
    pixels = to_pixels(photograph("astronaut.png", side))
    moved = smear(degrees)(pixels, 0.06, np.random.default_rng(0))
    assert damage.unsmeared(Picture(pixels)) > SMEARED + 0.4
    assert damage.unsmeared(Picture(to_image(moved))) < SMEARED - 0.2


def test_a_picture_and_its_quarter_turn_are_smeared_alike():
    pixels = smear(20)(to_pixels(photograph("chelsea.png", 128)), 0.05, np.random.default_rng(0))
    values = [damage.unsmeared(Picture(to_image(np.rot90(pixels, k)))) for k in range(4)]
    assert np.ptp(values) < 0.15
    wide = to_image(pixels[:90])
    assert damage.unsmeared(Picture(wide)) == pytest.approx(
        damage.unsmeared(Picture(wide.transpose(Image.Transpose.TRANSPOSE))), abs=0.15
    )


def test_a_plain_picture_is_not_called_sharp():
    assert damage.unsmeared(Picture(np.full((64, 64, 3), 0.4))) == pytest.approx(np.log(0.1), abs=0.01)
    assert np.log(0.1) < SMEARED


@pytest.mark.parametrize(
    ("height", "width"), [(3, 3), (5, 4), (7, 7), (10, 10), (12, 12), (3, 64), (64, 5), (20, 64), (64, 91)]
)
def test_noise_of_any_size_is_not_smeared(height, width):
    """In few pixels a band may have no frequency in some direction; nothing is concluded from it."""
    noise = np.random.default_rng(0).random((height, width, 3))
    assert damage.unsmeared(Picture(noise)) > SMEARED


@pytest.mark.parametrize("side", [64, 200, 512])
@pytest.mark.parametrize("sigma", [0.05, 0.1, 0.2])
def test_noise_is_what_was_added(side, sigma):
    pixels = to_pixels(photograph("chelsea.png", min(side, 300)).resize((side, side))) * 0.4 + 0.3
    noisy = pixels + np.random.default_rng(0).normal(0, sigma, pixels.shape)
    assert damage.noise_sigma(Picture(to_image(noisy))) == pytest.approx(sigma, rel=0.2)
    assert damage.noise_sigma(Picture(to_image(pixels))) < 0.03


def test_coarse_grain_is_noise_and_stripes_are_none():
    grains = np.random.default_rng(0).normal(0.5, 0.1, (64, 64, 3)).repeat(4, axis=0).repeat(4, axis=1)
    assert damage.noise_sigma(Picture(np.clip(grains, 0, 1))) == pytest.approx(0.1, rel=0.25)
    stripes = np.broadcast_to((np.arange(256) // 3 % 2)[:, None, None] * 0.5 + 0.2, (256, 256, 3))
    assert damage.noise_sigma(Picture(stripes)) < 0.02


@pytest.mark.parametrize("side", [64, 200, 384])
def test_specks_are_counted_and_lines_are_not(side):
    shares = along("specks", damage.speck_share, side)
    assert shares[0] < 0.002
    assert np.all(np.diff(shares[:5]) > 0)
    crossed = np.full((side, side, 3), 0.5)
    crossed[side // 2] = crossed[:, side // 3] = 1
    assert damage.speck_share(Picture(crossed)) == 0


@pytest.mark.parametrize("side", [96, 200, 384])
def test_a_codecs_blocks_are_seen_at_every_size(side):
    ratios = along("JPEG", damage.codec_steps, side)
    assert ratios[0] < 1.1
    assert min(ratios[4:]) > 1.4


def test_one_edge_on_the_codecs_grid_is_no_block():
    square = np.full((128, 128, 3), 0.3)
    square[32:96, 32:96] = 0.8
    assert damage.codec_steps(Picture(square)) < 1.05


def test_the_pitch_of_a_mosaic():
    mosaic = (
        photograph("coffee.png", 200).resize((5, 5), Image.Resampling.BOX).resize((200, 200), Image.Resampling.NEAREST)
    )
    assert damage.block_pitch(Picture(mosaic)) == pytest.approx(64 / 5)
    assert damage.block_pitch(Picture(photograph("coffee.png", 200))) == 0


@pytest.mark.parametrize("count", [8, 10, 16])
@pytest.mark.parametrize("side", [64, 200, 384])
def test_a_mosaics_pitch_is_its_own_and_not_twice_it(count, side):
    small = photograph("astronaut.png", side).resize((count, count), Image.Resampling.BOX)
    mosaic = Picture(small.resize((side, side), Image.Resampling.NEAREST))
    assert damage.block_pitch(mosaic) == pytest.approx(64 / count)


@pytest.mark.parametrize("side", [96, 200, 512])
def test_a_mosaic_of_cells_of_any_form_has_a_pitch_and_a_drawing_has_none(side):
    pixels = calibration_smears.stars(side, np.random.default_rng(3))
    assert damage.block_pitch(Picture(to_image(pixels))) == 0
    pitches = []
    for across in (16, 10, 6):
        cells = calibration_smears.cells(pixels, across, np.random.default_rng(4))
        pitches.append(damage.block_pitch(Picture(to_image(cells))))
    assert pitches == pytest.approx([64 / 16, 64 / 10, 64 / 6], rel=0.35)


def test_rectangles_with_hard_borders_are_no_mosaic():
    """A pitch of cells would be a roughness; these have no stairs, and no grid."""
    wall = np.full((200, 200, 3), 0.3)
    for left, top, width, height in (
        (7, 11, 31, 60),
        (52, 20, 17, 43),
        (90, 71, 55, 13),
        (150, 3, 23, 90),
        (21, 120, 71, 37),
    ):
        wall[top : top + height, left : left + width] = (0.7, 0.5, left / 200)
    assert damage.block_pitch(Picture(wall)) == 0


def test_lost_blocks_stand_on_a_grid():
    steps = along("dropped blocks", damage.grid_steps, 200)
    assert steps[0] < 1
    assert steps[-1] > 5


def test_dark_corners_by_hand():
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    light = np.where((np.abs(x) > 0.9) & (np.abs(y) > 0.9), 0.4, 0.8)
    found = damage.corner_falloff(Picture(np.repeat(light[..., None], 3, axis=2)))
    assert found == pytest.approx(1 - 0.42 / 0.82, abs=0.02)
    assert damage.corner_falloff(Picture(np.full((64, 64, 3), 0.3))) == 0


@pytest.mark.parametrize("num_tones", [2, 5, 16])
def test_tones_are_counted(num_tones):
    values = np.linspace(0, 255, num_tones).round().astype(np.uint8)
    picture = np.resize(values, (64, 64))[..., None].repeat(3, axis=2)
    assert damage.tone_count(Picture(picture)) == num_tones


@pytest.mark.parametrize("name", ["gaussian blur", "underexposure", "dark corners", "less colour", "gaussian noise", "grey noise", "specks", "JPEG", "fog"])  # fmt: skip
def test_more_of_a_defect_is_more_harm(name):
    harms = along(name, damage.harm, 128)
    assert np.all(np.diff(harms[:5]) > -0.1)
    assert max(harms) > harms[0] + 0.15
