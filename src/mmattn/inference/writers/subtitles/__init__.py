"""What is shown when: cues of speech, sounds and captions, and tracks of them."""
