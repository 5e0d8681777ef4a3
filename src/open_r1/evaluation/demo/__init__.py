"""The page of `eval/demo.py`: actions, layout, server, host check. Needs gradio (`setup.sh --demo`)."""
