# Needs Python 3.11 or newer (with venv) and make; everything else goes into $(VENV).

MODEL   ?= m2
TARGET  ?= coreml
WEIGHTS ?= seeded
OUT     ?=
VENV    ?= .venv
# The first of these that is at least 3.11 makes the environment.
PYTHON  ?= python3.11 python3

# Handed to the environment's own tools, so that none of them depends on what is activated.
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -qq --no-input --disable-pip-version-check -c constraints.txt

# The demo installs the core and what TARGET needs, unless the development environment is there already.
comma  := ,
extras := $(sort $(filter coreai coreml openvino tensorrt all,$(subst $(comma), ,$(TARGET))))
ifneq ($(wildcard $(VENV)/.installed-dev),)
demo_environment := $(VENV)/.installed-dev
else
demo_environment := $(VENV)/.installed-$(if $(extras),$(subst $() ,-,$(extras)),core)
endif

.DEFAULT_GOAL := help
.PHONY: help demo test check browser format rehearse clean
.DELETE_ON_ERROR:

help: ## list these commands
	@echo 'vit-export: EfficientViT M0-M5 to ONNX, OpenVINO, Core ML, Core AI and TensorRT, checked before it is timed'
	@echo
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-16s %s\n", $$1, $$2 }'
	@echo
	@echo 'make demo MODEL=m5 TARGET=onnx WEIGHTS=pretrained OUT=folder chooses what is made; defaults: $(MODEL), $(TARGET), $(WEIGHTS)'
	@echo 'PYTHON=/path/to/python3.11 chooses the interpreter, VENV=folder where the environment goes'

demo: $(demo_environment) ## export and check one model (MODEL, TARGET, WEIGHTS, OUT)
	$(BIN)/vit-export $(MODEL) --target $(TARGET) --weights $(WEIGHTS) $(if $(OUT),--out $(OUT))

test: check browser ## check, then run every test
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: $(VENV)/.installed-dev ## lint, formatting, types, import rules and Dockerfiles
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	@if [ -x $(BIN)/hadolint ]; then echo '$(BIN)/hadolint docker/*.Dockerfile'; \
		$(BIN)/hadolint --failure-threshold warning docker/*.Dockerfile; \
	else echo 'docker/ was not linted: hadolint has no build for this machine'; fi

# Where it can be had; elsewhere the tests that look at the report say that they did not.
browser:
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
		&& { timeout 120 apt-get update -qq; timeout 300 apt-get install -qq -y --no-install-recommends chromium; } >/dev/null 2>&1; } \
	|| echo 'no Chromium, and it cannot be installed here: the report will not be looked at in a browser'

format: $(VENV)/.installed-dev ## format the code and apply the linter's safe fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# From PyPI, whose torch is the one that constraints.txt was written from.
rehearse: ## carry out the steps of docker/cpu.Dockerfile in a chroot (root, debootstrap; minutes)
	python3 docker/rehearse.py docker/cpu.Dockerfile --build-arg TORCH_INDEX=https://pypi.org/simple

clean: ## remove the environment, caches and build leftovers
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp per set of extras: make runs pip again only when what is to be installed has changed.
$(VENV)/.installed-%: extra = $(if $(filter core,$*),,[$(subst -,$(comma),$(patsubst dev,all-dev,$*))])
$(VENV)/.installed-%: $(VENV)/.tools pyproject.toml constraints.txt
	@echo "Installing vit-export$(extra) into $(VENV); the first time this takes minutes (torch alone is 5.5 GB on Linux)"
	@$(PIP) --no-build-isolation -e '.$(extra)'
	@touch $@

$(VENV)/.tools: constraints.txt
	@for candidate in $(PYTHON); do \
		"$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && found=$$candidate && break; \
	done; \
	if [ -z "$$found" ]; then \
		echo "None of these is Python 3.11 or newer: $(PYTHON). Name one: make PYTHON=/path/to/python3.11" >&2; exit 1; \
	fi; \
	if ! "$$found" -c 'import ensurepip, venv' 2>/dev/null; then \
		echo "$$found has no venv module. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; \
	fi; \
	echo "Making $(VENV) with $$("$$found" --version)"; \
	"$$found" -m venv $(VENV)
	@$(PIP) pip setuptools
	@touch $@
