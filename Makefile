# make demo        install into .venv, then extract, flow, classify and detect the sample videos into ./demo
# make test        install, then the ordinary tests
# make test-slow   install, then the full counts
# make check       install, then linters and types
# make bench-startup
# make bench-flow  TV-L1 against OpenCV's: speed, accuracy, scaling, `vpipe flow` as a whole (minutes)
# make bench-flow-gpu  TV-L1 on a CUDA device, the engine alone, against the floor of its memory
# make bench-own-labels  `vpipe train DATA` on five new labels, from clips and from segments (minutes)
# make bench-models  the published networks beside ResNet-50 in the same run (minutes)
# make bench-models-gpu  TSM-R50 and every fixture on a CUDA device (a minute and a half)
# make bench-motion  flow against flow-free networks, trained and measured (five minutes with a GPU and 16 cores, two hours of two cores)
# make bench-vocabulary  the packaged models on 2,002 synthetic and 2,002 real-textured clips (an hour of two cores;
#                        goes on where it was stopped; real textures from ../shared/clips)
# make bench-isolation  what decoding in a process of its own costs `vpipe flow` (three minutes)
# make bench-detection  mAP, cuts and speed of `vpipe detect` on 150 generated videos (half an hour of two cores)
# make bench-cache  size and speed of the flow cache against JPEG pairs (needs ../shared/clips)
#
# PYTHON=python3.12     another Python (3.11 to 3.14)
# TORCH_INDEX=URL       an extra package index for torch, for example one with CPU-only builds

PYTHON ?= python3
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed.stamp
INDEX := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

.PHONY: help install demo test test-slow check bench-startup bench-isolation bench-detection bench-cache bench-own-labels bench-models bench-models-gpu bench-motion bench-vocabulary bench-flow bench-flow-gpu clean
.DELETE_ON_ERROR:

help:
	@sed -n 's/^# \{0,1\}//p' Makefile

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))' || \
	  { echo "vpipe needs Python 3.11 to 3.14; name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check $(INDEX) -c constraints.txt -e '.[dev]'
	@touch $@

install: $(INSTALLED)

demo: $(INSTALLED)
	$(BIN)/vpipe extract sample_videos -o demo/frames --fps 2 --short-side 128 --overwrite
	@echo
	$(BIN)/vpipe flow sample_videos --cache-dir demo/cache --render demo/flow
	@echo
	$(BIN)/vpipe classify sample_videos --cache-dir demo/cache --top 3
	@echo
	$(BIN)/vpipe detect sample_videos/untrimmed --cache-dir demo/cache
	@echo
	@echo "Frames, flow and its pictures are in demo/. Now your own video: paste this with its name at the end."
	@echo
	@echo "$(BIN)/vpipe classify YOUR_VIDEO.mp4"

test: $(INSTALLED)
	$(BIN)/python -m pytest -m "not slow" --numprocesses auto --dist loadfile

test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -m "slow and not timed" --numprocesses auto --dist loadfile --capture=sys
	$(BIN)/python -m pytest -m timed

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/mypy

bench-startup: $(INSTALLED)
	$(BIN)/python -m benchmarks.startup

bench-flow-gpu: $(INSTALLED)
	$(BIN)/python -m benchmarks.flow_gpu

bench-own-labels: $(INSTALLED)
	$(BIN)/python -m benchmarks.own_labels --json benchmarks/results/own-labels.json

bench-isolation: $(INSTALLED)
	$(BIN)/python -m benchmarks.isolation --json benchmarks/results/isolation.json

bench-detection: $(INSTALLED)
	$(BIN)/python -m benchmarks.detection --json benchmarks/results/detection.json

bench-cache: $(INSTALLED)
	$(BIN)/python -m benchmarks.cache

bench-models: $(INSTALLED)
	$(BIN)/python -m benchmarks.models --json benchmarks/results/models.json

bench-models-gpu: $(INSTALLED)
	$(BIN)/python -m benchmarks.models_gpu --json benchmarks/results/models-gpu.json

bench-motion: $(INSTALLED)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[plots]'
	$(BIN)/vpipe bench -o benchmarks/results/motion-models.json --plot docs/motion-models.png

bench-vocabulary: $(INSTALLED)
	mkdir -p runs
	$(BIN)/python -m benchmarks.vocabulary_all --seed 7007 --rows runs/vocabulary-synthetic.jsonl
	$(BIN)/python -m benchmarks.vocabulary_all --seed 8008 --rows runs/vocabulary-real-textures.jsonl --background-from ../shared/clips
	$(BIN)/python -m benchmarks.conditions --json benchmarks/results/conditions.json

bench-flow: $(INSTALLED)
	$(BIN)/python -m benchmarks.flow

clean:
	rm -rf $(VENV) demo build .pytest_cache .mypy_cache .ruff_cache .hypothesis
