"""Fuzzing of everything that reads what strangers send: study files, CSV files, responses, response bodies, stored files.

`python -m vlm_audio_pipeline_tests.fuzzing --seconds 60` runs every target. Inputs that failed once are in `found/`, and
`test_fuzzing.py` runs them again.
"""
