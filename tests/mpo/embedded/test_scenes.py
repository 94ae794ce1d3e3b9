import numpy as np

from mpo.embedded.scenes import Defects, caption, paint, sample_defects, sample_scene


def test_scenes_are_reproducible_and_of_mixed_quality():
    def scenes():
        rng = np.random.default_rng(7)
        drawn = []
        for _ in range(60):
            scene, defects = sample_scene(rng), sample_defects(rng)
            drawn.append((caption(scene), defects, np.asarray(paint(scene, defects, rng))))
        return drawn

    for (a, da, pa), (b, db, pb) in zip(scenes(), scenes(), strict=True):
        assert (a, da) == (b, db)
        np.testing.assert_array_equal(pa, pb)
    without = sum(defects.is_none for _, defects, _ in scenes())
    assert 12 <= without <= 36
    assert Defects().is_none
