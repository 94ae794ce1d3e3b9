def test_the_file_can_be_read_by_whom_other_files_can(finished):
    files = [finished / "lora" / name for name in ("pytorch_lora_weights.safetensors", "README.md")]
    assert len({file.stat().st_mode for file in files}) == 1
