"""The main job: prepare a model, run and judge the stages, hand over."""
