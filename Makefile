# Everything a person types. `make` alone lists it.
PROFILE ?= demo
# the first Python that is new enough; the pins were run on 3.11
PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13 python3.14; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
TEX ?= auto
TORCH ?= registry
export OMP_WAIT_POLICY ?= PASSIVE
# nothing here downloads a model: without this every missing file costs half a minute of retries
export HF_HUB_OFFLINE ?= 1

# the conda environment of environment.yml where it is active, else a .venv of our own
ifeq ($(CONDA_DEFAULT_ENV),sae-utils)
BIN := $(CONDA_PREFIX)/bin
else
BIN := .venv/bin
READY := .venv/.ready
endif
BUILD := build/$(PROFILE)
NOTEBOOKS := $(patsubst notebooks/%.py,%,$(wildcard notebooks/*.py))
EXECUTED := $(NOTEBOOKS:%=$(BUILD)/%.ipynb)
CODE := $(wildcard sae_utils/*.py sae_utils/*/*.py sae_utils/*/*/*.py)
DATA := params/lexicon.yaml params/concepts.yaml params/published_layer_scores.csv
PROFILES := $(wildcard params/*.yaml params/*/*.yaml)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: FORCE help compare paper page smoke test lab notebooks format plan check-results clean tex

help: ## list the targets
	@echo "make paper    executes every notebook and typesets the paper ($(PROFILE) profile): build/$(PROFILE)/paper.pdf"
	@echo "make page     the page of a profile, one file to look at and to send: build/$(PROFILE)/report.html"
	@echo "make compare  two SAEs of yours, A=... and B=..., in one page: build/NAME/report.html (README; sae-compare --help)"
	@echo "make test     lint, types, notebook hygiene, all tests"
	@echo "make smoke    the paper at the smallest size that runs every line: build/smoke/paper.pdf"
	@echo "make lab      opens the notebooks in JupyterLab"
	@echo "make notebooks      brings each .py and its .ipynb in step (the one that was edited is taken)"
	@echo "make format         formats code and notebooks"
	@echo "make plan     what a profile would fetch and use, before it does (PROFILE=name)"
	@echo "make check-results  compares numbers and verdicts with the committed ones (AGAINST=commit or folder)"
	@echo "make clean    removes what was built (build/), the environment (.venv) stays"
	@echo
	@echo "options: PROFILE=name   a file in params/: $(patsubst params/%.yaml,%,$(filter-out $(DATA),$(wildcard params/*.yaml)))"
	@echo "         TEX=skip       figures, tables and numbers without the PDF"
	@echo "         ANONYMOUS=1    a PDF without authors and links, for review"
	@echo "         TORCH=cpu      torch's CPU build when .venv is made (on Linux the registry's is the CUDA one)"
	@echo "         KEEP=py|ipynb  the file that \`make notebooks\` takes where both were edited"
	@echo "         PIN=off        without the pinned CPU code path: other last digits, as on another machine"
	@echo "         -j2            notebooks side by side"
	@echo "         PROCESSES=4    models, SAEs and other cells of a notebook side by side, in so many processes (default:"
	@echo "                        one a core, divided by the notebooks of -j; 1 needs the least memory)"

# --- environment: made once, remade when its pins change; one that is not ours is used as it is
ifdef READY
$(READY): constraints.txt pyproject.toml
	@$(if $(PYTHON),,echo "error: no Python >= 3.11 found; install one, or name it: make PYTHON=/path/to/python3.11"; exit 1)
	@$(PYTHON) -m sae_utils environment --torch $(TORCH)
endif

# --- the paper
paper: $(EXECUTED) tex
	@TEX=$(TEX) $(BIN)/python -m sae_utils typeset $(PROFILE) $(if $(ANONYMOUS),--anonymous)
	@$(BIN)/python -m sae_utils page $(PROFILE)

# from the results that are there; it names the notebooks that have none
page: $(BUILD)/params/.checked
	@$(BIN)/python -m sae_utils page $(PROFILE)

# two notebooks at a time, unless -j says how many, and each in one process: its cells are short
smoke:
	@$(MAKE) --no-print-directory $(if $(findstring jobserver,$(MAKEFLAGS)),,-j2) paper PROFILE=smoke PROCESSES=$(or $(PROCESSES),1)

# a file that is put back has its old time: what it holds counts, as a checksum that is rewritten only if it changed
$(BUILD)/sums/%: FORCE
	@{ mkdir -p $(@D) \
	  && cat $(if $(filter profile,$*),$(PROFILES) notebooks/*.py,notebooks/$*.py) $(CODE) $(DATA) | cksum >$@.$$$$ \
	  && if cmp -s $@.$$$$ $@; then rm $@.$$$$; else mv $@.$$$$ $@; fi; } 2>/dev/null \
	  || { rm -f $@.$$$$; $(BIN)/python -m sae_utils profile $(PROFILE); exit 1; } # which says what cannot be written

# each notebook's parameters are rewritten only if they changed, so that only the notebooks concerned run again
$(BUILD)/params/.checked: $(READY) $(BUILD)/sums/profile
	@$(BIN)/python -m sae_utils profile $(PROFILE)
	@touch $@

$(BUILD)/params/%.yaml: $(BUILD)/params/.checked ;

$(EXECUTED): $(BUILD)/%.ipynb: $(BUILD)/params/%.yaml $(BUILD)/sums/%
	@echo "== $* ($(PROFILE))"
	@$(BIN)/python -m sae_utils execute $(PROFILE) $*

# announced, and only where it is ours to do: Debian or Ubuntu, as root
tex:
	@if [ "$(TEX)" != skip ] && ! command -v latexmk >/dev/null && ! command -v tectonic >/dev/null \
	    && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "== installing TeX for the PDF (latexmk, texlive-latex-recommended, texlive-fonts-recommended; 170 MB; TEX=skip opts out)"; \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends \
	    latexmk texlive-latex-recommended texlive-fonts-recommended >/dev/null; } || echo "warning: TeX could not be installed"; \
	fi

# --- two SAEs. Only what stands on the command line is an option: an environment may have a NAME or a TEXT
option = $(if $(filter command,$(origin $1)),$2 '$($1)')
COMPARED = $(call option,A) $(call option,B) $(call option,NAME,--name) $(call option,TEXT,--text) \
  $(call option,TOKENS,--tokens) $(call option,DEVICE,--device) $(call option,MODEL_A,--model-a) \
  $(call option,MODEL_B,--model-b) $(call option,HOOK_A,--hook-a) $(call option,HOOK_B,--hook-b) \
  $(foreach flag,CONTROLS:--controls OVERWRITE:--overwrite PLAN:--plan,$(call given,$(subst :, ,$(flag))))
given = $(if $(filter command,$(origin $(word 1,$1))),$(word 2,$1))

# what it fetches is announced; offline where the environment says so
compare: export HF_HUB_OFFLINE := $(if $(filter file,$(origin HF_HUB_OFFLINE)),0,$(HF_HUB_OFFLINE))
compare: $(READY)
	@$(BIN)/python -m sae_utils compare $(COMPARED)

# --- the rest
test: $(READY)
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m sae_utils run $(BIN)/pytest -n 2

lab: $(READY) notebooks
	@$(BIN)/python -m sae_utils run $(BIN)/jupyter lab notebooks

notebooks: $(READY)
	@$(BIN)/python -m sae_utils notebooks $(if $(KEEP),--keep $(KEEP))

format: $(READY) notebooks
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .
	@$(MAKE) --no-print-directory notebooks

plan: $(READY)
	@HF_HUB_OFFLINE=0 $(BIN)/python -m sae_utils plan $(PROFILE)

check-results: $(READY)
	@$(BIN)/python -m sae_utils results $(PROFILE) $(if $(AGAINST),--against $(AGAINST))

clean:
	rm -rf build
