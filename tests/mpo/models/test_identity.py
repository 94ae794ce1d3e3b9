import shutil

from mpo.models.identity import BLOCK, model_identity
from mpo.recipe import Model


def test_a_model_is_known_by_its_content(model_folder, tmp_path):
    shutil.copytree(model_folder, tmp_path / "a")
    known = model_identity(Model(path=str(model_folder)))
    assert model_identity(Model(path=str(tmp_path / "a"))) == known  # wherever it lies
    file = tmp_path / "a" / "unet" / "diffusion_pytorch_model.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[:-4] + b"1234")
    assert model_identity(Model(path=str(tmp_path / "a"))) != known
    file.write_bytes(data)
    for unread in (".DS_Store", "README.md", "LICENSE", "LICENSE.txt", "preview.PNG", "images/sample.webp"):
        (tmp_path / "a" / unread).parent.mkdir(exist_ok=True)
        (tmp_path / "a" / unread).write_bytes(b"x")
    assert model_identity(Model(path=str(tmp_path / "a"))) == known


def test_large_files_are_read_in_blocks_from_first_to_last_byte(tmp_path):
    file = tmp_path / "large.safetensors"
    file.write_bytes(bytes(40 * BLOCK))
    known = model_identity(Model(path=str(file), config=str(tmp_path)))
    for place in (0, 40 * BLOCK - 1):
        data = bytearray(40 * BLOCK)
        data[place] = 1
        file.write_bytes(data)
        assert model_identity(Model(path=str(file), config=str(tmp_path))) != known


def test_a_model_of_the_hub_that_is_not_here_is_unknown():
    assert model_identity(Model(path="nobody/nothing")) == "unknown"
