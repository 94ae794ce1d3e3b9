import numpy as np
from PIL import Image

from mpo.run_folder.media import is_made_from, write_media

PICTURE = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))


def test_a_picture_says_what_it_was_made_from(tmp_path):
    file, origin = tmp_path / "a.png", {"prompt": "a café 東京 \n", "seed": 2**62, "size": None}
    write_media(file, PICTURE, origin)
    assert is_made_from(file, origin)
    assert not is_made_from(file, origin | {"seed": 1})
    assert not is_made_from(tmp_path / "absent.png", origin)
    np.testing.assert_array_equal(np.asarray(Image.open(file)), np.asarray(PICTURE))
    file.write_bytes(file.read_bytes()[:40])
    assert not is_made_from(file, origin)


def test_equal_pictures_are_equal_bytes(tmp_path):
    for name in "ab":
        write_media(tmp_path / f"{name}.png", PICTURE, {"b": 1, "a": 2} if name == "a" else {"a": 2, "b": 1})
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    write_media(tmp_path / "c.png", PICTURE)
    assert not is_made_from(tmp_path / "c.png", {})
