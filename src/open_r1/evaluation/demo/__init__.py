"""The page of `eval/demo.py`: what it does, how it looks, how it is served. Needs gradio (`setup.sh --demo`)."""
