"""`python -m vlm_audio_pipeline` is the command `vlm-audio`."""

from vlm_audio_pipeline.cli.main import program

if __name__ == "__main__":
    program()
