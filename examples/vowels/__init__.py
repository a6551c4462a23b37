"""Who speaks? Japanese vowels, told apart while the utterance goes on."""
