def test_the_card_says_how_it_was_made_and_what_it_is_not(finished):
    card = (finished / "lora" / "README.md").read_text()
    assert card.startswith("---\n")
    for words in ("Diffusion-DPO", "win rate", "No person has rated it", "num_candidates: 4"):
        assert words in card
