import numpy as np
from PIL import Image

from mpo.run_folder.media import can_be_decoded, is_made_from, write_png

PICTURE = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))


def test_a_picture_says_what_it_was_made_from(tmp_path):
    file, origin = tmp_path / "a.png", {"prompt": "a café 東京 \n", "seed": 2**62, "size": None}
    write_png(file, PICTURE, origin)
    assert is_made_from(file, origin)
    assert not is_made_from(file, origin | {"seed": 1})
    assert not is_made_from(tmp_path / "absent.png", origin)
    np.testing.assert_array_equal(np.asarray(Image.open(file)), np.asarray(PICTURE))
    assert can_be_decoded(file)
    file.write_bytes(file.read_bytes()[:40])
    assert not is_made_from(file, origin)
    assert not can_be_decoded(file)


def test_equal_pictures_are_equal_bytes(tmp_path):
    for name in "ab":
        write_png(tmp_path / f"{name}.png", PICTURE, {"b": 1, "a": 2} if name == "a" else {"a": 2, "b": 1})
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    write_png(tmp_path / "c.png", PICTURE)
    assert not is_made_from(tmp_path / "c.png", {})
