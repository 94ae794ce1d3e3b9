import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from reward import Clip, MediaError
from reward.media import Sampling, digest, read_clip, read_image, read_media, sample_times

EVERY = Sampling(max_frames=1000)


def write_clip(path, num_frames: int, fps: int, codec: str = "mpeg4") -> np.ndarray:
    """Frame i is grey level 2 i, so that a decoded frame can be told by its mean."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.bit_rate = 4_000_000
        for i in range(num_frames):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 2 * i, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return np.arange(num_frames) * 2


def test_every_way_in_gives_the_same_picture(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    chw = pixels.transpose(2, 0, 1)
    ways = [
        tmp_path / "a.png", str(tmp_path / "a.png"), (tmp_path / "a.png").read_bytes(), Image.fromarray(pixels), chw,
        torch.from_numpy(chw.copy()), chw.astype(np.float32) / 255, torch.from_numpy(chw / 255), torch.from_numpy(chw / 255).float(),
    ]  # fmt: skip
    for way in ways:
        np.testing.assert_array_equal(np.asarray(read_image(way)), pixels)
    np.testing.assert_array_equal(np.asarray(read_image(pixels, "HWC")), pixels)
    half = np.asarray(read_image(torch.from_numpy(chw / 255).bfloat16())).astype(int)
    assert abs(half - pixels).max() <= 1


def test_a_photograph_is_turned_upright(tmp_path):
    image = Image.new("RGB", (40, 20), (255, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg").size == (20, 40)
    with Image.open(tmp_path / "turned.jpg") as lazy:
        assert read_image(lazy).size == (20, 40)
        assert digest(lazy) == digest(read_image(tmp_path / "turned.jpg"))


def test_sixteen_bits_are_scaled_and_transparency_is_white(tmp_path):
    ramp = np.linspace(0, 65535, 256).round().astype(np.uint16).reshape(16, 16)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / "deep.png"))[..., 0].flatten(), np.arange(256))
    clear = Image.new("RGBA", (4, 4), (200, 0, 0, 0))
    clear.putpixel((0, 0), (200, 0, 0, 255))
    pixels = np.asarray(read_image(clear))
    assert pixels[0, 0].tolist() == [200, 0, 0]
    assert (pixels[1:] == 255).all()
    for mode in ("I", "F"):
        with pytest.raises(MediaError, match=f"mode '{mode}'"):
            read_image(Image.new(mode, (4, 4)))


def encoded(image: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def test_pictures_of_the_datasets_library(tmp_path):
    """Its Image feature without decoding: bytes, or the path of a file, or both."""
    image = Image.new("RGB", (5, 4), (1, 2, 3))
    image.save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    for source in (
        {"bytes": content, "path": None},
        {"bytes": None, "path": str(tmp_path / "a.png")},
        {"bytes": content, "path": "gone.png"},
    ):
        np.testing.assert_array_equal(np.asarray(read_image(source)), np.asarray(image))
        assert digest(source) == digest(content)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        # 16-bit grey, whose value 0 is transparent in the second: 30840 = 120 x 257
        (encoded(Image.fromarray(np.full((2, 2), 30840, np.uint16)), "PNG"), (120, 120, 120)),
        (encoded(Image.fromarray(np.zeros((2, 2), np.uint16)), "PNG", transparency=0), (255, 255, 255)),
        (encoded(Image.new("LA", (2, 2), (0, 0)), "PNG"), (255, 255, 255)),
        (encoded(Image.new("LA", (2, 2), (40, 255)), "PNG"), (40, 40, 40)),
        (encoded(Image.new("RGB", (2, 2), (9, 9, 9)), "PNG", transparency=(9, 9, 9)), (255, 255, 255)),
        (encoded(Image.new("RGBA", (2, 2), (200, 0, 0, 255)).quantize(4), "PNG"), (200, 0, 0)),
        (encoded(Image.new("P", (2, 2), 0), "PNG", transparency=0), (255, 255, 255)),
        (encoded(Image.new("P", (2, 2), 0), "GIF", transparency=0), (255, 255, 255)),
        (encoded(Image.new("1", (2, 2), 1), "PNG"), (255, 255, 255)),
        (encoded(Image.new("1", (2, 2), 0), "PNG"), (0, 0, 0)),
        (encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=100), (255, 0, 0)),
    ],
    ids=[
        "16-bit",
        "16-bit clear",
        "LA clear",
        "LA",
        "RGB clear",
        "palette",
        "P clear",
        "GIF clear",
        "1",
        "1 black",
        "CMYK",
    ],
)
def test_every_kind_of_pixel_becomes_rgb(content, expected):
    pixels = np.asarray(read_image(content)).astype(int)
    assert pixels.shape[-1] == 3
    assert abs(pixels - expected).max() <= 3  # JPEG rounds


def test_frames_shown_at_one_time_are_taken_and_frames_without_a_span_have_a_rate():
    frames = np.zeros((3, 4, 4, 3), np.uint8)
    same = read_clip(Clip(frames, np.ones(3)), sampling=Sampling(max_frames=8, rate_hz=1.0))
    assert len(same.frames) == 1
    assert same.fps == 1.0
    assert len(read_clip(Clip(frames, np.array([0.0, 1.0, 1.0])), sampling=EVERY).frames) == 3
    assert len(read_clip(frames[:1], "HWC", sampling=EVERY).frames) == 1


def test_every_way_in_gives_the_same_clip():
    frames = np.random.default_rng(0).integers(0, 256, (5, 12, 16, 3), dtype=np.uint8)
    fchw = frames.transpose(0, 3, 1, 2)
    ways = [
        fchw,
        torch.from_numpy(fchw / 255),
        [Image.fromarray(frame) for frame in frames],
        [frame.transpose(2, 0, 1) / 255 for frame in frames],
        [torch.from_numpy(frame.transpose(2, 0, 1) / 255).float() for frame in frames],
        Clip(frames, np.arange(5) / 4),
        Clip(frames / 255, np.arange(5) / 4),
    ]
    for way in ways:
        clip = read_clip(way, sampling=EVERY, fps=4.0)
        np.testing.assert_array_equal(clip.frames, frames)
        np.testing.assert_allclose(clip.times_s, np.arange(5) / 4)
        assert clip.fps == pytest.approx(4.0)
    np.testing.assert_array_equal(read_clip(frames, "HWC", sampling=EVERY).frames, frames)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.avi"])
def test_a_clip_file_gives_the_frames_asked_for(tmp_path, name):
    levels = write_clip(tmp_path / name, 50, fps=10)
    spread = read_clip(tmp_path / name, sampling=Sampling(max_frames=5))
    assert np.round(spread.frames.mean(axis=(1, 2, 3))) == pytest.approx(levels[[0, 12, 24, 37, 49]], abs=2)
    assert spread.times_s == pytest.approx([0, 1.2, 2.4, 3.7, 4.9], abs=0.02)
    seconds = read_clip(tmp_path / name, sampling=Sampling(max_frames=24, rate_hz=1.0))
    assert np.round(seconds.frames.mean(axis=(1, 2, 3))) == pytest.approx(levels[[0, 10, 20, 30, 40, 49]], abs=2)
    first = read_clip((tmp_path / name).read_bytes(), sampling=Sampling(max_frames=3, rate_hz=1.0))
    np.testing.assert_array_equal(first.frames, seconds.frames[:3])


@given(st.integers(1, 200), st.floats(0.5, 60), st.integers(1, 30), st.one_of(st.none(), st.floats(0.25, 4)))
def test_sampling_is_in_order_and_within_bounds(num_frames, fps, max_frames, rate_hz):
    times_s = 3.0 + np.arange(num_frames) / fps
    taken = sample_times(times_s, Sampling(max_frames, rate_hz))
    assert 1 <= len(taken) <= max_frames
    assert (np.diff(taken) >= 0).all()
    assert taken[0] == 0
    assert taken[-1] < num_frames
    if rate_hz:
        ticks = times_s[0] + np.arange(len(taken)) / rate_hz
        nearest = np.abs(times_s[:, None] - ticks).min(axis=0)
        np.testing.assert_allclose(np.abs(times_s[taken] - ticks), nearest, atol=1e-9)


@pytest.mark.parametrize(
    ("source", "kind", "message"),
    [
        (np.zeros((3, 0, 5), np.uint8), "image", "no pixel"),
        (np.zeros((5, 4, 3), np.uint8), "image", r"expected \(C, H, W\).*layout='HWC'"),
        (np.zeros((2, 3, 5, 4), np.uint8), "image", "shape"),
        (np.full((3, 4, 5), np.nan), "image", "NaN"),
        (np.full((3, 4, 5), np.inf), "image", "infinity"),
        (np.full((3, 4, 5), -0.5), "image", r"\[-0.5, -0.5\]; floats must lie in \[0, 1\]"),
        (np.full((3, 4, 5), 200.0), "image", r"floats must lie in \[0, 1\]"),
        (np.zeros((3, 4, 5), np.int64), "image", "type int64"),
        (Image.new("RGB", (0, 4)), "image", "zero pixels"),
        ([], "video", "no frame"),
        (np.zeros((0, 3, 4, 4), np.uint8), "video", "no frame"),
        (np.zeros((2, 3, 0, 4), np.uint8), "video", "no pixel"),
        (np.zeros((3, 4, 4), np.uint8), "video", r"expected \(F, C, H, W\)"),
        ([Image.new("RGB", (4, 4)), Image.new("RGB", (5, 4))], "video", "different sizes"),
        (b"no picture", "image", "cannot be decoded"),
        (b"no clip", "video", "cannot be decoded"),
        (b"", "image", r"picture given as builtins.bytes is empty \(0 bytes\); replace it"),
        (b"", "video", r"clip given as builtins.bytes is empty \(0 bytes\); replace it"),
        (Clip(np.zeros((0, 4, 4, 3), np.uint8), np.zeros(0)), "video", "no frame"),
        (
            Clip(np.zeros((2, 3, 4, 4), np.uint8), np.zeros(2)),
            "video",
            r"shape \(2, 3, 4, 4\); expected \(F, H, W, C\)",
        ),
        (Clip(np.zeros((2, 4, 4, 3), np.int32), np.arange(2.0)), "video", "type int32"),
        (Clip(np.zeros((2, 4, 4, 3), np.uint8), np.arange(3.0)), "video", r"times_s of shape \(3,\)"),
        (Clip(np.zeros((2, 4, 4, 3), np.uint8), np.array(["0", "1"])), "video", "type <U1"),
        (Clip(np.zeros((2, 4, 4, 3), np.uint8), np.array([0.0, np.nan])), "video", r"times_s\[1\]=nan; give seconds"),
        (Clip(np.zeros((2, 4, 4, 3), np.uint8), np.array([0.5, 0.25])), "video", r"times_s\[1\]=0.25 after 0.5"),
        ([np.zeros((3, 4, 4)), np.zeros((3, 5, 4))], "video", "different sizes .4x4, then 4x5."),
        ([np.zeros((3, 4, 4)), np.full((3, 4, 4), 2.0)], "video", "frame 1 of clip.*floats must lie in"),
        ({"bytes": None, "path": None}, "image", "neither bytes nor path"),
        ({"bytes": b"no picture", "path": "cat.png"}, "image", "picture 'cat.png' cannot be decoded"),
        (".", "video", "'.' is not a file"),
        (".", "image", "'.' cannot be decoded"),
        ("absent.png", "image", "'absent.png' does not exist"),
        ("absent.mp4", "video", "'absent.mp4' does not exist"),
    ],
)
def test_what_cannot_be_read_is_named(source, kind, message):
    with pytest.raises(MediaError, match=message):
        read_media(source, kind, sampling=EVERY)


def test_a_file_without_frames_is_named(tmp_path):
    import av

    write_clip(tmp_path / "whole.avi", 30, fps=10)
    whole = (tmp_path / "whole.avi").read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[:300])
    with pytest.raises(MediaError, match=r"cut\.avi"):
        read_clip(tmp_path / "cut.avi", sampling=EVERY)
    with av.open(str(tmp_path / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(MediaError, match=r"sound.wav' has no video stream"):
        read_clip(tmp_path / "sound.wav", sampling=EVERY)


def test_digests_tell_contents_apart(tmp_path):
    pixels = np.random.default_rng(0).random((3, 6, 6))
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "b").write_bytes(b"x")
    assert digest(tmp_path / "a") == digest(str(tmp_path / "b")) == digest(b"x")
    other = pixels.copy()
    other[0, 0, 0] += 0.01
    different = [pixels, other, pixels.astype(np.float32), pixels.transpose(0, 2, 1), pixels[None]]
    assert len({digest(each) for each in different}) == len(different)
    assert digest(pixels) == digest(torch.from_numpy(pixels))
    assert digest(pixels[None], fps=4.0) != digest(pixels[None], fps=8.0)
    assert digest(pixels, layout="HWC") != digest(pixels)
    with pytest.raises(MediaError, match="absent"):
        digest(tmp_path / "absent")


def test_a_lazy_picture_that_breaks_off_is_a_media_error_for_the_cache_too(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:3000])
    with Image.open(tmp_path / "cut.png") as lazy, pytest.raises(MediaError, match="cannot be decoded"):
        digest(lazy)


def test_clips_broken_anywhere_are_media_errors(tmp_path):
    """PyAV has errors that derive from neither OSError nor ValueError."""
    write_clip(tmp_path / "whole.mkv", 20, fps=10)
    whole = (tmp_path / "whole.mkv").read_bytes()
    unknown = whole.replace(b"V_MPEG4/ISO/ASP", b"V_UNKNOWN/CODEC")
    assert unknown != whole
    with pytest.raises(MediaError):
        read_clip(unknown, sampling=EVERY)


def clip_bytes(tmp_path, name: str) -> bytes:
    write_clip(tmp_path / name, 12, fps=10)
    return (tmp_path / name).read_bytes()


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "AVIF", "GIF", "mp4", "mkv"])
@pytest.mark.filterwarnings("ignore")  # Pillow warns of what it mends
def test_broken_bytes_are_read_or_named(tmp_path, format):
    """About 1 s for mp4: decoders raise what they please on bytes that were cut or changed (AVIF: RuntimeError)."""
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8))
    kind = "video" if format in ("mp4", "mkv") else "image"
    whole = clip_bytes(tmp_path, f"whole.{format}") if kind == "video" else encoded(noise, format)
    read_media(whole, kind, sampling=EVERY)
    reasons = []
    for trial in range(60):
        broken = bytearray(whole[: int(rng.integers(len(whole)))] if trial % 3 == 0 else whole)
        for place in rng.integers(0, max(1, len(broken)), 8 if trial % 3 else 0):
            broken[place if trial % 2 else place % 400] = int(rng.integers(256))
        try:
            read_media(bytes(broken), kind, sampling=EVERY)
        except MediaError as error:
            reasons.append(str(error))
    assert len(reasons) > 10
    assert all("given as builtins.bytes" in reason and len(reason.splitlines()) == 1 for reason in reasons)


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), float("inf")])
def test_frames_a_second_are_above_zero(fps):
    with pytest.raises(MediaError, match="fps="):
        read_clip(np.zeros((2, 3, 4, 4), np.uint8), sampling=EVERY, fps=fps)
