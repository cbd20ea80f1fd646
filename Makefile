# HeartLens. `make demo` and `make test` set up everything they need on a fresh machine.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
REQUIREMENTS := pyproject.toml $(wildcard HeartLensCAC/Resources/requirements*.txt)

# The networks' tests need PyTorch (0.8 GB). CI runs them; elsewhere: make test TRAINING=true
TRAINING ?= $(CI)
ifeq ($(TRAINING),true)
TEST_SETUP := $(VENV)/installed-training .venv-nnunet/installed
else
TEST_SETUP := $(VENV)/installed-test
endif

# The tests of the scene and of the module need the classes of Slicer (0.9 GB, twice). CI runs them; elsewhere:
# make test SLICER_CORE=true
SLICER_CORE ?= $(CI)
ifeq ($(SLICER_CORE),true)
TEST_SETUP += $(VENV)/installed-slicer .venv-511/installed
endif

.PHONY: help demo review test pytest test-fast check mutants kill fuzz sbom docs bench bench-cohort road rules evaluate-embedded judge pictures pacs slurm clean

help:
	@echo "make demo    install into $(VENV), make a phantom, score it, show the result"
	@echo "make review  the same phantom in the browser: look, correct, sign"
	@echo "make test    install what the tests need, check style and types, run all tests"
	@echo "make test-fast  the tests that take two minutes or little more, for while you work"
	@echo "make mutants  break the product in named ways and see that tests notice; goes on where it stopped (ONLY=part of a name)"
	@echo "make kill    kill the program at 500 random moments and let everything on the disk fail once; half an hour; writes docs/kills.md"
	@echo "make fuzz    damage a small chest and its labels in 3000 ways: the right score, a refusal by name, or a warning; a quarter of an hour"
	@echo "make sbom    list what HeartLens runs on: dist/heartlens.cdx.json (CycloneDX) and docs/licenses.md"
	@echo "make docs    build the pages of docs/ and of the library into docs/api; open docs/api/index.html"
	@echo "make bench   time the parts against their budgets; prints a table, writes bench.json; TRAINING=true: training too"
	@echo "make bench-cohort  the same for cohorts alone, with a plot: bench-cohort.json, bench-cohort.svg"
	@echo "make road    make phantoms, train small networks on them, evaluate the bundle; into road/ (SIZE=smoke: a minute)"
	@echo "make rules   score 50 phantoms by the rules and print the errors that docs/method.md quotes"
	@echo "make evaluate-embedded   evaluate the bundle on 200 phantoms (an hour); prints the tables of docs/models-phantoms.md"
	@echo "make judge DATA=../shared/data   judge real hearts and shifted phantoms (an hour); prints the first tables of docs/models.md"
	@echo "make pacs    open SEG, SR, key page and PDF in OHIF over an Orthanc, in a browser without a screen; minutes"
	@echo "make slurm   score a cohort of thirty small scans on a SLURM of one node, by an array and by Dask; minutes"
	@echo "make pictures  draw the Slicer panel in each state, and the page in the browser, again, into docs/pictures"
	@echo "make slicer  use this checkout in a local 3D Slicer (SLICER=/path/to/Slicer) and run the tests that need one"
	@echo "make clean   remove $(VENV), caches and the demo"

$(VENV)/installed: $(REQUIREMENTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo "HeartLens needs Python 3.10 or later; say which with: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

$(VENV)/installed-viewer: $(VENV)/installed HeartLensCAC/Resources/requirements-viewer.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[viewer]'
	@touch $@

# torch first and at this version: a CPU build where the index has one. timm names torchvision, which is not needed.
$(VENV)/installed-networks: $(VENV)/installed training/requirements.txt training/requirements-no-deps.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'torch==2.13.0'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r training/requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r training/requirements-no-deps.txt
	@touch $@

$(VENV)/installed-training: $(VENV)/installed-test $(VENV)/installed-networks training/requirements-test.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r training/requirements-test.txt
	@touch $@

# nnU-Net checks our label exports, and is trained as a rival (training/rival.py), in an environment of its own, which
# borrows torch and numpy from $(VENV).
.venv-nnunet/installed: | $(VENV)/installed-networks
	$(PYTHON) -m venv .venv-nnunet
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	  > "$$(.venv-nnunet/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/heartlens.pth"
	.venv-nnunet/bin/python -m pip install --quiet --disable-pip-version-check blosc2 pandas tifffile \
	  scikit-image scikit-learn tqdm seaborn graphviz requests connected-components-3d
	.venv-nnunet/bin/python -m pip install --quiet --disable-pip-version-check --no-deps nnunetv2 acvl-utils batchgenerators \
	  batchgeneratorsv2 dynamic-network-architectures fft-conv-pytorch
	@touch $@

$(VENV)/installed-docs: $(VENV)/installed docs/requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r docs/requirements.txt
	@touch $@

# Slicer's classes without the application: MRML, segmentations, Segment Editor.
$(VENV)/installed-slicer: $(VENV)/installed-test HeartLensCAC/Resources/requirements-slicer.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r HeartLensCAC/Resources/requirements-slicer.txt
	@touch $@

# The older Slicer, in an environment of its own that borrows the rest from $(VENV). It has wheels for Python 3.11 alone.
.venv-511/installed: | $(VENV)/installed-test
	$(PYTHON) -m venv .venv-511
	.venv-511/bin/python -m pip install --quiet --disable-pip-version-check --no-deps vtk==9.6.0 slicer-core==5.11.0.6
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	  > "$$(.venv-511/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/heartlens.pth"
	@touch $@

# CI makes several targets at once (.ci/run); pip may change an environment only where nobody else does or reads it.
ifeq ($(CI),true)
$(VENV)/installed-networks: | $(VENV)/installed-test
$(VENV)/installed-slicer: | $(VENV)/installed-training
.venv-nnunet/installed: | $(VENV)/installed-slicer
$(VENV)/installed-docs: | $(TEST_SETUP)
check: | $(TEST_SETUP) $(VENV)/installed-docs
pytest: | $(VENV)/installed-docs .ohif/package/dist/index.html
endif

demo: $(VENV)/installed
	$(BIN)/heartlens demo --out demo

# What a reader has edited stays; make clean removes it.
review: $(VENV)/installed-viewer
	@test -e demo/result/case/case.json || $(BIN)/heartlens demo --out demo
	$(BIN)/heartlens review demo/result

test: check pytest

pytest: $(TEST_SETUP)
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal
ifeq ($(SLICER_CORE),true)
	.venv-511/bin/python -m pytest --numprocesses auto --dist worksteal -p no:cacheprovider HeartLensCAC/Testing/scene HeartLensCAC/Testing/desktop/test_journey.py
endif

# Every idea once, in two minutes on two cores: what trains, mutates, fills disks, starts workers, or walks a journey is left out.
test-fast: $(TEST_SETUP)
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal -m 'not slow'

check: $(VENV)/installed-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# An hour at most on two cores, outside CI; docs/mutants.md is its result.
mutants: $(VENV)/installed-training $(VENV)/installed-slicer
	$(BIN)/python scripts/mutants.py $(if $(ONLY),--only "$(ONLY)")
	$(BIN)/python scripts/mutants.py --table

# Half an hour on two cores, outside CI; docs/kills.md is its result.
kill: $(VENV)/installed-test
	$(BIN)/python scripts/kill.py
	HEARTLENS_KILLS=200 HEARTLENS_KILLS_PAGE=$(CURDIR)/docs/kills.md $(BIN)/python -m pytest HeartLensCAC/Testing/viewer/test_server.py -k killed
	HEARTLENS_ALL_FAILURES=1 $(BIN)/python -m pytest -s HeartLensCAC/Testing/test_failures.py

# Outside CI, which runs a sample of it.
fuzz: $(VENV)/installed-test
	$(BIN)/python scripts/fuzz.py $(if $(SEED),--seed $(SEED))

# What a user installs and nothing else, looked at from another environment.
sbom:
	rm -rf .venv-bare && $(PYTHON) -m venv .venv-bare && $(PYTHON) -m venv .venv-sbom && mkdir -p dist
	.venv-bare/bin/python -m pip install --quiet --disable-pip-version-check -r HeartLensCAC/Resources/requirements.txt
	.venv-sbom/bin/python -m pip install --quiet --disable-pip-version-check 'cyclonedx-bom==7.5.0' 'pip-licenses==5.5.5'
	.venv-sbom/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
	  --output-file dist/heartlens.cdx.json .venv-bare/bin/python
	{ printf '# Licenses\n\nWhat HeartLens runs on, as installed with it. Written by `make sbom`.\n\n'; \
	  .venv-sbom/bin/pip-licenses --python .venv-bare/bin/python --from=mixed --format=markdown --order=name \
	    --ignore-packages pip setuptools; } > docs/licenses.md

# Without a warning. PyTorch, ONNX Runtime and Slicer's classes are stood in for, so that none need be installed.
docs: $(VENV)/installed-docs
	rm -rf docs/api docs/reference
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going docs docs/api

bench: $(TEST_SETUP)
	$(BIN)/python HeartLensCAC/Testing/benchmarks/bench.py --json bench.json
	@if $(BIN)/python -c 'import torch' 2>/dev/null; then $(BIN)/python -m training.bench --json bench-training.json; \
	 else echo; echo "Training was left out: it needs PyTorch (0.8 GB). To time it too: make bench TRAINING=true"; fi

# The figures of cohorts alone, and a plot of how they grow; a quarter of an hour on a quiet machine of two cores.
bench-cohort: $(VENV)/installed-test
	$(BIN)/python HeartLensCAC/Testing/benchmarks/cohort_runs.py

road: $(VENV)/installed-networks
	$(BIN)/python -m training.end_to_end --out road $(if $(SIZE),--size $(SIZE))

rules: $(VENV)/installed-test
	$(BIN)/python HeartLensCAC/Testing/benchmarks/rules_on_phantoms.py

# The figures of docs/models-phantoms.md. Phantoms are made once and kept; nothing may be tuned on them.
evaluate-embedded: $(VENV)/installed-training
	$(BIN)/python -m training.evaluate_phantoms --cache evaluation/phantoms --out evaluation --docs docs/models-phantoms.md

# Real scans that no training has seen; nothing may be tuned on them. They are not distributed: sets that are missing are said.
DATA ?= ../shared/data
judge: $(VENV)/installed-training
	$(BIN)/python -m training.judge --data $(DATA) --out judged --docs docs/models.md $(if $(SECOND),--second $(SECOND)) $(if $(TEST),--test $(TEST))

# Minutes; CI runs it among the tests. Needs chromium, orthanc, orthanc-dicomweb, openssl and iproute2 of the system, and
# npm to fetch OHIF.
pacs: $(VENV)/installed-test .ohif/package/dist/index.html
	$(BIN)/python -m pytest HeartLensCAC/Testing/pacs

# Minutes, outside CI; needs slurmctld, slurmd, slurm-client, munge and iproute2 of the system.
slurm: $(VENV)/installed-test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'dask-jobqueue>=0.9'
	HEARTLENS_SLURM=1 $(BIN)/python -m pytest HeartLensCAC/Testing/cohort/test_slurm.py

# 50 MB, known by their checksum; it has its name only when all of it is there.
.ohif/package/dist/index.html:
	rm -rf .ohif && mkdir -p .ohif/part
	cd .ohif/part && npm pack --silent --fetch-retries 5 @ohif/app@3.13.2
	cd .ohif/part && echo "b189d3963bfc58e9394a9db8c7be75d07beb029ec211dbb126d47b62969dd3f1  ohif-app-3.13.2.tgz" | sha256sum --check --quiet
	cd .ohif/part && tar xzf ohif-app-3.13.2.tgz --touch --exclude=package/dist/ort
	mv .ohif/part/package .ohif/package && rm -r .ohif/part

pictures: $(VENV)/installed-slicer
	HEARTLENS_PICTURES=$(CURDIR)/docs/pictures $(BIN)/python -m pytest HeartLensCAC/Testing/desktop/test_pictures.py HeartLensCAC/Testing/viewer/test_pictures.py

slicer:
	$(PYTHON) scripts/in_slicer.py $(if $(SLICER),--slicer "$(SLICER)")

clean:
	rm -rf $(VENV) .venv-nnunet .venv-511 .venv-bare .venv-sbom .ohif demo road build dist docs/api docs/reference bench.json bench-training.json bench-cohort.json bench-cohort.svg mutants.jsonl .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
