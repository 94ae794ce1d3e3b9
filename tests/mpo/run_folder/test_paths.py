from mpo.run_folder.paths import RunFolder


def test_every_table_of_the_layout_is_there(finished):
    run = RunFolder(finished)
    for path in (
        run.recipe,
        run.prompts,
        run.candidates_table,
        run.scores,
        run.pairs,
        run.lora_weights,
        run.evaluation_table,
        run.summary,
        run.report,
        run.log,
    ):
        assert path.is_file(), path
    assert sorted(p.name for p in run.checkpoints.iterdir()) == ["step-000002", "step-000004", "step-000006"]
