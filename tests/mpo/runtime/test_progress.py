from mpo.runtime.progress import set_quiet, track


def test_quiet_work_says_at_its_end_how_much_was_done(capfd):
    set_quiet(True)
    with track("encode", total=5, done=2) as advance:
        advance(2)
        assert capfd.readouterr().err == ""  # half a minute has not passed
        advance(1, note="loss 0.7")
    line = capfd.readouterr().err
    assert line.startswith("encode: 5/5, ")
    assert line.endswith(" 0 s left loss 0.7\n")


def test_a_bar_is_drawn_where_it_is_not_quiet(capfd):
    set_quiet(False)
    with track("encode", total=3) as advance:
        advance(3)
    assert "3/3" in capfd.readouterr().err
